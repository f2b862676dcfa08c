"""Run one stage, whose inputs exist, and publish its artifact."""

from __future__ import annotations

import functools
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from distill.config import StageConfig
from distill.store.artifact import Artifact
from distill.store.inputs import Inputs
from distill.store.key import key
from distill.store.provenance import provenance
from distill.store.record import RECORD, Record
from distill.store.stages import STAGES, inputs
from distill.store.store import ArtifactStore
from distill.system import ranks
from distill.system.files import sha256
from distill.system.memory import keep_freed_memory
from distill.system.references import referenced
from distill.system.runtime import Runtime

if TYPE_CHECKING:
    from distill.store.outcome import Outcome


def run_stage(
    config: StageConfig,
    store: ArtifactStore,
    runtime: Runtime,
    make: Callable[[Path], Outcome] | None = None,
) -> Artifact:
    """Run one stage, whose inputs exist, and publish its artifact.

    If another process is making the same artifact, wait and take that one. Under torchrun all ranks call this
    function: the first rank holds the draft and publishes it, and all ranks together make networks and caches.

    The function `make` fills a draft folder with what no config alone can make (an import); None calls the stage.
    """
    with ranks.end_together():
        own = _run_here(config, store, runtime, make) if ranks.is_first() else _follow(config, store, runtime)
        ranks.barrier()  # the other ranks go on when the artifact is published
        return own or Inputs(config, store).artifact(config)


def _run_here(
    config: StageConfig, store: ArtifactStore, runtime: Runtime, make: Callable[[Path], Outcome] | None
) -> Artifact:
    with store.draft(config) as draft:
        if (artifact := store.find(config)) is not None:
            shutil.rmtree(draft)
            ranks.broadcast(None)
            return artifact
        if (draft / RECORD).is_file():
            ranks.broadcast(None)
            return store.publish_recorded(config, draft)
        ranks.broadcast(draft if make is None and STAGES[config.stage].resumes else None)
        keep_freed_memory()
        _set_threads(runtime)
        started = time.perf_counter()
        outcome = make(draft) if make else _call(config, store, draft, runtime)
        record = Record(
            key=key(config),
            version=STAGES[config.stage].version,
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
    """Take part, on every rank but the first, in the stage that the first rank runs, if all ranks run it."""
    draft = ranks.broadcast(None)
    if draft is not None:
        keep_freed_memory()
        _set_threads(runtime)
        _call(config, store, draft, runtime.model_copy(update={"progress": False}))


def _call(config: StageConfig, store: ArtifactStore, draft: Path, runtime: Runtime) -> Outcome:
    # A stage is imported only when it runs: finding an existing artifact, or `--help`, needs no torch.
    run = referenced(STAGES[config.stage].run)
    return run(config, Inputs(config, store), draft, runtime)


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
