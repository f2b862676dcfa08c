"""Content-addressed artefacts: every stage writes one folder that says what it is and proves that it is whole.

The key of an artefact is known before anything runs: a hash of its config, of the version of its stage, and
of the keys of its inputs. A folder is filled as a draft, `record.json` is written last, and one rename
publishes it; so what lies under its final name is always complete.
"""

from __future__ import annotations

import hashlib
import json
import re
import shlex
import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field

from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    Config,
    Count,
    DataConfig,
    EnsembleConfig,
    ImportConfig,
    LossConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.files import sha256
from distill.runtime import default_store

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
RESUME = "resume.safetensors"
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


_KEYS: dict[int, tuple[weakref.KeyedRef[int, StageConfig], tuple[int, ...], str]] = {}
"""id of a config → itself, the versions of the stages, and its key. Configs are frozen, and those that hold one
share it: of a graph each is hashed once, not once for every path that leads to it."""


def key(config: StageConfig) -> str:
    """sha256 (hex) of the config, with its inputs replaced by their keys."""
    versions, known = tuple(VERSIONS.values()), _KEYS.get(id(config))
    if known and known[0]() is config and known[1] == versions:
        return known[2]
    own = {"version": VERSIONS[config.stage], **_fields(config)}
    found = hashlib.sha256(json.dumps(own, sort_keys=True, allow_nan=False).encode()).hexdigest()
    _KEYS[id(config)] = (weakref.KeyedRef(config, _forget, id(config)), versions, found)
    return found


def _forget(gone: weakref.KeyedRef[int, StageConfig]) -> None:
    known = _KEYS.get(gone.key)
    if known and known[0] is gone:  # its number may belong to another config by now
        del _KEYS[gone.key]


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
    # The last cut is in bytes, of which a name of a file has at most 255, with the key behind it.
    return re.sub(r"[^\w.=-]+", "-", "-".join(parts))[:80].encode()[:240].decode(errors="ignore")


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


def _within(name: str) -> str:
    """A path that stays within the folder of its artefact, here and on other systems, and that can be printed."""
    parts = name.split("/")
    if "\\" in name or ":" in parts[0] or not name.isprintable() or {"", ".", ".."} & set(parts):
        raise ValueError(f"a path within the folder, not {name[:200]!r}")
    return name


_Digest = Annotated[str, Field(pattern="^[0-9a-f]{64}$")]
_FileName = Annotated[str, Field(max_length=1000), AfterValidator(_within)]


class FileEntry(BaseModel):
    """What a file of an artefact must be."""

    sha256: _Digest
    bytes: Annotated[int, Field(ge=0)]


class _Images(BaseModel):
    """Types of what a record says of its images, as far as it does."""

    model_config = ConfigDict(strict=True)

    classes: Annotated[list[str], Field(min_length=1)] = []
    shape: Annotated[list[Count], Field(min_length=3, max_length=3)] = []
    mean: list[float] = []
    std: list[float] = []
    fingerprint: str = ""
    sizes: dict[str, int] = {}
    priors: list[float] = []


def _of_images(fields: dict[str, Any]) -> dict[str, Any]:
    _Images.model_validate(fields)
    return fields


class Record(BaseModel):
    """`record.json`: what an artefact is, what it was made from, and what it must contain."""

    model_config = ConfigDict(extra="forbid")

    key: _Digest
    version: int
    config: dict[str, Any]
    inputs: dict[_Digest, str]
    """Key of each input → sha256 of its record: keys are of recipes, this is of bytes."""
    files: dict[_FileName, FileEntry]
    data: Annotated[dict[str, Any], AfterValidator(_of_images)] = {}
    """Identity of the data set: name, classes, shape, mean, std, fingerprint."""
    metrics: dict[str, float] = {}
    provenance: dict[str, Any] = {}
    seal: str = ""
    """sha256 of the bytes of `record.json` without this; empty in records of older versions."""

    def sealed(self) -> bytes:
        """The content of `record.json`."""
        fields = self.model_dump(mode="json") | {"seal": ""}
        before, name, after = json.dumps(fields, indent=1, allow_nan=False).rpartition('"seal": "')
        return f"{before}{name}{hashlib.sha256((before + name + after).encode()).hexdigest()}{after}".encode()

    def fits(self, content: bytes) -> bool:
        """Whether the bytes that it was read from are those that were sealed; true for one without a seal."""
        if not self.seal:
            return True
        head, _, tail = content.rpartition(self.seal.encode())
        return hashlib.sha256(head + tail).hexdigest() == self.seal


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
