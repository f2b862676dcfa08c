"""Write the command that makes the right cache, for messages that refuse a wrong one."""

from __future__ import annotations

import json
import shlex
from pathlib import Path
from typing import Any

from distill.config import CacheConfig, Config, DataConfig, EnsembleConfig, ImportConfig
from distill.store.key import key
from distill.system.runtime import default_store


def remake(config: CacheConfig, path: Path, classes: tuple[str, ...] = (), **changes: Any) -> str:
    """Return the command line that makes a cache with this config, after some of its fields are changed.

    Args:
        config: config of the cache that does not fit.
        path: folder of this cache. Without changes the command deletes it first, since it would be taken again.
        classes: class names of the data set, in its order.
        changes: wanted values of fields of the config.
    """
    wanted = config.replace(**changes)
    words = _import(wanted, config.teacher, classes) if isinstance(config.teacher, ImportConfig) else _cache(wanted)
    store = path.parent.parent
    if store.absolute() != default_store().absolute():
        words += ["--store", str(store)]
    remove = f"rm -r {shlex.quote(str(path))} && " if wanted == config else ""
    return remove + shlex.join(words)


def _cache(wanted: CacheConfig) -> list[str]:
    words = ["distill", "cache", "--teacher", *(key(teacher)[:12] for teacher in wanted.teachers)]
    if isinstance(wanted.teacher, EnsembleConfig) and wanted.teacher.mean != "probabilities":
        words += ["--mean", wanted.teacher.mean]
    usual = CacheConfig(transfer_set=wanted.teachers[0].data)
    return words + flags_of(wanted, usual, skip=("stage", "teacher"))


def _import(wanted: CacheConfig, source: ImportConfig, classes: tuple[str, ...]) -> list[str]:
    words = ["distill", "import", "FILES", *flags_of(wanted.transfer_set, DataConfig(), "data.")]
    words += flags_of(wanted, CacheConfig(), skip=("stage", "teacher", "transfer_set", "views"))
    words += ["--names", "NAMES"] if source.names else []
    return words + flags_of(source, ImportConfig(sha256=source.sha256, classes=classes), skip=("names",))


def flags_of(config: Config, default: Config, prefix: str = "", skip: tuple[str, ...] = ()) -> list[str]:
    """List the command-line flags of all fields in which `config` differs from the config `default`."""
    words: list[str] = []
    for (name, value), (_, usual) in zip(config, default, strict=True):
        if name in (*skip, "content") or value == usual:
            continue
        flag = f"{prefix}{name}".replace("_", "-")
        if isinstance(value, Config):
            words += flags_of(value, usual, f"{flag}.")
        elif isinstance(value, bool):
            head, _, tail = flag.rpartition(".")
            negated = f"{head}.no-{tail}" if head else f"no-{tail}"
            words.append(f"--{flag if value else negated}")
        elif isinstance(value, tuple):
            words += [f"--{flag}", *map(str, value)]
        else:
            words += [f"--{flag}", json.dumps(value) if isinstance(value, dict) else str(value)]
    return words
