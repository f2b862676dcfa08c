"""A published folder, whose files are checked before they are read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config import (
    StageConfig,
)
from distill.errors import UserError
from distill.store.key import key
from distill.store.record import RECORD, FileEntry, Record
from distill.system.files import sha256
from distill.system.runtime import default_store


class _Known(dict[str, Any]):
    """What is known of images."""

    def __init__(self, fields: dict[str, Any], artifact: Artifact):
        super().__init__(fields)
        self._artifact = artifact

    def __missing__(self, name: str) -> Any:
        path, rebuild = self._artifact.path / RECORD, self._artifact.rebuild
        raise UserError(str(path), f"no data.{name}", "classes, shape and what else is known of images", rebuild)


@dataclass(frozen=True)
class Artifact:
    """A published folder."""

    path: Path
    record: Record
    config: StageConfig
    """The config that made it."""

    @property
    def is_current(self) -> bool:
        """Whether its config, read today, has the key that it was published under: fields may have been added."""
        return key(self.config) == self.record.key

    def file(self, name: str) -> Path:
        """Path of one of its files, after its size and sha256 were checked.

        Raises:
            UserError: the file is missing, truncated or changed.
        """
        problem = _file_problem(self.path / name, self.record.files.get(name))
        if problem:
            raise UserError(str(self.path / name), problem, "the file that the record names", self.rebuild)
        return self.path / name

    @property
    def data(self) -> Mapping[str, Any]:
        """Identity of the data set, as the record has it; a field that it lacks is a UserError."""
        return _Known(self.record.data, self)

    @property
    def rebuild(self) -> str:
        """How to make it again, for the message that refuses one of its files."""
        command = f"distill verify {shlex.quote(str(self.path))} --repair"
        if (store := self.path.parent.parent).absolute() != default_store().absolute():
            command += f" --store {shlex.quote(str(store))}"
        return f"Make it again: {command}. Or: Delete the folder and run the same command again; {_ONLY}."

    def problems(self) -> list[str]:
        """What is wrong with its files; empty when it is whole."""
        found = [
            f"{name}: {problem}"
            for name, entry in self.record.files.items()
            if (problem := _file_problem(self.path / name, entry))
        ]
        if not self.is_current:
            keys = f"its config has key {key(self.config)[:8]}, the record says {self.record.key[:8]}"
            found.append(f"{RECORD}: {keys} (edited, or of an older form)")
        return found


_ONLY = "only what is missing is made"


def _file_problem(path: Path, entry: FileEntry | None) -> str | None:
    if entry is None:
        return "not in the record"
    if not path.is_file():
        return "missing"
    if (size := path.stat().st_size) != entry.bytes:
        return f"{size} bytes instead of {entry.bytes}"
    if sha256(path) != entry.sha256:
        return f"sha256 differs from {entry.sha256[:8]}…"
    return None
