"""Find artifacts by config, let one process at a time fill an artifact's folder, publish and delete artifacts."""

from __future__ import annotations

import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from difflib import get_close_matches
from itertools import chain
from pathlib import Path

from filelock import Timeout
from pydantic import ValidationError

from distill.config import StageConfig, parse_stage
from distill.errors import UserError
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.locks import held
from distill.store.machine_errors import explained
from distill.store.moving import make_way, move, open_folder, remove
from distill.store.record import RECORD, RESUME, STAMPS, FileEntry, Record, record_stat
from distill.store.stages import FOLDERS, STAGES, title
from distill.system import trust
from distill.system.files import expanded, follow_umask, replace_file, sha256, write_json
from distill.system.reading import parse_json, read_bytes, read_json

_COMPARED = 10_000
"""Most artifacts whose names are compared with a name that is not found."""
_DELETE = "Delete this folder: it is made again when it is wanted."
_DELETE_UNLESS_YOURS = "Delete this folder unless it is yours: an artifact is made again when it is wanted."
DRAFT_KEY = "draft.key"
"""File of a draft with the key of the artifact that the draft becomes; it is no part of the artifact."""
_NAME = re.compile(r"[^.].*-[0-9a-f]{8}")
"""Form of the name of an artifact's folder: its title and the beginning of its key."""


class ArtifactStore:
    """Keep all artifacts in a folder: one folder per stage, such as `teachers/`, and `drafts/` and `diverged/`."""

    def __init__(self, root: Path):
        self.root = expanded(root)

    def path(self, config: StageConfig) -> Path:
        """Return the path of the artifact of a config, whether the artifact exists or not."""
        return self.root / STAGES[config.stage].folder / f"{title(config)}-{key(config)[:8]}"

    def find(self, config: StageConfig) -> Artifact | None:
        """Return the artifact of a config, or None if there is none; its inputs may be missing."""
        path = self.path(config)
        if not (path / RECORD).is_file():
            return None
        artifact = self.read(path)
        return artifact if artifact.record.key == key(config) else None

    def read(self, path: Path) -> Artifact:
        """Read the artifact in a folder.

        Raises:
            UserError: the folder is not an artifact of this program.
        """
        return read_config(path, self.record(path))

    def record(self, path: Path) -> Record:
        """Read the record in a folder, but not its config, which takes most of the time of `read`.

        Raises:
            UserError: the folder has no record of this program.
        """
        try:
            content = read_bytes(path / RECORD)
            record = Record.model_validate(parse_json(content, RECORD))
        except OSError as error:
            lost = path.is_dir() and path.parent.name in FOLDERS
            expected = f"the folder of an artifact, with a {RECORD} inside"
            way_out = "List what there is with `distill ls`; `distill adopt FILE` takes weights from elsewhere."
            raise UserError("path", str(path), expected, _DELETE_UNLESS_YOURS if lost else way_out) from error
        except (ValidationError, UserError) as error:
            raise _unreadable(path, error) from error
        if not record.fits(content):
            raise UserError("path", str(path / RECORD), "the record as it was published, it was changed", _DELETE)
        return record

    def resolve(self, text: str, field: str = "artifact") -> Artifact:
        """Find the artifact that a user names by a path, the name of its folder, a key, or the beginning of a key.

        The errors call what the user gave by the name `field`.

        Raises:
            UserError: no artifact has that name, or more than one.
        """
        if (path := expanded(Path(text))).exists():
            return self._read_given(path, text, field)
        name = Path(text).name
        # A folder's name ends with the beginning of its key, and a key has no dash.
        alike = self._all(key=name[-8:] if "-" in name else text) if text else ()
        named = [each for each in alike if each.path.name == name or each.record.key.startswith(text)]
        if len(named) == 1:
            return named[0]
        if named:
            raise UserError(field, text, "a path or a key, more than one fits", "List them with `distill ls`.")
        folders = [path.name for each in FOLDERS.values() for path in self.published(each.name)][:_COMPARED]
        near = get_close_matches(name, [*folders, *(folder[-8:] for folder in folders)], n=1)
        hint = f"Did you mean {near[0]}? " if near else ""
        raise UserError(field, text, "a path or a key, none fits", f"{hint}List them with `distill ls`.")

    def _read_given(self, path: Path, text: str, field: str) -> Artifact:
        """Read the artifact at a path that a user gave as `text`, and say in which artifact another path lies."""
        if not (path / RECORD).is_file():
            for folder in path.absolute().parents:
                if (folder / RECORD).is_file():
                    expected = f"the folder of an artifact: it lies in the artifact {folder}"
                    raise UserError(field, text, expected, "Name that folder.")
        try:
            return self.read(path)
        except UserError as error:
            if error.value != str(path):  # it is the record's
                raise
            raise UserError(field, text, error.expected, error.way_out) from error

    def home(self, artifact: Artifact) -> ArtifactStore:
        """Return the store in which an artifact lies, which may be another one than this."""
        folder = artifact.path.absolute().parent
        is_in_store = folder.name == STAGES[artifact.config.stage].folder
        return ArtifactStore(folder.parent) if is_in_store else self

    def refuse_other(self, artifact: Artifact, field: str = "path") -> None:
        """Refuse an artifact of another store, which a run in this store would make again.

        Raises:
            UserError: the folder of the artifact is not in this store.
        """
        own = self.root / STAGES[artifact.config.stage].folder
        if not own.is_dir() or not own.samefile(artifact.path.absolute().parent):
            way_out = f"Set `store={self.home(artifact).root}`, or copy it to {own} first."
            raise UserError(field, str(artifact.path), f"an artifact of the store {self.root}", way_out)

    def has(self, config: StageConfig) -> bool:
        """Tell whether the store has the artifact of a config, without opening its record."""
        return record_stat(self.path(config)) is not None

    def published(self, stage: str, key: str = "") -> list[Path]:
        """List the folders that have a record, in the folder where a stage publishes, by name.

        Args:
            stage: name of the stage.
            key: list only those whose name ends with the beginning of this key.
        """
        folder = self.root / STAGES[stage].folder
        try:
            names = sorted(os.listdir(folder))  # noqa: PTH208 - faster than Paths
        except OSError:
            return []
        # A hidden folder is being deleted, or is being copied from another disk.
        paths = [folder / name for name in names if name[-8:].startswith(key[:8]) and name[0] != "."]
        return [path for path in paths if record_stat(path)]

    def all(self, *stages: str) -> Iterator[Artifact]:
        """Return an iterator over the published artifacts that can be read, stage by stage, teachers first.

        Args:
            stages: names of the stages to yield; none means all.
        """
        return self._all(*stages)

    def _all(self, *stages: str, key: str = "") -> Iterator[Artifact]:
        for stage in stages or [each.name for each in FOLDERS.values()]:
            for path in self.published(stage, key):
                with suppress(UserError):
                    yield self.read(path)

    def draft_path(self, config: StageConfig) -> Path:
        """Return the path of the draft of a config, which has the name of the artifact: TensorBoard shows it."""
        return self.root / "drafts" / self.path(config).name

    @contextmanager
    def draft(self, config: StageConfig) -> Iterator[Path]:
        """Yield a folder to fill, which one process holds at a time; an interrupted process may have begun it.

        Raises:
            UserError: the store cannot be written, the disk is full, memory does not suffice, a link in the draft
                would lead writes to another place, or the draft is that of another config.
        """
        folder = self.draft_path(config)
        with explained(config, folder, self.root):
            open_folder(folder.parent)
            open_folder(self.path(config).parent)  # before hours of work that could not be published there
            with held(folder.with_name(f"{folder.name}.lock"), title(config)):
                with suppress(OSError):  # older versions named a draft by its key alone
                    (folder.parent / key(config)).rename(folder)
                _refuse_links(folder)
                self._refuse_draft_of_another(config, folder)
                if not STAGES[config.stage].resumes and not (folder / RECORD).is_file():
                    shutil.rmtree(folder, ignore_errors=True)
                folder.mkdir(exist_ok=True)
                if not (folder / RECORD).is_file():
                    replace_file(folder / DRAFT_KEY, key(config).encode())
                try:
                    with explained(config, folder, self.root):
                        yield folder
                except UserError:
                    if not any(chain((folder / STAMPS).glob("*"), folder.glob(RESUME), folder.glob(RECORD))):
                        shutil.rmtree(folder, ignore_errors=True)
                    raise

    def draft_key(self, draft: Path) -> str:
        """Return the key of the artifact that a draft becomes; "" if nothing in the draft says so.

        Raises:
            UserError: the draft has a record that cannot be read.
        """
        if (draft / RECORD).is_file():
            return self.record(draft).key
        with suppress(OSError):
            return read_bytes(draft / DRAFT_KEY).decode(errors="replace")
        return ""

    def _refuse_draft_of_another(self, config: StageConfig, draft: Path) -> None:
        """Refuse a draft that was copied or renamed: what another config has made would be taken for this one's."""
        if (owner := self.draft_key(draft)) not in ("", key(config)):
            way_out = "Move this folder elsewhere (it may be the only one), and run the same command again."
            expected = f"the draft of {title(config)}-{key(config)[:8]}, this is the one of {owner[:8]}"
            raise UserError("path", str(draft), expected, way_out)

    def publish(self, config: StageConfig, draft: Path, record: Record) -> Artifact:
        """Write the record of a filled draft, and publish the draft as the artifact of its config."""
        # The record is the last file: a draft with a record is whole.
        replace_file(draft / RECORD, record.sealed())
        return self._publish(config, draft)

    def publish_recorded(self, config: StageConfig, draft: Path) -> Artifact:
        """Publish a draft whose record is written already, even if its process was killed right after writing it.

        Raises:
            UserError: the draft contains a link, or is not what its record says.
        """
        _refuse_links(draft)
        self._refuse_draft_of_another(config, draft)
        if problems := self.read(draft).problems():
            raise UserError("path", str(draft), f"the files of its record ({problems[0]})", _DELETE)
        return self._publish(config, draft)

    def _publish(self, config: StageConfig, draft: Path) -> Artifact:
        _refuse_links(draft)
        if artifact := self.find(config):  # another store that shares this folder was faster
            shutil.rmtree(draft)
            return artifact
        for path in filter(_is_left_over, [*draft.rglob("*")]):
            path.unlink()
        follow_umask(draft)
        final = self.path(config)
        final.parent.mkdir(parents=True, exist_ok=True)
        make_way(final)
        move(draft, final)
        return self.read(final)

    def describe_files(self, folder: Path) -> dict[str, FileEntry]:
        """Return the size and sha256 of each file that a stage wrote, without the resume point."""
        paths = (path for path in sorted(folder.rglob("*")) if path.is_file())
        return {
            str(path.relative_to(folder)): FileEntry(sha256=sha256(path), bytes=path.stat().st_size)
            for path in paths
            if path.name != RECORD and not _is_left_over(path)
        }

    def delete(self, path: Path) -> None:
        """Delete a file or folder that is garbage, but leave alone a draft that a process holds.

        Run this while no other machine writes to the store: on NFS it is not certain that another machine sees that
        a lock was deleted.
        """
        drafts = self.root / "drafts"
        if path.is_dir() and path.parent != drafts and path.suffix not in (".deleted", ".partial"):
            # An artifact leaves its place at once, so that nobody finds half of it.
            with self.aside(path):
                return
        if path.parent != drafts or path.suffix == ".deleted":
            remove(path)
            return
        lock = drafts / f"{path.name.removesuffix('.lock').removesuffix('.soft')}.lock"
        # The holder deletes the lock. A process that waited for it finds that the file is gone, and makes it anew.
        with suppress(Timeout), held(lock, wait=False):
            if path != lock:  # a lock is deleted once: after that, the file of this name is that of another process
                remove(path)
            lock.unlink(missing_ok=True)

    @contextmanager
    def aside(self, path: Path) -> Iterator[None]:
        """Take an artifact away inside the block, then delete it; put it back if the block fails."""
        # It stays in its folder, which may be on another disk than the rest of the store.
        taken = path.with_name(f".{path.name}-{uuid.uuid4().hex}.deleted")
        try:
            path.rename(taken)
            yield
        except BaseException:
            with suppress(OSError):  # it was never moved, or another artifact has taken its place
                taken.rename(path)
            raise
        remove(taken)

    def mark_diverged(self, config: StageConfig, reason: str) -> None:
        """Note that a config diverges, so that an experiment reports this without training again."""
        folder = self.root / "diverged"
        folder.mkdir(parents=True, exist_ok=True)
        fields = {"key": key(config), "reason": reason, "config": config.model_dump(mode="json")}
        write_json(folder / f"{key(config)}.json", fields)

    def diverged(self, config: StageConfig) -> str | None:
        """Return why a config is known to diverge, or None if it is not."""
        path = self.root / "diverged" / f"{key(config)}.json"
        return read_diverged(path) if path.is_file() else None

    def forget_diverged(self, config: StageConfig) -> None:
        """Forget that a config diverged, so that it can be tried again."""
        (self.root / "diverged" / f"{key(config)}.json").unlink(missing_ok=True)


def read_config(path: Path, record: Record) -> Artifact:
    """Return the artifact in a folder, given its record.

    Raises:
        UserError: the record has a config that this program cannot read.
    """
    try:
        config = parse_stage(record.config)
    except (ValidationError, UserError) as error:
        raise _unreadable(path, error) from error
    trust.note_file(config.plugins(), path / RECORD)
    return Artifact(path, record, config)


def read_diverged(path: Path) -> str:
    """Read from the note of a diverged run why it diverged.

    Raises:
        UserError: the file is no such note, or the note of another config.
    """
    match read_json(path):
        case {"key": path.stem, "reason": str(reason), "config": dict()}:
            return reason
    raise UserError("path", str(path), "the note of a run that diverged, under its own key", "Move it elsewhere.")


def is_named_like_an_artifact(path: Path) -> bool:
    """Tell whether a folder has a name as artifacts have: a title, and the beginning of a key."""
    return _NAME.fullmatch(path.name) is not None


def _unreadable(path: Path, error: Exception) -> UserError:
    expected = f"a record that this version can read ({str(error).splitlines()[0]})"
    return UserError("path", str(path / RECORD), expected, _DELETE)


def _refuse_links(draft: Path) -> None:
    """Refuse a draft that contains a link: no stage makes links."""
    # Through somebody else's link this program would write to, or delete, what is not in the store.
    for path in (draft, *draft.rglob("*")):
        if path.is_symlink():
            raise UserError("path", str(path), "no link in a draft", "Delete it, and run the same command again.")


def _is_left_over(path: Path) -> bool:
    """Tell whether a file of a draft is no part of the artifact: a resume point, or half of a file."""
    # safetensors writes to `.tmp…` beside the file; a killed process leaves that behind.
    return path.name in (RESUME, DRAFT_KEY) or path.suffix == ".partial" or path.name.startswith(".tmp")
