"""Read the settings that `--config` names: a file of TOML or JSON, or an artifact to be made with changes."""

from __future__ import annotations

import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from distill.cli.flag_names import SHORT
from distill.cli.flags import Flag
from distill.cli.hints import MOST, close_fields
from distill.config import StageConfig, StudentConfig, SweepConfig, TeacherConfig, parse_stage
from distill.config.contents import NamesContent
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.files import expanded
from distill.system.reading import load_json, read_lines


@dataclass(frozen=True)
class ConfigFile:
    """Hold what a file says: values of flags, or the whole config of an artifact. It makes no plug-in trusted."""

    name: str = ""
    values: dict[Flag, Any] = field(default_factory=dict)
    config: StageConfig | None = None
    """Config of the artifact; None for a file of settings."""

    @classmethod
    def read(cls, name: str, kind: type[StageConfig], flags: Iterable[Flag], store: ArtifactStore) -> ConfigFile:
        """Read a file of settings, or the config of the artifact of this path or key.

        Raises:
            UserError: there is none, it cannot be read, or it is of another stage or has unknown fields.
        """
        path = expanded(Path(name))
        if not path.is_file():
            return cls._of_artifact(name, store.resolve(name).config, kind, flags)
        fields = _parse(path)
        if isinstance(fields.get("config"), dict) and "key" in fields:  # a record.json
            try:
                config = parse_stage(fields["config"])
            except UserError as error:
                raise UserError(f"{name}, {error.field}", error.value, error.expected, error.way_out) from error
            trust.note_file(config.plugins(), path)
            return cls._of_artifact(name, config, kind, flags)
        known = {each.field: each for each in flags if each.keys[0] in ("inputs", "config")}
        del known["config"]
        values = dict(_values(fields, known, name))
        trust.note_file((value for value in values.values() if isinstance(value, str)), path)
        return cls(name, values)

    @classmethod
    def _of_artifact(
        cls, name: str, config: StageConfig, kind: type[StageConfig], flags: Iterable[Flag]
    ) -> ConfigFile:
        values: dict[Flag, Any] = {}
        if isinstance(config, SweepConfig) and kind is TeacherConfig:
            values = {
                each: getattr(config, each.keys[-1]) for each in flags if each.keys[:2] == ("inputs", "sweep")
            }
        if isinstance(config, SweepConfig) and values:
            config = config.teacher
        if not isinstance(config, kind):
            expected = f"a {kind.model_fields['stage'].default}, this is a {config.stage}"
            raise UserError("config", name, expected, "`distill ls` lists what there is.")
        # What the names stand for is looked up anew; a student's images are those of its cache.
        fixed = ("data",) if isinstance(config, StudentConfig) and config.cache else ()
        anew = {
            part: value.model_copy(update={"content": None})
            for part, value in config
            if isinstance(value, NamesContent) and part not in fixed
        }
        return cls(name, values, config.model_copy(update=anew))

    @contextmanager
    def named_in_errors(self, by_flags: Collection[str]) -> Iterator[None]:
        """Name this file in an error about a value that it gives, unless a flag gives another."""
        try:
            yield
        except UserError as error:
            if error.field in by_flags or error.field not in {each.field for each in self.values}:
                raise
            raise UserError(f"{self.name}, {error.field}", error.value, error.expected, error.way_out) from error


def _parse(path: Path) -> dict[str, Any]:
    """Return what a file holds, which is JSON if it begins with a brace, else TOML."""
    text = "\n".join(read_lines(path, "config"))
    try:
        fields = load_json(text) if text.lstrip().startswith("{") else tomllib.loads(text)
    except (ValueError, RecursionError) as error:
        reason = " ".join(str(error).split())[:200]
        raise UserError("config", f"{path}: {reason}", "TOML, JSON or an artifact", "Mend this line.") from error
    return fields


def _values(
    fields: Mapping[str, Any], known: Mapping[str, Flag], file: str, prefix: str = ""
) -> Iterator[tuple[Flag, Any]]:
    """Yield each flag that a file sets, with its value; a field may have its dotted or its short name."""
    short = {SHORT[name].lstrip("-").replace("-", "_"): each for name, each in known.items() if name in SHORT}
    for name, value in fields.items():
        path = f"{prefix}{name.replace('-', '_')}"
        flag = known.get(path) or (None if isinstance(value, dict) else short.get(path))
        if flag:
            yield flag, (value,) if flag.items and isinstance(value, str) else value
        elif isinstance(value, dict) and any(each.startswith(f"{path}.") for each in known):
            yield from _values(value, known, file, f"{path}.")
        else:
            inside = [each for each in known if each.startswith(f"{path}.")]
            close = inside[:MOST] or close_fields(path, known)
            way_out = f"Perhaps you meant: {', '.join(close)}." if close else "Drop it; some are flags only."
            shown = "a table" if isinstance(value, dict | list) else value
            raise UserError(f"{file}, {path}", shown, "a field of this config", way_out)
