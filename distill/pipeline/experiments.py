"""Plan and run experiments, and write the page of all their reports."""

from __future__ import annotations

import hashlib
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from distill.config import AnalysisConfig, ReportConfig, StageConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline.executors.failures import Failure, raise_failure
from distill.pipeline.graph import missing, name_in, run_missing
from distill.pipeline.identity import identify_all
from distill.reports import experiment_files
from distill.reports.experiment import Scale
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.record import RECORD
from distill.store.stages import STAGES
from distill.store.store import ArtifactStore
from distill.system import ranks
from distill.system.runtime import Runtime
from distill.system.source import imports
from distill.training.tracking import warn


def plan_report(name: str, scale: Scale, data: str | None = None) -> ReportConfig:
    """Return the config of an experiment's report, which has one analysis per seed.

    The name of the data set may be None: the experiment's own at that scale is then taken.

    Raises:
        UserError: there is no such experiment, or it cannot be run on this data set.
    """
    experiment = experiment_files.load_experiment(name)
    data = experiment.DATA[scale] if data is None else data
    probes = tuple(getattr(experiment, "probes", lambda *_: ())(scale, data))
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
    source = hashlib.sha256(b"".join(path.read_bytes() for path in source_files(name))).hexdigest()
    return ReportConfig(experiment=name, source=source, scale=scale, data=data, analyses=analyses)


def source_files(name: str) -> list[Path]:
    """List the files of `experiments/` that an experiment runs: its own and those that it imports, sorted by path.

    Imports are read off the text, also inside functions, and nothing is executed. An experiment that has no file
    of its own has none at all.
    """
    folder = experiment_files.experiments_folder()
    files: set[Path] = set()
    waiting = {folder / f"{name}.py"}
    while waiting:
        path = waiting.pop()
        if path not in files and path.is_file():
            files.add(path)
            package = ".".join(path.parent.relative_to(folder.parent).parts)
            # The file of a package runs before what is imported from it.
            for module in (*imports(path.read_bytes(), package), package):
                if module.partition(".")[0] == folder.name:
                    place = folder.parent.joinpath(*module.split("."))
                    waiting |= {place.with_suffix(".py"), place / "__init__.py"}
    return sorted(files)


def plan_reports(
    name: str, scale: Scale, data: str | None = None
) -> tuple[list[ReportConfig], dict[str, UserError]]:
    """Return the report configs of one experiment or of "all", and why others cannot be run on this data set.

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
    """Hold the reports that a call of `reproduce` made or found, and why others are missing."""

    reports: list[Artifact]
    skipped: dict[str, UserError]
    """Experiments that cannot be run on the data set that was asked for, with the reason."""
    failed: dict[str, Failure]
    """Stages that failed, by the path of their artifact in the store."""
    page: Path | None
    """Page that shows all reports of the scale; None if it could not be written."""


def reproduce(name: str, scale: Scale, data: str | None, store: ArtifactStore, runtime: Runtime) -> Reproduced:
    """Run an experiment or "all", as far as they are not done, and write the page of all reports.

    Raises:
        UserError: there is no such experiment, or one of its inputs is missing.
        Exception: any error of `ensure`, if no report exists afterwards.
    """
    planned, skipped = plan_reports(name, scale, data)
    configs = identify_all(planned, store, runtime)
    # All graphs run as one, so that what experiments share is made once.
    try:
        failed = _ensure_reports(configs, store, runtime)
    finally:
        # The page is written after a failure or an interrupt too, so that finished reports can be read.
        reports = [report for config in configs if (report := _whole(config, store))]
        page = _write_page(scale, reports, store) if ranks.is_first() else None
    return Reproduced(reports, skipped, failed, page)


def _write_page(scale: Scale, reports: list[Artifact], store: ArtifactStore) -> Path | None:
    """Write the page of all reports; in a store that cannot be written, warn and return None."""
    from distill.reports.overview import write_overview

    folder = store.root / STAGES["report"].folder
    try:
        reports = [*reports_by_age(store), *reports]
        return write_overview(folder, scale, reports, experiment_files.experiment_names())
    except OSError as error:  # the page is no result, so the run does not fail without it
        warn("overview", f"the page of all reports in {folder} was not written: {error.strerror or error}")
        return None


def _ensure_reports(configs: list[ReportConfig], store: ArtifactStore, runtime: Runtime) -> dict[str, Failure]:
    """Make reports, and return which stages failed; raise the failures if no report exists afterwards."""
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
    """Return the report of a config, or None if there is none; raise a UserError if it is damaged."""
    report = store.find(config)
    if report is not None:
        for name in report.record.files:
            report.file(name)
    return report


def _whole(config: ReportConfig, store: ArtifactStore) -> Artifact | None:
    """Return the report of a config, or None if it is missing or damaged."""
    with suppress(UserError):
        return _report(config, store)
    return None


def reports_by_age(store: ArtifactStore) -> list[Artifact]:
    """List all reports of a store, the latest last."""
    return sorted(store.all("report"), key=lambda report: (report.path / RECORD).stat().st_mtime_ns)
