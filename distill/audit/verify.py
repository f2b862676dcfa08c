"""Whether artefacts are what their records say they are, and how those that are not are made again."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from distill.cache.remake import remake
from distill.config import CacheConfig, ImportConfig, ReportConfig, StageConfig
from distill.errors import UserError
from distill.pipeline.experiments import plan_report
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES, inputs, title
from distill.store.store import ArtifactStore
from distill.system.files import sha256
from distill.system.runtime import Runtime


@dataclass(frozen=True)
class Examined:
    """What was found of one folder."""

    path: Path
    artifact: Artifact | None
    """None where the record cannot be read."""
    problems: list[str] = field(default_factory=list)
    """What differs from the record; empty when it is whole."""
    unproven: list[str] = field(default_factory=list)
    """What can no longer be told."""


def examine(store: ArtifactStore, named: Sequence[Artifact] = ()) -> Iterator[Examined]:
    """Read every file of some artefacts, or of all, and compare it with the record; and records with each other.

    Args:
        store: where their inputs lie.
        named: which; none means all that is published.

    Yields:
        What was found, upstream stages first.
    """
    known: dict[str, _Seen] = {}
    for artifact in named:
        yield _examined(artifact, store, known)
    if named:
        return
    for stage in STAGES.values():
        for path in sorted(path for path in (store.root / stage.folder).glob("*") if path.is_dir()):
            try:
                yield _examined(store.read(path), store, known)
            except UserError as error:
                yield Examined(path, None, [str(error)])


@dataclass(frozen=True)
class _Seen:
    """A record as it is now."""

    path: Path
    sha256: str
    sealed: bool


def _examined(artifact: Artifact, store: ArtifactStore, known: dict[str, _Seen]) -> Examined:
    record, place = artifact.record, store.path(artifact.config)
    known[record.key] = _Seen(artifact.path, sha256(artifact.path / RECORD), bool(record.seal))
    problems = artifact.problems()
    if artifact.is_current and artifact.path.name != place.name:
        problems.append(f"it is {place.name}, and is not found under another name")
    return Examined(artifact.path, artifact, problems, list(_changed_inputs(artifact, store, known)))


def _changed_inputs(artifact: Artifact, store: ArtifactStore, known: dict[str, _Seen]) -> Iterator[str]:
    """Inputs whose record is not the one that this was made from, where nothing says that they were made again."""
    noted = {name: value for name, value in artifact.record.inputs.items() if value != "diverged"}
    if not noted.keys() <= known.keys():
        for upstream in inputs(artifact.config):
            if (name := key(upstream)) in noted and name not in known:
                try:
                    found = store.find(upstream)
                except UserError as error:
                    yield f"input {title(upstream)}: {error}"
                    continue
                if found:
                    known[name] = _Seen(found.path, sha256(found.path / RECORD), bool(found.record.seal))
    for name, value in noted.items():
        seen = known.get(name)
        # One with a seal that fits was made again: it is as whole as the one before.
        if seen and seen.sha256 != value and not seen.sealed:
            yield f"input {seen.path}: {RECORD} is not the one that this was made from: made again since, or edited"


def repair(examined: Examined, store: ArtifactStore, runtime: Runtime) -> Path:
    """Make an artefact that is not whole again, with what it needs and is not there; then the old one is deleted.

    Returns:
        Where it lies now.

    Raises:
        UserError: it cannot be made from its record alone, or lies elsewhere; then it stays where it is, as with
            any other error.
    """
    artifact, path = examined.artifact, examined.path
    assert artifact is not None, "who names an artefact has read its record"
    config = artifact.config
    if path.absolute().parent.parent != store.root.absolute():
        raise UserError("path", str(path), f"an artefact of the store {store.root}", "Name its own with --store.")
    if isinstance(config, CacheConfig) and isinstance(config.teacher, ImportConfig):
        expected = "what was made here; this was imported"
        raise UserError("repair", str(path), expected, f"Import it again: {remake(config, path)}")
    if isinstance(config, ReportConfig) and _drawn_otherwise(config):
        command = f"distill reproduce {config.experiment} --scale {config.scale} --data {config.data}"
        expected = "what the files in experiments/ still draw"
        raise UserError("repair", str(path), expected, f"Delete the folder, and make today's: {command}")
    with store.aside(path):
        return _made(config, store, runtime)


def _drawn_otherwise(config: ReportConfig) -> bool:
    return plan_report(config.experiment, config.scale, config.data).source != config.source


def _made(config: StageConfig, store: ArtifactStore, runtime: Runtime) -> Path:
    made = ensure([config], store, runtime)[key(config)]
    assert isinstance(made, Artifact), "what diverges is an error here"
    return made.path
