"""List all stages, with what the pipeline must know about each of them."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from distill.config import (
    AdoptedConfig,
    AnalysisConfig,
    CacheConfig,
    CalibrationConfig,
    Config,
    ReportConfig,
    StageConfig,
    StudentConfig,
    SweepConfig,
    TeacherConfig,
)
from distill.store import titles
from distill.system.references import referenced


def nested_stages(config: Config) -> Iterator[StageConfig]:
    """Yield the stage configs that a config contains, without those nested inside another stage config."""
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
    """Say what the pipeline must know about a stage."""

    config: type[StageConfig]
    folder: str
    """Name of the folder that holds the artifacts of this stage."""
    title: Callable[[Any], Sequence[str]]
    """Function of the config that returns the words of the title."""
    # A reference and not the function, so that computing a key does not import torch.
    run: str
    """Reference `package.module:function` to a function of (config, inputs, folder, runtime) → `Outcome`."""
    version: int = 1
    """Number to raise when the code gives other numbers for the same config, or when a default of it changes."""
    inputs: Callable[[Any], Iterator[StageConfig]] = nested_stages
    """Function that yields the configs of the artifacts that the stage needs."""
    resumes: bool = False
    """Whether the stage resumes where it was interrupted; all ranks of torchrun then run it together."""
    is_long: bool = False
    """Whether the stage is worth a process of its own."""
    is_result: bool = False
    """Whether people ask for the artifacts; an artifact that no result was made from may be deleted."""
    takes_diverged: bool = False
    """Whether the stage can run although a network that it reads diverged."""
    measures_of: tuple[str, ...] = ()
    """Kinds of measures, of the list in `distill.metrics.measures`, that the stage computes."""

    @property
    def name(self) -> str:
        """Return the name of the stage: the value of the field `stage` of its configs."""
        return self.config.model_fields["stage"].default

    @cached_property
    def measures(self) -> tuple[str, ...]:
        """Return the names of the measures that the stage may compute.

        They are part of its key, so that a new measure makes its artifacts anew.
        """
        if not self.measures_of:
            return ()
        listed = referenced("distill.metrics.measures:of_kind")(*self.measures_of)
        return tuple(sorted(each.name for each in listed))


_NETWORK: dict[str, Any] = {"resumes": True, "is_long": True}
_OF_ANALYSES = (
    *("answers", "knowledge", "targets", "teacher", "independent", "unseen class", "unseen classes"),
    "features",  # by the probe `knowledge`
)

STAGES: dict[str, Stage] = {
    stage.name: stage
    for stage in (
        Stage(TeacherConfig, "teachers", titles.of_teacher, "distill.stages.teacher:train_teacher", **_NETWORK),
        Stage(AdoptedConfig, "teachers", titles.of_adopted, "distill.stages.adopted:refuse_missing"),
        Stage(
            CacheConfig,
            "caches",
            titles.of_cache,
            "distill.stages.cache:cache_logits",
            version=2,
            resumes=True,
        ),
        Stage(StudentConfig, "students", titles.of_student, "distill.stages.student:train_student", **_NETWORK),
        Stage(
            CalibrationConfig,
            "calibrations",
            titles.of_calibration,
            "distill.stages.calibration:calibrate",
            measures_of=("answers",),
        ),
        Stage(
            AnalysisConfig,
            "analyses",
            titles.of_analysis,
            "distill.stages.analysis:analyse",
            is_long=True,
            takes_diverged=True,
            measures_of=_OF_ANALYSES,
        ),
        Stage(
            SweepConfig,
            "sweeps",
            titles.of_sweep,
            "distill.stages.sweep:sweep",
            inputs=lambda config: iter(config.networks().values()),
            is_result=True,
            takes_diverged=True,
            measures_of=("answers", "knowledge", "targets"),
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
"""All stages: name → stage, upstream stages first."""

FOLDERS: dict[str, Stage] = {}
"""Folder → the first stage whose artifacts lie in it: networks trained here and adopted ones share theirs."""
for _stage in STAGES.values():
    FOLDERS.setdefault(_stage.folder, _stage)


def is_stage(value: Any) -> bool:
    """Tell whether a value is the config of a stage."""
    return isinstance(value, Config) and getattr(value, "stage", None) in STAGES


def inputs(config: StageConfig) -> list[StageConfig]:
    """List the configs of the artifacts that a stage needs."""
    return list(STAGES[config.stage].inputs(config))


def title(config: StageConfig) -> str:
    """Return the title of an artifact: a short name for people, which other artifacts may share."""
    words = "-".join(STAGES[config.stage].title(config))
    # The last cut counts bytes: a file name has at most 255, and the title is followed by 50 for the key and by a
    # mark that the artifact is being deleted.
    return re.sub(r"[^\w.=-]+", "-", words)[:80].encode()[:200].decode(errors="ignore")
