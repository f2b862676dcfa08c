"""The store: finds artefacts by their config, holds drafts for one process at a time, publishes, and cleans up."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from filelock import FileLock, Timeout
from pydantic import ValidationError

from distill.artifact import FOLDERS, RECORD, RESUME, STAMPS, VERSIONS, Artifact, FileEntry, Record, key, title
from distill.config import StageConfig, parse_stage
from distill.errors import UserError
from distill.files import sha256, write_json


class ArtifactStore:
    """The folder of all artefacts: `teachers/ caches/ students/ analyses/ reports/`, `drafts/` and `diverged/`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, config: StageConfig) -> Path:
        """Where the artefact of this config lies, whether it exists or not."""
        return self.root / FOLDERS[config.stage] / f"{title(config)}-{key(config)[:8]}"

    def find(self, config: StageConfig) -> Artifact | None:
        """The artefact of this config, or None; its inputs are not looked at."""
        path = self.path(config)
        if not (path / RECORD).is_file():
            return None
        artifact = self.read(path)
        return artifact if artifact.record.key == key(config) else None

    def read(self, path: Path) -> Artifact:
        """The artefact in a folder.

        Raises:
            UserError: the folder is not an artefact of ours.
        """
        expected = f"the folder of an artefact, with a {RECORD} inside"
        way_out = "List what there is with `distill ls`; weights from elsewhere are not loaded."
        try:
            record = Record.model_validate_json((path / RECORD).read_bytes())
            config = parse_stage(record.config)
        except OSError as error:
            raise UserError("path", str(path), expected, way_out) from error
        except (ValidationError, UserError) as error:
            expected = f"a record that this version can read ({str(error).splitlines()[0]})"
            way_out = "Delete this folder: it is made again when it is wanted."
            raise UserError("path", str(path / RECORD), expected, way_out) from error
        return Artifact(path, record, config)

    def resolve(self, text: str) -> Artifact:
        """The artefact that a person names: a path, a key, or the beginning of one.

        Raises:
            UserError: nothing or more than one artefact answers to that name.
        """
        if Path(text).exists():
            return self.read(Path(text))
        found = [artifact for artifact in self.all() if artifact.record.key.startswith(text)] if text else []
        if len(found) != 1:
            raise UserError("artefact", text, f"a path or a key, {len(found)} fit", "List them with `distill ls`.")
        return found[0]

    def all(self) -> Iterator[Artifact]:
        """Every published artefact that can be read, upstream stages first."""
        for path in self._published():
            with suppress(UserError):
                yield self.read(path)

    def unreadable(self) -> Iterator[tuple[Path, str]]:
        """Published folders whose record cannot be read, each with the reason."""
        for path in self._published():
            try:
                self.read(path)
            except UserError as error:
                yield path, str(error)

    def _published(self) -> Iterator[Path]:
        for folder in FOLDERS.values():
            yield from (record.parent for record in sorted((self.root / folder).glob(f"*/{RECORD}")))

    @contextmanager
    def draft(self, config: StageConfig) -> Iterator[Path]:
        """A folder to fill, held by one process at a time; what an interrupted one left there is kept."""
        folder = self.root / "drafts" / key(config)
        lock = FileLock(folder.with_suffix(".lock"))
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
            lock.acquire()
            folder.mkdir(exist_ok=True)
        except OSError as error:
            way_out = "Set --store or DISTILL_STORE to another folder."
            raise UserError(
                "store", str(self.root), f"a folder that can be written ({error.strerror})", way_out
            ) from error
        try:
            yield folder
        except UserError:
            if not (folder / RESUME).exists() and not any((folder / STAMPS).glob("*")):
                shutil.rmtree(folder, ignore_errors=True)
            raise
        finally:
            lock.release()

    def publish(self, config: StageConfig, draft: Path, record: Record) -> Artifact:
        """Make a filled draft the artefact of its config; the record is written last."""
        write_json(draft / RECORD, record.model_dump(mode="json"))
        return self.publish_recorded(config, draft)

    def publish_recorded(self, config: StageConfig, draft: Path) -> Artifact:
        """Publish a draft whose record was written, perhaps by a process that was killed right after."""
        (draft / RESUME).unlink(missing_ok=True)
        final = self.path(config)
        final.parent.mkdir(parents=True, exist_ok=True)
        if final.exists():  # of an older version, or damaged: it was no hit, or we would not be here
            shutil.rmtree(final)
        draft.rename(final)
        return self.read(final)

    def describe_files(self, folder: Path) -> dict[str, FileEntry]:
        """Size and sha256 of what a stage wrote; the resume point is no part of the artefact."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(folder)): FileEntry(sha256=sha256(path), bytes=path.stat().st_size)
            for path in paths
            if path.name not in (RECORD, RESUME) and not path.name.endswith(".partial")
        }

    def garbage(self) -> Iterator[tuple[Path, str]]:
        """Paths that no run can use any more or that only resume one, each with the reason."""
        for path in sorted((self.root / "drafts").glob("*")):
            yield path, "lock" if path.suffix == ".lock" else "unfinished draft"
        for path in sorted((self.root / "diverged").glob("*.json")):
            yield path, "note of a diverged run"
        yield from ((path, "unreadable record") for path, _ in self.unreadable())
        for artifact in self.all():
            if artifact.record.version != VERSIONS[artifact.config.stage]:
                yield artifact.path, f"of version {artifact.record.version}"
            elif not artifact.is_current:
                yield artifact.path, "of an older form"

    def delete(self, path: Path) -> None:
        """Delete what `garbage` listed; a draft that a process holds is left alone."""
        if path.parent.name != "drafts":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            return
        with suppress(Timeout), FileLock(path.with_suffix(".lock"), timeout=0):
            if path.suffix == ".lock":
                path.unlink(missing_ok=True)
            else:
                shutil.rmtree(path)

    def mark_diverged(self, config: StageConfig, reason: str) -> None:
        """Remember that this config diverges, so that an experiment reports it without training it again."""
        folder = self.root / "diverged"
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"key": key(config), "reason": reason, "config": config.model_dump(mode="json")}
        write_json(folder / f"{key(config)}.json", fields)

    def diverged(self, config: StageConfig) -> str | None:
        """Why this config is known to diverge, or None."""
        path = self.root / "diverged" / f"{key(config)}.json"
        return json.loads(path.read_text())["reason"] if path.is_file() else None

    def forget_diverged(self, config: StageConfig) -> None:
        """Let this config be tried again."""
        (self.root / "diverged" / f"{key(config)}.json").unlink(missing_ok=True)
