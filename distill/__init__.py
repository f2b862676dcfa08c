"""Distil knowledge from teachers into students, and measure what a teacher knows beyond its top-1 answer.

The stages of the pipeline are modules of `distill.stages`. A **teacher** is trained, with or without label
smoothing. Its logits go to a **cache** on disk. **Students** learn from the cache. An **analysis** measures all
networks. A **report** says which claims hold.

    cache = CacheConfig(teacher=TeacherConfig(loss=LossConfig(alpha=0, smoothing=0.1)))
    student = run(StudentConfig(cache=cache))  # makes teacher, cache and student, or finds them

Nothing is imported before it is used, so that `import distill` takes no time.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distill.audit.export import load_exported
    from distill.cache import CachedDataset, LogitCache
    from distill.config import (
        AugmentConfig,
        CacheConfig,
        DataConfig,
        LossConfig,
        ModelConfig,
        OptimConfig,
        ScheduleConfig,
        StudentConfig,
        TeacherConfig,
    )
    from distill.losses import cross_entropy, kl_distillation, make_loss
    from distill.metrics.measures import measures
    from distill.pipeline.graph import run
    from distill.system.runtime import Runtime
    from distill.system.version import __version__
    from distill.training.network import load_network

__all__ = [
    "AugmentConfig",
    "CacheConfig",
    "CachedDataset",
    "DataConfig",
    "LogitCache",
    "LossConfig",
    "ModelConfig",
    "OptimConfig",
    "Runtime",
    "ScheduleConfig",
    "StudentConfig",
    "TeacherConfig",
    "__version__",
    "cross_entropy",
    "kl_distillation",
    "load_exported",
    "load_network",
    "make_loss",
    "measures",
    "run",
]

_CONFIGS = [name for name in __all__ if name.endswith("Config")]
_MODULES = dict.fromkeys(_CONFIGS, "distill.config") | {
    "CachedDataset": "distill.cache",
    "LogitCache": "distill.cache",
    "Runtime": "distill.system.runtime",
    "__version__": "distill.system.version",
    "cross_entropy": "distill.losses",
    "kl_distillation": "distill.losses",
    "load_exported": "distill.audit.export",
    "load_network": "distill.training.network",
    "make_loss": "distill.losses",
    "measures": "distill.metrics.measures",
    "run": "distill.pipeline.graph",
}


def __getattr__(name: str) -> Any:
    """Import the module of a name when the name is first used."""
    if name not in _MODULES:
        raise AttributeError(f"module 'distill' has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_MODULES[name]), name)
    return value


def __dir__() -> list[str]:
    """List the names that are offered, whether they are imported yet or not."""
    return __all__
