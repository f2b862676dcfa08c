"""The list of all stages: what the pipeline must know of each."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from distill.config import (
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    Config,
    DataConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.store import titles


def nested_stages(config: Config) -> Iterator[StageConfig]:
    """Yield the configs of stages that a config holds, without those that these hold in turn."""
    for _, value in config:
        yield from _stages_in(value)


def _stages_in(value: Any) -> Iterator[StageConfig]:
    if is_stage(value):
        yield value
    elif isinstance(value, tuple):
        for item in value:
            yield from _stages_in(item)
    elif isinstance(value, Config):
        yield from nested_stages(value)


@dataclass(frozen=True)
class Stage:
    """What the pipeline must know of a stage."""

    config: type[StageConfig]
    folder: str
    """Name of the folder of its artifacts in the store."""
    title: Callable[[Any], Sequence[str]]
    """Words that name an artifact for people."""
    run: str
    """`package.module:function` of (config, inputs, folder, runtime) → `Outcome`. A reference, so that whoever only
    asks for a key need not import torch."""
    version: int = 1
    """Raised when its code gives other numbers for the same config, or a default of its config changes: older
    artifacts are then made anew."""
    inputs: Callable[[Any], Iterator[StageConfig]] = nested_stages
    """Configs of the artifacts that it reads."""
    reads: Callable[[Any], DataConfig] | None = None
    """The data set whose images it goes through."""
    costs_like: Callable[[Any], Sequence[Config | str | int | None]] | None = None
    """Parts of its config on which its cost depends; None: two of its artifacts tell nothing of each other's."""
    resumes: bool = False
    """Whether it goes on where it was interrupted, and is made by all ranks of torchrun together."""
    is_long: bool = False
    """Whether it is worth a process of its own."""
    is_result: bool = False
    """Whether people ask for it: what no result was made from may be cleared away."""
    takes_diverged: bool = False
    """Whether it can be made although a network that it reads diverged."""

    @property
    def name(self) -> str:
        """Value of the field `stage` of its configs."""
        return self.config.model_fields["stage"].default


def _cost_of_network(config: TeacherConfig | StudentConfig) -> Sequence[Config | str]:
    return [config.data, config.model, config.augment, config.schedule, config.precision]


def _cost_of_cache(config: CacheConfig) -> Sequence[Config | str | int | None]:
    models = [teacher.model for teacher in config.teachers]
    return [config.transfer_set, config.augment, config.views, config.dtype, config.top_k, *models]


_NETWORK: dict[str, Any] = {
    "reads": lambda config: config.data,
    "costs_like": _cost_of_network,
    "resumes": True,
    "is_long": True,
}

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(TeacherConfig, "teachers", titles.of_teacher, "distill.stages.teacher:train_teacher", **_NETWORK),
        Stage(
            CacheConfig,
            "caches",
            titles.of_cache,
            "distill.stages.cache:cache_logits",
            reads=lambda config: config.transfer_set,
            costs_like=_cost_of_cache,
            resumes=True,
        ),
        Stage(StudentConfig, "students", titles.of_student, "distill.stages.student:train_student", **_NETWORK),
        Stage(CalibrationConfig, "calibrations", titles.of_calibration, "distill.stages.calibration:calibrate"),
        Stage(
            AnalysisConfig,
            "analyses",
            titles.of_analysis,
            "distill.stages.analysis:analyse",
            is_long=True,
            takes_diverged=True,
        ),
        Stage(
            SweepConfig,
            "sweeps",
            titles.of_sweep,
            "distill.stages.sweep:sweep",
            inputs=lambda config: iter(config.networks().values()),
            is_result=True,
            takes_diverged=True,
        ),
        Stage(
            ReportConfig,
            "reports",
            titles.of_report,
            "distill.stages.report:write",
            is_result=True,
            takes_diverged=True,
        ),
    )
}
"""Name → stage, those upstream first."""


def is_stage(value: Any) -> bool:
    """Tell whether a value is the config of a stage."""
    return isinstance(value, Config) and getattr(value, "stage", None) in STAGES


def inputs(config: StageConfig) -> list[StageConfig]:
    """List the configs of the artifacts that a stage reads."""
    return list(STAGES[config.stage].inputs(config))


def title(config: StageConfig) -> str:
    """Name an artifact for people; the key, not this, tells artifacts apart."""
    words = "-".join(STAGES[config.stage].title(config))
    # The last cut is in bytes, of which a name of a file has at most 255, with the key behind it.
    return re.sub(r"[^\w.=-]+", "-", words)[:80].encode()[:240].decode(errors="ignore")
