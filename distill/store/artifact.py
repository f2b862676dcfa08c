"""Define `Artifact`: a published folder whose files are checked before they are read."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from distill.config import StageConfig
from distill.errors import UserError
from distill.store.key import key
from distill.store.record import RECORD, FileEntry, Record
from distill.system.files import sha256
from distill.system.runtime import default_store


class _Known(dict[str, Any]):
    """Hold the fields of a record that describe its data set; reading a missing field raises a UserError."""

    def __init__(self, fields: dict[str, Any], artifact: Artifact):
        super().__init__(fields)
        self._artifact = artifact

    def __missing__(self, name: str) -> Any:
        path, rebuild = self._artifact.path / RECORD, self._artifact.rebuild
        raise UserError(str(path), f"no data.{name}", "classes, shape and what else is known of images", rebuild)


@dataclass(frozen=True)
class Artifact:
    """Read a published folder, with its record and its config."""

    path: Path
    record: Record
    config: StageConfig
    """Config from which the artifact was made."""

    @property
    def is_current(self) -> bool:
        """Tell whether the config still has the key under which the artifact was published."""
        # The keys differ when the config or the version of its stage has changed since.
        return key(self.config) == self.record.key

    def file(self, name: str) -> Path:
        """Check the size and the sha256 of one file of the artifact, and return its path.

        Raises:
            UserError: the file is missing, truncated or changed.
        """
        problem = _file_problem(self.path / name, self.record.files.get(name))
        if problem:
            raise UserError(str(self.path / name), problem, "the file that the record names", self.rebuild)
        return self.path / name

    @property
    def data(self) -> Mapping[str, Any]:
        """Return what the record says about the data set; reading a missing field raises a UserError."""
        return _Known(self.record.data, self)

    @property
    def rebuild(self) -> str:
        """Say how to make the artifact again, for the error that refuses one of its files."""
        command = f"distill verify {shlex.quote(str(self.path))} --repair"
        if (store := self.path.absolute().parent.parent) != default_store().absolute():
            command += f" --store {shlex.quote(str(store))}"
        otherwise = "Delete the folder otherwise, and run the same command again: only what is missing is made."
        return f"Make it again: `{command}`. {otherwise}"

    def problems(self) -> list[str]:
        """List what is wrong with the files of the artifact; the list is empty when the artifact is whole."""
        problems = [
            f"{name}: {problem}"
            for name, entry in self.record.files.items()
            if (problem := _file_problem(self.path / name, entry))
        ]
        if not self.is_current:
            keys = f"its config has key {key(self.config)[:8]}, the record says {self.record.key[:8]}"
            problems.append(f"{RECORD}: {keys} (edited, or of an older form)")
        return problems


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
