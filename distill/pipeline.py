"""From configs to artefacts: finds what is there, runs what is missing, upstream first, and publishes it."""

from __future__ import annotations

import functools
import hashlib
import importlib
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill import ranks, trust
from distill.allocator import keep_freed_memory
from distill.artifact import FOLDERS, RECORD, VERSIONS, Artifact, Record, inputs, key, title
from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    ImportConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.errors import Diverged, UnfitTeacher, UserError
from distill.executors.failures import Failure, raise_failure
from distill.executors.inline import run_inline
from distill.experiment import Experiment, Label, Scale, Table
from distill.files import sha256
from distill.reading import read_json
from distill.runtime import Runtime, cores
from distill.store import ArtifactStore
from distill.tracking import warn

if TYPE_CHECKING:
    from distill.network import Outcome

_PACKAGES = ("torch", "torchvision", "timm", "numpy", "scikit-learn")

SUMMARY = "summary.json"
LOGS = "logs"
ALL = "all"
"""Stands for every experiment where one is named."""
_BY_ALL_RANKS = TeacherConfig | CacheConfig | StudentConfig
"""What the ranks of torchrun make together; the rest is made by the first one."""
Made = Artifact | str
"""An artefact, or the reason why its training diverged."""


def missing(
    configs: Iterable[StageConfig],
    store: ArtifactStore,
    is_there: Callable[[StageConfig], bool] | None = None,
) -> list[StageConfig]:
    """What would have to run to make `configs`, upstream first. A hit never touches what is upstream of it.

    Args:
        configs: the artefacts that are wanted.
        store: where they lie.
        is_there: whether the store has one; None opens its record.
    """
    order: dict[str, StageConfig] = {}
    seen: set[str] = set()

    def visit(config: StageConfig) -> None:
        name = key(config)
        if name in seen:
            return
        seen.add(name)
        if not (is_there(config) if is_there else store.find(config)):
            for upstream in inputs(config):
                visit(upstream)
            order[name] = config

    for config in configs:
        visit(config)
    return list(order.values())


def ensure(
    configs: Iterable[StageConfig],
    store: ArtifactStore,
    runtime: Runtime,
    *,
    tolerate_divergence: bool = False,
) -> dict[str, Made]:
    """Make what is missing of `configs` and of what they need.

    Args:
        configs: the artefacts that are wanted.
        store: where they lie.
        runtime: machine and switches.
        tolerate_divergence: a run that diverges is remembered with its reason, and not tried again, instead
            of ending everything.

    Returns:
        Key → artefact, or the reason why it diverged.

    Raises:
        StagesFailed: some stages failed; what needs none of them is made.
        Exception: what the only stage that failed raised, as far as that can be told in this process.
    """
    configs = list(configs)
    waiting = ranks.broadcast(missing(configs, store))
    failures = run_missing(waiting, store, runtime, tolerate_divergence=tolerate_divergence)
    raise_failure(failures, {_name(config, store) for config in configs})
    return {key(config): _made(config, store) for config in configs}


def run_missing(
    waiting: Sequence[StageConfig],
    store: ArtifactStore,
    runtime: Runtime,
    *,
    tolerate_divergence: bool = False,
) -> dict[str, Failure]:
    """Run stages, where the runtime says; one that fails costs only what needs it.

    Args:
        waiting: of `missing`.
        store: where artefacts lie.
        runtime: machine and switches.
        tolerate_divergence: of `ensure`.

    Returns:
        Why stages failed, by their path in the store.
    """
    names = {key(config): _name(config, store) for config in waiting}
    stages = {names[key(config)]: config for config in waiting}
    needs = {
        name: [names[key(upstream)] for upstream in inputs(config) if key(upstream) in names]
        for name, config in stages.items()
    }
    executor = runtime.executor
    # The nodes of a cluster may have another device than this machine.
    jobs = 1 if executor == "ray" else runtime.jobs_for(_side_by_side(stages, needs))
    if executor == "auto":
        executor = "pool" if jobs > 1 and ranks.world() == 1 else "inline"
    if ranks.world() > 1 and executor != "inline":
        expected = f"inline for the {ranks.world()} processes of torchrun, which make one stage at a time"
        raise UserError("executor", executor, expected, "Drop --executor, or run it without torchrun.")
    threads = runtime.threads or {"inline": None, "pool": max(1, cores() // jobs), "ray": 1}[executor]
    workers = runtime.workers
    if workers is None and threads is not None:
        workers = threads if threads > 1 else 0
    attempt = functools.partial(
        _attempt,
        store=store,
        runtime=runtime.model_copy(update={"threads": threads, "workers": workers}),
        tolerate_divergence=tolerate_divergence,
        trusted=trust.state(),
    )
    logs = store.root / LOGS
    match executor:
        case "inline":
            return run_inline(stages, needs, attempt, logs, runtime.progress)
        case "pool":
            from distill.executors.pool import run_pool

            return run_pool(stages, needs, attempt, jobs, logs, runtime.progress)
        case "ray":
            from distill.executors.ray import run_ray

            gpus = {"cpu": 0.0, "mps": 0.0, "cuda": 1.0, "auto": None}[runtime.device]
            of_cluster = runtime.address, threads or 1, runtime.gpus or gpus, runtime.jobs
            return run_ray(stages, needs, attempt, logs.absolute(), *of_cluster, runtime.progress)


def _name(config: StageConfig, store: ArtifactStore) -> str:
    """What a stage is called while it runs: the path of its artefact in the store."""
    return str(store.path(config).relative_to(store.root))


def _side_by_side(stages: Mapping[str, StageConfig], needs: Mapping[str, Sequence[str]]) -> int:
    """How many long stages can run at a time: the most that are equally far from the first."""
    depth: dict[str, int] = {}
    for name in stages:  # upstream first
        depth[name] = 1 + max((depth[other] for other in needs[name]), default=0)
    long = TeacherConfig | StudentConfig | AnalysisConfig
    counts = Counter(depth[name] for name, config in stages.items() if isinstance(config, long))
    return max(counts.values(), default=1)


def _attempt(
    config: StageConfig, store: ArtifactStore, runtime: Runtime, tolerate_divergence: bool, trusted: trust.State
) -> None:
    trust.restore(trusted)
    if tolerate_divergence and ranks.on_first(lambda: _hopeless(config, store)):
        return
    try:
        run_stage(config, store, runtime)
    except (Diverged, UnfitTeacher) as error:
        if not tolerate_divergence:
            raise
        if ranks.is_first():
            store.mark_diverged(config, str(error))


def _hopeless(config: StageConfig, store: ArtifactStore) -> bool:
    """Whether a network is known to diverge, or learns from one that does."""
    if isinstance(config, AnalysisConfig | SweepConfig | ReportConfig):
        return False
    return bool(store.diverged(config)) or any(_hopeless(upstream, store) for upstream in inputs(config))


def _made(config: StageConfig, store: ArtifactStore) -> Made:
    artifact = store.find(config)
    return artifact if artifact is not None else store.diverged(config) or "what it learns from diverged"


def run_stage(
    config: StageConfig,
    store: ArtifactStore,
    runtime: Runtime,
    make: Callable[[Path], Outcome] | None = None,
) -> Artifact:
    """Run one stage, whose inputs exist, and publish what it made.

    When another process is at work on the same artefact this one waits, and takes what the other made. Under
    torchrun all ranks call this: the first one holds the draft and publishes it, and networks and caches are made
    by all of them.

    Args:
        config: what to make.
        store: where it will lie.
        runtime: machine and switches.
        make: fills a draft folder, for what no config alone can make (an import); None calls the stage.
    """
    with ranks.end_together():
        made = _run_here(config, store, runtime, make) if ranks.is_first() else _follow(config, store, runtime)
        ranks.barrier()  # the others go on when it is published
        return made or _existing(config, store)


def _run_here(
    config: StageConfig, store: ArtifactStore, runtime: Runtime, make: Callable[[Path], Outcome] | None
) -> Artifact:
    with store.draft(config) as draft:
        if (found := store.find(config)) is not None:
            shutil.rmtree(draft)
            ranks.broadcast(None)
            return found
        if (draft / RECORD).is_file():
            ranks.broadcast(None)
            return store.publish_recorded(config, draft)
        ranks.broadcast(draft if make is None and isinstance(config, _BY_ALL_RANKS) else None)
        keep_freed_memory()
        _set_threads(runtime)
        started = time.perf_counter()
        outcome = make(draft) if make else _call(config, store, draft, runtime)
        record = Record(
            key=key(config),
            version=VERSIONS[config.stage],
            config=config.model_dump(mode="json"),
            inputs={key(upstream): _record_sha256(upstream, store) for upstream in inputs(config)},
            files=store.describe_files(draft),
            data=outcome.data,
            metrics=outcome.metrics,
            provenance=provenance(runtime) | {"seconds": round(time.perf_counter() - started, 3)},
        )
        artifact = store.publish(config, draft, record)
        store.forget_diverged(config)
        return artifact


def _follow(config: StageConfig, store: ArtifactStore, runtime: Runtime) -> None:
    """Take part in what the first rank of torchrun runs, if it is a stage that all ranks do together."""
    draft = ranks.broadcast(None)
    if draft is not None:
        keep_freed_memory()
        _set_threads(runtime)
        _call(config, store, draft, runtime.model_copy(update={"progress": False}))


def _call(config: StageConfig, store: ArtifactStore, draft: Path, runtime: Runtime) -> Any:
    # Each stage is imported when it runs: a hit, or `--help`, needs no torch.
    match config:
        case TeacherConfig():
            from distill.stages.teacher import train_teacher

            source = _existing(config.smoothing_source, store) if config.smoothing_source else None
            return train_teacher(config, source, draft, runtime)
        case CacheConfig():
            from distill.stages.cache import cache_logits

            if isinstance(config.teacher, ImportConfig):
                way_out = "Import it again: distill import FILES, with the same flags."
                raise UserError("cache", title(config), "imported logits that are in the store", way_out)
            return cache_logits(config, [_existing(teacher, store) for teacher in config.teachers], draft, runtime)
        case StudentConfig():
            from distill.stages.student import train_student

            cache = _existing(config.cache, store) if config.cache else None
            source = _existing(config.smoothing_source, store) if config.smoothing_source else None
            return train_student(config, cache, source, draft, runtime)
        case CalibrationConfig():
            from distill.stages.calibration import calibrate

            return calibrate(config, _existing(config.network, store), draft)
        case SweepConfig():
            from distill.stages.sweep import sweep

            return sweep(config, {key(run): _made(run, store) for run in inputs(config)}, draft)
        case AnalysisConfig():
            from distill.stages.analysis import analyse

            return analyse(config, {key(run): _made(run, store) for run in inputs(config)}, draft, runtime)
        case ReportConfig():
            from distill.network import Outcome
            from distill.stages.report import log_figures, write_report

            experiment = load_experiment(config.experiment)
            table = read_table(experiment, config, store)
            heading = (experiment.__doc__ or config.experiment).strip().splitlines()[0].rstrip(".")
            made_by = provenance(runtime) | {"minutes": round(_seconds_behind(config, store) / 60, 2)}
            write_report(config, experiment, heading, table, made_by, draft)
            log_figures(draft)
            return Outcome({}, {})


def _seconds_behind(config: StageConfig, store: ArtifactStore) -> float:
    """What all artefacts behind one took, each once, as far as they are still there."""
    waiting = inputs(config)
    seconds: dict[str, float] = {}
    while waiting:
        upstream = waiting.pop()
        if (name := key(upstream)) not in seconds:
            found = store.find(upstream)
            seconds[name] = found.record.provenance.get("seconds", 0.0) if found else 0.0
            waiting += inputs(upstream)
    return sum(seconds.values())


def _existing(config: StageConfig, store: ArtifactStore) -> Artifact:
    artifact = store.find(config)
    if artifact is None:  # it is upstream, so it was made first
        expected = "what was there when this began; it was deleted since"
        raise UserError("input", title(config), expected, "Run the same command again.")
    return artifact


def _record_sha256(config: StageConfig, store: ArtifactStore) -> str:
    artifact = store.find(config)
    return sha256(artifact.path / RECORD) if artifact else "diverged"


def _set_threads(runtime: Runtime) -> None:
    import torch

    torch.set_num_threads(runtime.threads or _default_threads())


@functools.cache
def _default_threads() -> int:
    import torch

    return torch.get_num_threads()


def provenance(runtime: Runtime) -> dict[str, Any]:
    """What made an artefact: commit, packages, machine. None of it is part of the key."""
    import torch

    device = runtime.torch_device()
    return _environment() | {
        "device": torch.cuda.get_device_name() if device == "cuda" else device,
        "threads": torch.get_num_threads(),
    }


@functools.cache
def _environment() -> dict[str, Any]:
    def git(*arguments: str) -> str | None:
        command = ["git", "-C", str(Path(__file__).parent), *arguments]
        try:
            return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
        except (OSError, subprocess.CalledProcessError):
            return None

    status = git("status", "--porcelain", "--untracked-files=no")
    return {
        "commit": git("rev-parse", "HEAD"),
        "dirty": bool(status) if status is not None else None,
        "python": platform.python_version(),
        "platform": f"{platform.system()} {platform.machine()}",
        "packages": {name: importlib.metadata.version(name) for name in _PACKAGES},
    }


def load_experiment(name: str) -> Experiment:
    """The module `experiments/<name>.py`, found by its file name.

    Raises:
        UserError: there is no such experiment.
    """
    folder, known = experiments_folder(), experiment_names()
    if name not in known:
        expected = f"{ALL}, or one of {', '.join(known) or 'none'}"
        raise UserError("experiment", name, expected, f"They lie in {folder}/.")
    if str(folder.parent) not in sys.path:
        sys.path.insert(0, str(folder.parent))
    return importlib.import_module(f"experiments.{name}")  # pyright: ignore[reportReturnType]


def experiments_folder() -> Path:
    """`experiments/` of the working directory, else of the clone that this package is installed from."""
    here = Path.cwd() / "experiments"
    return here if here.is_dir() else Path(__file__).parents[1] / "experiments"


def experiment_names() -> list[str]:
    """Names of all experiments, sorted."""
    return sorted(path.stem for path in experiments_folder().glob("*.py") if _is_experiment(path))


def _is_experiment(path: Path) -> bool:
    return "\ndef runs(" in path.read_text()


def plan_report(name: str, scale: Scale, data: str | None = None) -> ReportConfig:
    """Config of an experiment's report, with all that it is made from; one analysis per seed.

    Args:
        name: of the experiment.
        scale: how large.
        data: the data set; None takes the experiment's own at that scale.

    Raises:
        UserError: there is no such experiment, or it cannot be run on this data set.
    """
    experiment = load_experiment(name)
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
    sources = sorted(experiments_folder().glob("*.py"))
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
    if name != ALL:
        return [plan_report(name, scale, data)], {}
    configs: list[ReportConfig] = []
    skipped: dict[str, UserError] = {}
    for each in experiment_names():
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
    from distill.stages.overview import write_overview

    folder = store.root / FOLDERS["report"]
    try:
        return write_overview(folder, scale, [*_by_age(store), *reports], experiment_names())
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
            failed[_name(config, store)] = Failure(error)
    if waiting := ranks.broadcast(waiting):
        failed |= run_missing(list(waiting.values()), store, runtime, tolerate_divergence=True)
    if not any(_whole(config, store) for config in configs):
        raise_failure(failed, {_name(config, store) for config in configs})
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


def read_table(experiment: Experiment, config: ReportConfig, store: ArtifactStore) -> Table:
    """The measures of an experiment's runs under their labels."""
    from distill.stages.analysis import MEASURES

    measured: dict[str, Any] = {}
    classes: tuple[str, ...] = ()
    for analysis in config.analyses:
        artifact = _existing(analysis, store)
        measured |= read_json(artifact.file(MEASURES))
        classes = tuple(artifact.record.data.get("classes", classes))
    table = _table(experiment.runs(config.scale, config.data), measured, classes)
    if derived := getattr(experiment, "derived", None):
        table.values |= derived(table)
    return table


def _table(
    runs: Mapping[Label, TeacherConfig | StudentConfig], measured: Mapping[str, Any], classes: tuple[str, ...]
) -> Table:
    table = Table(classes=classes)
    for label, config in runs.items():
        found = measured[key(config)]
        if found["diverged"]:
            table.diverged[label] = found["diverged"]
        else:
            table.values[label] = found["values"]
            table.curves[label] = found["curves"]
    return table
