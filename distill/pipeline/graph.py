"""Turn configs into artifacts: find those that exist, and make those that are missing, each after its inputs."""

from __future__ import annotations

import functools
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from distill.config import StageConfig
from distill.errors import Diverged, UnfitTeacher, UserError
from distill.pipeline.executors.failures import Failure, raise_failure
from distill.pipeline.executors.inline import run_inline
from distill.pipeline.executors.stage_graph import Graph
from distill.pipeline.identity import identify_all
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.inputs import ArtifactOrReason, artifact_or_reason
from distill.store.key import key
from distill.store.stages import STAGES, inputs
from distill.store.store import ArtifactStore
from distill.system import ranks, trust
from distill.system.runtime import Runtime, cores

LOGS = "logs"


def missing(
    configs: Iterable[StageConfig],
    store: ArtifactStore,
    is_there: Callable[[StageConfig], bool] | None = None,
) -> list[StageConfig]:
    """List the configs that would have to run to make `configs`, each after its inputs.

    Whatever is upstream of an existing artifact is not looked at. The function `is_there` tells whether an artifact
    exists; None opens its record.
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
) -> dict[str, ArtifactOrReason]:
    """Make the artifacts of `configs` and of their inputs, as far as they are missing, and return them by key.

    The keys are those of `configs` as they are given, without the digests of the files and the code that they name.
    With `tolerate_divergence`, a training that diverges does not end everything: its reason is noted and stands in
    the place of the artifact, and the training is not tried again.

    Raises:
        StagesFailed: some stages failed; stages that need none of them are finished.
        Exception: the error of the only stage that failed, if it can be told in this process.
    """
    configs = list(configs)
    known = identify_all(configs, store, runtime)
    waiting = ranks.broadcast(missing(known, store))
    failures = run_missing(waiting, store, runtime, tolerate_divergence=tolerate_divergence)
    raise_failure(failures, {name_in(config, store) for config in known})
    return {key(config): artifact_or_reason(each, store) for config, each in zip(configs, known, strict=True)}


def run(
    config: StageConfig, store: ArtifactStore | Path | str | None = None, runtime: Runtime | None = None
) -> Artifact:
    """Make the artifact of one config and its inputs, as far as they are missing, and return the artifact.

    Args:
        config: teacher, cache, student or another stage.
        store: folder of the artifacts; None takes that of the runtime.
        runtime: machine, data root and progress; None takes the defaults.

    Raises:
        UserError: something in the config cannot be done; the message says what and the way out.
        StagesFailed: several stages failed.
    """
    runtime = runtime or Runtime()
    if not isinstance(store, ArtifactStore):
        store = ArtifactStore(Path(store or runtime.store))
    artifact = ensure([config], store, runtime)[key(config)]
    assert isinstance(artifact, Artifact), "a training that diverges is an error here"
    return artifact


def run_missing(
    waiting: Sequence[StageConfig],
    store: ArtifactStore,
    runtime: Runtime,
    *,
    tolerate_divergence: bool = False,
) -> dict[str, Failure]:
    """Run stages that `missing` has listed with the executor of the runtime, and return the failures.

    A failure is named by the path of its artifact in the store, and costs only the stages that need the artifact.
    """
    names = {key(config): name_in(config, store) for config in waiting}
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
        raise UserError("executor", executor, expected, "Drop `executor`, or run it without torchrun.")
    threads = runtime.threads or {"inline": None, "pool": max(1, cores() // jobs), "ray": 1}[executor]
    workers = runtime.workers
    if workers is None and threads is not None:
        workers = threads if threads > 1 else 0
    # Every executor calls this as `graph.run(config)` for each stage, in this process or in a worker.
    attempt = functools.partial(
        _attempt,
        store=store,
        runtime=runtime.model_copy(update={"threads": threads, "workers": workers}),
        tolerate_divergence=tolerate_divergence,
        trusted=trust.current,
    )
    logs = store.root / LOGS
    if executor == "ray":
        logs = logs.absolute()
    graph = Graph(stages, needs, attempt, logs, runtime.progress)
    match executor:
        case "inline":
            return run_inline(graph)
        case "pool":
            from distill.pipeline.executors.pool import run_pool

            return run_pool(graph, jobs)
        case "ray":
            from distill.pipeline.executors.ray import run_ray

            gpus = {"cpu": 0.0, "mps": 0.0, "cuda": 1.0, "auto": None}[runtime.device]
            return run_ray(graph, runtime.address, threads or 1, runtime.gpus or gpus, runtime.jobs)


def name_in(config: StageConfig, store: ArtifactStore) -> str:
    """Return the name of a stage while it runs: the path of its artifact in the store."""
    return str(store.path(config).relative_to(store.root))


def _side_by_side(stages: Mapping[str, StageConfig], needs: Mapping[str, Sequence[str]]) -> int:
    """Return how many long stages can run at a time: the largest number at one depth of the graph."""
    depth: dict[str, int] = {}
    for name in stages:  # the order is upstream first
        depth[name] = 1 + max((depth[other] for other in needs[name]), default=0)
    counts = Counter(depth[name] for name, config in stages.items() if STAGES[config.stage].is_long)
    return max(counts.values(), default=1)


def _attempt(
    config: StageConfig, store: ArtifactStore, runtime: Runtime, tolerate_divergence: bool, trusted: trust.Trusted
) -> None:
    """Run one stage, here or in a worker, and note a network that diverged where this is tolerated."""
    trust.add(trusted)
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
    """Tell whether a network is known to diverge, or learns from one that does."""
    if STAGES[config.stage].takes_diverged:
        return False
    return bool(store.diverged(config)) or any(_hopeless(upstream, store) for upstream in inputs(config))
