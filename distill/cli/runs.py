"""Implement the commands that run or plan experiments and stages."""

from __future__ import annotations

import itertools
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any

from pydantic import BaseModel, ConfigDict

from distill.cli.arguments import RuntimeFlags, print_lines
from distill.cli.flag_names import error_text
from distill.cli.flags import Mark
from distill.cli.stage_flags import STAGE_FLAGS, parse_words
from distill.config import Scale, SweepConfig
from distill.errors import UserError
from distill.pipeline.executors.failures import StagesFailed
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.reading import read_json
from distill.system.runtime import Runtime

if TYPE_CHECKING:
    from distill.config import StageConfig


class ExperimentFlags(BaseModel):
    """Say which experiment to run, on which data set and at which scale."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    experiment: Annotated[str, Mark.POSITIONAL] = ""
    """Name of a file in experiments/, or "all"; without a name, an error lists the names."""
    data: str | None = None
    """The data set to run on; None takes each experiment's own."""
    scale: Scale = "quick"
    """smoke takes seconds, quick minutes on two CPU cores; short takes the published networks with short schedules,
    for one GPU; paper takes the published schedules."""


Wanted = Annotated[ExperimentFlags, Mark.UNPREFIXED]


def reproduce(*, wanted: Wanted, tables: bool = False, runtime: RuntimeFlags) -> None:
    """Run what is not done yet of an experiment, or of all; print the answer, write a page of all reports.

    Args:
        tables: print the result tables too; the report has them in any case.
    """
    from distill.pipeline import experiments
    from distill.reports import experiment_files
    from distill.reports.tables import format_overview, format_summary

    store = ArtifactStore(runtime.store)
    made = experiments.reproduce(wanted.experiment, wanted.scale, wanted.data, store, runtime)
    summaries = [read_json(report.file("summary.json")) for report in made.reports]
    if wanted.experiment == experiment_files.ALL:
        for summary in summaries if tables else ():
            print_lines(f"{summary['title']}\n\n{format_summary(summary, tables)}")
        print_lines(format_overview(summaries))
    else:
        print_lines(format_summary(summaries[0], tables))
        print_lines(f"report       {made.reports[0].path / 'index.html'}")
    _print_skipped(made.skipped)
    if made.page:
        print_lines(f"all reports  {made.page}")
    print_lines(f"tensorboard  {runtime.store}   (tensorboard --logdir {runtime.store})")
    if made.failed:
        raise StagesFailed(made.failed)


def _print_skipped(skipped: Mapping[str, UserError]) -> None:
    """Print one line per experiment that was left out, with the reason."""
    for name, reason in skipped.items():
        print_lines(f"skipped      {name}: {error_text(reason, ExperimentFlags.model_fields)}")


def make_stage(config: StageConfig, runtime: Runtime) -> None:
    """Run a stage and what it needs, and print its measures and its path; of a sweep, its tables and its page."""
    from distill.pipeline.graph import run

    if isinstance(config, SweepConfig):
        _make_sweep(config, runtime)
        return
    made = run(config, runtime=runtime)
    for name, value in made.record.metrics.items():
        print_lines(f"{name:24} {value:.4f}")
    print_lines(str(made.path))


def _make_sweep(config: SweepConfig, runtime: Runtime) -> None:
    """Run a sweep, and print its tables and the path of its page."""
    from distill.pipeline.graph import ensure
    from distill.pipeline.identity import identify_all
    from distill.reports.sweep_answers import format_sweep
    from distill.training.targets import check_sweep

    store = ArtifactStore(runtime.store)
    (known,) = identify_all([config], store, runtime)
    if store.find(known) is None:
        check_sweep(known, store, runtime)
    # Networks that diverge are left out and named: the other strengths still answer the question.
    made = ensure([known], store, runtime, tolerate_divergence=True)[key(known)]
    assert isinstance(made, Artifact)
    print_lines(format_sweep(read_json(made.file("sweep.json"))))
    print_lines(f"page         {made.path / 'index.html'}")
    print_lines(f"tensorboard  {runtime.store}   (tensorboard --logdir {runtime.store})")


class PlanFlags(BaseModel):
    """Tell what a plan cannot measure here: the shape of missing data, the speed of another machine."""

    model_config = ConfigDict(frozen=True, use_attribute_docstrings=True)

    shape: tuple[int, int, int, int, int, int] | None = None
    """Training and test images, channels, height, width and classes, such as 1281167 50000 3 224 224 1000."""
    tflops: float | None = None
    """10^12 operations per second that the machine reaches in training (a multiplication and an addition are two);
    None takes this machine's. With it, --workers are the cores that render views there."""


def plan(*, wanted: Wanted, flags: Annotated[PlanFlags, Mark.UNPREFIXED], runtime: RuntimeFlags) -> None:
    """Say what an experiment or some stages would run, with bytes and rough time; run nothing.

    For stages: `plan teacher FLAGS then cache FLAGS then student FLAGS`, where each learns from the one before.
    """
    from distill.pipeline import experiments

    configs, skipped = experiments.plan_reports(wanted.experiment, wanted.scale, wanted.data)
    _print_skipped(skipped)
    _show_plan(configs, runtime, flags)


def plan_stages(arguments: list[str]) -> None:
    """Plan the stages of `plan teacher FLAGS then cache FLAGS then student FLAGS`."""
    configs: list[StageConfig] = []
    machine: dict[str, Any] = {}
    asked: dict[str, Any] = {}
    for is_between, words in itertools.groupby(arguments, lambda word: word == "then"):
        if is_between:
            continue
        command, *own = words
        if command not in STAGE_FLAGS:
            raise UserError("then", command, f"one of {', '.join(STAGE_FLAGS)}", "See `distill plan --help`.")
        _refuse_no_cache(command, own, configs)
        config, runtime, beside = parse_words(command, own, configs[-1] if configs else None, PlanFlags, dry=True)
        configs.append(config)
        machine |= {name: value for name, value in runtime if value != getattr(Runtime(), name)}
        asked |= beside.model_dump(exclude_unset=True)
    _show_plan(configs, Runtime(**machine), PlanFlags(**asked))


def _refuse_no_cache(command: str, arguments: list[str], before: Sequence[StageConfig]) -> None:
    """Raise a UserError if a student that is planned after other stages would learn from none of them."""
    named = {"--cache", "--config"} & {word.partition("=")[0] for word in arguments}
    if command == "student" and before and before[-1].stage != "cache" and not named:
        expected = "then cache in between, or a student whose --cache names one"
        way_out = "Each stage learns from the one before: plan teacher … then cache … then student …"
        raise UserError("plan", f"{before[-1].stage} then student", expected, way_out)


def _show_plan(configs: Sequence[StageConfig], runtime: Runtime, flags: PlanFlags) -> None:
    from distill.audit import plan as audit

    if min(flags.shape or (1,)) < 1:
        raise UserError("shape", flags.shape, "six numbers of at least 1", "See `distill plan --help`.")
    if flags.tflops is not None and not 0 < flags.tflops < math.inf:
        raise UserError("tflops", flags.tflops, "a positive number", "Drop it to take this machine's.")
    shape = audit.shape_of(flags.shape) if flags.shape else None
    described = audit.describe(configs, ArtifactStore(runtime.store), runtime, shape, flags.tflops)
    print_lines(described.text, plan)
    if flags.tflops is None:  # with tflops it will run on another machine's disk
        described.refuse_small_disk(runtime.store)
