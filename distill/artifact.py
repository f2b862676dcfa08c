"""Content-addressed artefacts: every stage writes one folder that says what it is and proves that it is whole.

The key of an artefact is known before anything runs: a hash of its config, of the version of its stage, and
of the keys of its inputs. A folder is filled as a draft, `record.json` is written last, and one rename
publishes it; so what lies under its final name is always complete.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from filelock import FileLock, Timeout
from pydantic import BaseModel, ConfigDict, ValidationError

from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    Config,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LossConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
    parse_stage,
)
from distill.errors import UserError

FOLDERS = {
    "teacher": "teachers",
    "cache": "caches",
    "student": "students",
    "calibration": "calibrations",
    "analysis": "analyses",
    "sweep": "sweeps",
    "report": "reports",
}
VERSIONS = {"teacher": 1, "cache": 2, "student": 1, "calibration": 1, "analysis": 4, "sweep": 1, "report": 2}
"""Raised when a stage's code gives other numbers for the same config: old artefacts are then misses."""

RECORD = "record.json"
RESUME = "resume.pt"
STAMPS = "stamps"
"""A draft with a resume point or with stamps holds finished work, which a mistake in a later call must not cost."""
_STAGES = (
    TeacherConfig,
    CacheConfig,
    StudentConfig,
    CalibrationConfig,
    AnalysisConfig,
    SweepConfig,
    ReportConfig,
)


def key(config: StageConfig) -> str:
    """sha256 (hex) of the config, with its inputs replaced by their keys."""
    own = {"version": VERSIONS[config.stage], **_fields(config)}
    return hashlib.sha256(json.dumps(own, sort_keys=True, allow_nan=False).encode()).hexdigest()


def _canonical(value: Any) -> Any:
    if isinstance(value, _STAGES):
        return key(value)
    if isinstance(value, Config):
        return _fields(value)
    if isinstance(value, tuple):
        return [_canonical(item) for item in value]
    return value


def _fields(config: Config) -> dict[str, Any]:
    known = type(config).model_fields
    return {
        name: _canonical(value)
        for name, value in config
        if not (name in config.ADDED and value == known[name].default)
    }


def inputs(config: StageConfig) -> list[StageConfig]:
    """The stages whose artefacts this one reads."""
    match config:
        case TeacherConfig():
            return _source(config)
        case CacheConfig():
            return list(config.teachers)
        case StudentConfig():
            return [*([config.cache] if config.cache else []), *_source(config)]
        case CalibrationConfig():
            return [config.network]
        case SweepConfig():
            return list(config.networks().values())
        case AnalysisConfig():
            return [*config.runs, *([config.reference] if config.reference else []), *config.independent]
        case ReportConfig():
            return list(config.analyses)


def _source(config: TeacherConfig | StudentConfig) -> list[StageConfig]:
    return [config.smoothing_source] if config.smoothing_source else []


def title(config: StageConfig) -> str:
    """A short name for people; the key, not this, tells artefacts apart."""
    match config:
        case TeacherConfig():
            parts = [_data(config.data), _network(config), _smoothing(config), f"s{config.seed}"]
        case CacheConfig():
            parts = [_data(config.transfer_set), "of", _teacher(config), f"v{config.views}"]
            parts += [f"part{config.snapshot}"] if config.snapshot is not None else []
            parts += [f"top{config.top_k}"] if config.top_k else []
        case StudentConfig():
            parts = [_data(config.data), _network(config), _targets(config), f"s{config.seed}"]
            parts += [f"without{cls}" for cls in config.exclude_classes]
        case CalibrationConfig():
            parts = [config.method, "of", title(config.network)]
        case AnalysisConfig():
            parts = [config.split, f"{len(config.runs)}runs"]
        case SweepConfig():
            parts = [_data(config.teacher.data), _network(config.teacher)]
            parts += [f"{len(config.smoothings)}smoothings", f"{config.seeds}seeds"]
        case ReportConfig():
            parts = [config.experiment, config.data, config.scale]
    return re.sub(r"[^\w.=-]+", "-", "-".join(parts))[:80]


def _teacher(config: CacheConfig) -> str:
    match config.teacher:
        case TeacherConfig() as teacher:
            return f"{_network(teacher)}-{_smoothing(teacher)}-s{teacher.seed}"
        case EnsembleConfig() as ensemble:
            return f"{len(ensemble.members)}-{_network(ensemble.members[0])}"
        case ImportConfig() as imported:
            return "-".join(["import", *([imported.teacher] if imported.teacher else [])])


def _network(config: TeacherConfig | StudentConfig) -> str:
    widths = config.model.kwargs.get("widths", "")
    return config.model.name + ("x".join(map(str, widths)) if isinstance(widths, list | tuple) else "")


def _targets(config: StudentConfig) -> str:
    loss = config.loss
    if config.cache is None:
        return _smoothing(loss)
    soft = "" if loss.soft == "kl" else f"{loss.soft}-"
    arguments = "".join(f"-{name}{value:g}" for name, value in loss.kwargs.items())
    teacher, part = config.cache.teacher, config.cache.snapshot
    source = _smoothing(teacher) if isinstance(teacher, TeacherConfig) else teacher.stage
    early = "" if part is None else f"-part{part}"
    return f"of-{source}{early}-{soft}T{loss.temperature:g}{arguments}-a{loss.alpha:g}"


def _data(config: DataConfig) -> str:
    return config.name + (f"-{config.noise}{config.label_noise:g}" if config.label_noise else "")


def _smoothing(config: TeacherConfig | LossConfig) -> str:
    convention = {"uniform": "ls", "others": "others", "maxsup": "maxsup"}[config.smoothing_convention]
    labels = config.labels
    usual = type(labels)()
    parts = [
        "perclass" if labels.per_class else f"{convention if config.smoothing else 'ls'}{config.smoothing:.2f}"
    ]
    parts += [
        getattr(labels, name)
        for name in ("towards", "schedule", "by_sample")
        if labels != usual and getattr(labels, name) != getattr(usual, name)
    ]
    parts += [f"penalty{labels.confidence_penalty:g}"] if labels.confidence_penalty else []
    return "-".join(parts)


class FileEntry(BaseModel):
    """What a file of an artefact must be."""

    sha256: str
    bytes: int


class Record(BaseModel):
    """`record.json`: what an artefact is, what it was made from, and what it must contain."""

    model_config = ConfigDict(extra="forbid")

    key: str
    version: int
    config: dict[str, Any]
    inputs: dict[str, str]
    """Key of each input → sha256 of its record: keys are of recipes, this is of bytes."""
    files: dict[str, FileEntry]
    data: dict[str, Any] = {}
    """Identity of the data set: name, classes, shape, mean, std, fingerprint."""
    metrics: dict[str, float] = {}
    provenance: dict[str, Any] = {}


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
            raise UserError(str(self.path / name), problem, "the file that the record names", _REBUILD)
        return self.path / name

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


_REBUILD = "Delete the folder and run the same command again: only what is missing is made."


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


def sha256(path: Path) -> str:
    """sha256 (hex) of a file; it is read again only when it has changed."""
    return _sha256(path, path.stat().st_mtime_ns)


@lru_cache(maxsize=4096)
def _sha256(path: Path, _mtime_ns: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a reader sees the old file or the new one, never a part."""
    replace_file(path, json.dumps(value, indent=1, allow_nan=False).encode())


def replace_file(path: Path, *parts: bytes | memoryview) -> None:
    """Write a file so that a reader, even after a crash, sees the old one or the new one, never a part."""
    # A name of its own for each writer: two threads may write the same file.
    partial = path.with_name(f"{path.name}.{uuid.uuid4().hex}.partial")
    try:
        with partial.open("wb") as file:
            file.writelines(parts)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)


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
