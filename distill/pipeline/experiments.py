"""Plans and runs experiments, and writes the page of all their reports."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distill.config import (
    AnalysisConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.errors import UserError
from distill.pipeline.executors.failures import Failure, raise_failure
from distill.pipeline.graph import missing, name_in, run_missing
from distill.reports import experiment_files
from distill.reports.experiment import Scale
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.training.tracking import warn


def plan_report(name: str, scale: Scale, data: str | None = None) -> ReportConfig:
    """Config of an experiment's report, with all that it is made from; one analysis per seed.

    Args:
        name: of the experiment.
        scale: how large.
        data: the data set; None takes the experiment's own at that scale.

    Raises:
        UserError: there is no such experiment, or it cannot be run on this data set.
    """
    experiment = experiment_files.load_experiment(name)
    data = experiment.DATA[scale] if data is None else data
    probes = tuple(experiment.probes(scale, data))
    by_seed: dict[int, list[TeacherConfig | StudentConfig]] = {}
    for label, config in experiment.runs(scale, data).items():
        by_seed.setdefault(label.seed, []).append(config)
    groups = list(by_seed.values())
    analyses = tuple(
        AnalysisConfig(
            runs=tuple(runs),
            reference=next((run for run in runs if isinstance(run, TeacherConfig)), None),
            independent=tuple(run for run in other if isinstance(run, TeacherConfig) and run not in runs),
            probes=probes,
        )
        for runs, other in zip(groups, [*groups[1:], *groups[:1]], strict=True)
    )
    sources = sorted(experiment_files.experiments_folder().glob("*.py"))
    source = hashlib.sha256(b"".join(path.read_bytes() for path in sources)).hexdigest()
    return ReportConfig(experiment=name, source=source, scale=scale, data=data, analyses=analyses)


def plan_reports(
    name: str, scale: Scale, data: str | None = None
) -> tuple[list[ReportConfig], dict[str, UserError]]:
    """Configs of one experiment's report, or of every experiment's.

    Args:
        name: of the experiment, or "all".
        scale: how large.
        data: the data set; None takes each experiment's own at that scale.

    Returns:
        The configs, and of the experiments that cannot be run on this data set the reason.

    Raises:
        UserError: there is no such experiment, or none can be run on this data set.
    """
    if name != experiment_files.ALL:
        return [plan_report(name, scale, data)], {}
    configs: list[ReportConfig] = []
    skipped: dict[str, UserError] = {}
    for each in experiment_files.experiment_names():
        try:
            configs.append(plan_report(each, scale, data))
        except UserError as error:
            if error.field != "data":
                raise
            skipped[each] = error
    if skipped and not configs:
        raise next(iter(skipped.values()))
    return configs, skipped


@dataclass(frozen=True)
class Reproduced:
    """What became of the experiments that were asked for."""

    reports: list[Artifact]
    skipped: dict[str, UserError]
    """Experiments that cannot be run on the data set that was asked for."""
    failed: dict[str, Failure]
    """Stages that failed, by their path in the store."""
    page: Path | None
    """All reports of the scale on one page; None where it could not be written."""


def reproduce(name: str, scale: Scale, data: str | None, store: ArtifactStore, runtime: Runtime) -> Reproduced:
    """Run an experiment, or all of them, as far as they are not done, and write the page of all reports.

    All graphs run as one: what experiments share is made once.

    Args:
        name: of the experiment, or "all".
        scale: how large.
        data: the data set; None takes each experiment's own at that scale.
        store: where everything lies.
        runtime: machine and switches.

    Raises:
        UserError: there is no such experiment, or one of its inputs is missing.
        Exception: as of `ensure`, if no report is there.
    """
    configs, skipped = plan_reports(name, scale, data)
    try:
        failed = _ensure_reports(configs, store, runtime)
    finally:
        # After a failure or an interrupt too: what is finished can be read.
        reports = [found for config in configs if (found := _whole(config, store))]
        page = _write_page(scale, reports, store) if ranks.is_first() else None
    return Reproduced(reports, skipped, failed, page)


def _write_page(scale: Scale, reports: list[Artifact], store: ArtifactStore) -> Path | None:
    """The page of all reports; of a store that cannot be written the one that is there, for it is no result."""
    from distill.reports.overview import write_overview

    folder = store.root / STAGES["report"].folder
    try:
        return write_overview(folder, scale, [*_by_age(store), *reports], experiment_files.experiment_names())
    except OSError as error:
        warn("overview", f"the page of all reports in {folder} was not written: {error.strerror or error}")
        return None


def _ensure_reports(configs: list[ReportConfig], store: ArtifactStore, runtime: Runtime) -> dict[str, Failure]:
    """Make reports, and return what failed on the way; when no report is there after it, that is raised."""
    failed: dict[str, Failure] = {}
    waiting: dict[str, StageConfig] = {}
    for config in configs:
        try:
            if _report(config, store) is None:
                waiting |= {key(stage): stage for stage in missing([config], store)}
        except UserError as error:  # a damaged record
            failed[name_in(config, store)] = Failure(error)
    if waiting := ranks.broadcast(waiting):
        failed |= run_missing(list(waiting.values()), store, runtime, tolerate_divergence=True)
    if not any(_whole(config, store) for config in configs):
        raise_failure(failed, {name_in(config, store) for config in configs})
    return failed


def _report(config: ReportConfig, store: ArtifactStore) -> Artifact | None:
    """The report of this config, or None; raises a UserError for one that is damaged."""
    found = store.find(config)
    if found is not None:
        for name in found.record.files:
            found.file(name)
    return found


def _whole(config: ReportConfig, store: ArtifactStore) -> Artifact | None:
    """The report of this config, if it is there and can be read."""
    with suppress(UserError):
        return _report(config, store)
    return None


def _by_age(store: ArtifactStore) -> list[Artifact]:
    """All reports, the latest last."""
    return sorted(store.all("report"), key=lambda report: (report.path / RECORD).stat().st_mtime_ns)
