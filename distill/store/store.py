"""The store: finds artifacts by their config, holds drafts for one process at a time, publishes, and cleans up."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from itertools import chain, islice
from pathlib import Path

from filelock import Timeout
from pydantic import ValidationError

from distill.config import StageConfig, parse_stage
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.index import Entry, published, read_index
from distill.store.key import key
from distill.store.locks import held
from distill.store.machine_errors import explained
from distill.store.record import RECORD, RESUME, STAMPS, FileEntry, Record
from distill.store.stages import STAGES, title
from distill.system.files import replace_file, sha256, write_json
from distill.system.reading import parse_json, read_bytes, read_json

_DELETE = "Delete this folder: it is made again when it is wanted."


class ArtifactStore:
    """The folder of all artifacts: `teachers/ caches/ students/ analyses/ reports/`, `drafts/` and `diverged/`."""

    def __init__(self, root: Path):
        self.root = root

    def path(self, config: StageConfig) -> Path:
        """Where the artifact of this config lies, whether it exists or not."""
        return self.root / STAGES[config.stage].folder / f"{title(config)}-{key(config)[:8]}"

    def find(self, config: StageConfig) -> Artifact | None:
        """The artifact of this config, or None; its inputs are not looked at."""
        path = self.path(config)
        if not (path / RECORD).is_file():
            return None
        artifact = self.read(path)
        return artifact if artifact.record.key == key(config) else None

    def read(self, path: Path) -> Artifact:
        """The artifact in a folder.

        Raises:
            UserError: the folder is not an artifact of ours.
        """
        expected = f"the folder of an artifact, with a {RECORD} inside"
        way_out = "List what there is with `distill ls`; weights from elsewhere are not loaded."
        try:
            content = read_bytes(path / RECORD)
            record = Record.model_validate(parse_json(content, RECORD))
            config = parse_stage(record.config, path / RECORD)
        except OSError as error:
            lost = path.is_dir() and path.parent.name in {stage.folder for stage in STAGES.values()}
            raise UserError("path", str(path), expected, _DELETE if lost else way_out) from error
        except (ValidationError, UserError) as error:
            expected = f"a record that this version can read ({str(error).splitlines()[0]})"
            raise UserError("path", str(path / RECORD), expected, _DELETE) from error
        if not record.fits(content):
            raise UserError("path", str(path / RECORD), "the record as it was published, it was changed", _DELETE)
        return Artifact(path, record, config)

    def resolve(self, text: str) -> Artifact:
        """The artifact that a person names: a path, a key, or the beginning of one.

        Raises:
            UserError: nothing or more than one artifact answers to that name.
        """
        if Path(text).exists():
            return self.read(Path(text))
        found = list(islice(self._with_key(text), 2)) if text else []
        if len(found) != 1:
            many = "more than one fits" if found else "none fits"
            raise UserError("artifact", text, f"a path or a key, {many}", "List them with `distill ls`.")
        return found[0]

    def _with_key(self, text: str) -> Iterator[Artifact]:
        for path in self._published(key=text):
            with suppress(UserError):
                found = self.read(path)
                if found.record.key.startswith(text):
                    yield found

    def entries(self, stage: str) -> list[Entry]:
        """What is published of one stage, by name of its folder; records that have not changed are not opened."""
        return read_index(self.root, stage, self.read)

    def all(self, *stages: str) -> Iterator[Artifact]:
        """Every published artifact that can be read, upstream stages first.

        Args:
            stages: only these; none means all.
        """
        for path in self._published(*stages):
            with suppress(UserError):
                yield self.read(path)

    def _published(self, *stages: str, key: str = "") -> Iterator[Path]:
        for stage in stages or STAGES:
            folder = self.root / STAGES[stage].folder
            yield from (folder / name for name, _ in published(folder, key))

    @contextmanager
    def draft(self, config: StageConfig) -> Iterator[Path]:
        """A folder to fill, held by one process at a time; what an interrupted one left there is kept.

        Raises:
            UserError: the store cannot be written, the disk is full, memory does not suffice, or a link would lead
                what is written elsewhere.
        """
        folder = self.root / "drafts" / key(config)
        with explained(config, folder, self.root):
            folder.parent.mkdir(parents=True, exist_ok=True)
            with held(folder.with_suffix(".lock"), title(config)):
                _refuse_links(folder)
                if not STAGES[config.stage].resumes and not (folder / RECORD).is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(exist_ok=True)
                try:
                    with explained(config, folder, self.root):
                        yield folder
                except UserError:
                    if not any(chain((folder / STAMPS).glob("*"), folder.glob(RESUME), folder.glob(RECORD))):
                        shutil.rmtree(folder, ignore_errors=True)
                    raise

    def publish(self, config: StageConfig, draft: Path, record: Record) -> Artifact:
        """Make a filled draft the artifact of its config; the record is written last."""
        replace_file(draft / RECORD, record.sealed())
        return self.publish_recorded(config, draft)

    def publish_recorded(self, config: StageConfig, draft: Path) -> Artifact:
        """Publish a draft whose record was written, perhaps by a process that was killed right after.

        Raises:
            UserError: there is a link in it.
        """
        _refuse_links(draft)
        for path in filter(_is_left_over, [*draft.rglob("*")]):
            path.unlink()
        final = self.path(config)
        final.parent.mkdir(parents=True, exist_ok=True)
        _remove(final)  # of an older version, or damaged: it was no hit, or we would not be here
        draft.rename(final)
        return self.read(final)

    def describe_files(self, folder: Path) -> dict[str, FileEntry]:
        """Size and sha256 of what a stage wrote; the resume point is no part of the artifact."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(folder)): FileEntry(sha256=sha256(path), bytes=path.stat().st_size)
            for path in paths
            if path.name != RECORD and not _is_left_over(path)
        }

    def delete(self, path: Path) -> None:
        """Delete what is garbage; a draft that a process holds is left alone.

        An artifact leaves its place at once, so that nobody finds half of it. Locks are deleted by one who holds
        them: who waited for one then finds that it has no name any more, and makes it anew. That other machines see
        so on NFS is not sure, so run this while no other machine writes to the store.
        """
        drafts = self.root / "drafts"
        if path.is_dir() and path.parent != drafts:
            with self.aside(path):
                return
        if path.parent != drafts or path.suffix == ".deleted":
            _remove(path)
            return
        lock = drafts / f"{path.name.removesuffix('.lock').removesuffix('.soft')}.lock"
        if lock.is_symlink():  # it would not be opened
            lock.unlink()
        with suppress(Timeout), held(lock, wait=False):
            _remove(path)
            lock.unlink(missing_ok=True)

    @contextmanager
    def aside(self, path: Path) -> Iterator[None]:
        """Take an artifact from its place inside the block; then it is deleted, or put back if the block fails."""
        taken = self.root / "drafts" / f"{path.name}-{uuid.uuid4().hex}.deleted"
        taken.parent.mkdir(exist_ok=True)
        try:
            path.rename(taken)
            yield
        except BaseException:
            with suppress(OSError):  # it never left, or another has its place
                taken.rename(path)
            raise
        _remove(taken)

    def mark_diverged(self, config: StageConfig, reason: str) -> None:
        """Remember that this config diverges, so that an experiment reports it without training it again."""
        folder = self.root / "diverged"
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"key": key(config), "reason": reason, "config": config.model_dump(mode="json")}
        write_json(folder / f"{key(config)}.json", fields)

    def diverged(self, config: StageConfig) -> str | None:
        """Why this config is known to diverge, or None."""
        path = self.root / "diverged" / f"{key(config)}.json"
        return str(read_json(path)["reason"]) if path.is_file() else None

    def forget_diverged(self, config: StageConfig) -> None:
        """Let this config be tried again."""
        (self.root / "diverged" / f"{key(config)}.json").unlink(missing_ok=True)


def _refuse_links(draft: Path) -> None:
    """No stage makes one: through a link of others it would write to, or delete, what is not in the store."""
    for path in (draft, *draft.rglob("*")):
        if path.is_symlink():
            raise UserError("path", str(path), "no link in a draft", "Delete it, and run the same command again.")


def _remove(path: Path) -> None:
    """Delete a folder, a file or a link, but not what a link leads to."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def _is_left_over(path: Path) -> bool:
    """Whether a file of a draft is no part of the artifact: what resumes a run, or half of a file."""
    # safetensors writes to `.tmp…` beside the file, which a kill leaves there.
    return path.name == RESUME or path.suffix == ".partial" or path.name.startswith(".tmp")
