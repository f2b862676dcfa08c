"""The command `distill`: one function per subcommand, no logic of its own."""

from __future__ import annotations

import json
import sys
import warnings
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from distill.artifact import Artifact, key
from distill.config import AugmentConfig, Config, DataConfig, SweepConfig
from distill.errors import UserError
from distill.flags import SWEEP, parse_call, parse_config
from distill.runtime import Folders, Runtime
from distill.store import ArtifactStore

if TYPE_CHECKING:
    from distill.plan import Plan

Name = Annotated[str, tyro.conf.Positional, tyro.conf.arg(help="Path of an artefact, or its key.")]
Names = Annotated[tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(help="Paths or keys; none means all.")]
# Their defaults are the models' own, made when a command runs and not when this file is read.
Where = Annotated[Folders, tyro.conf.arg(name="")]
How = Annotated[Runtime, tyro.conf.arg(name="")]


@dataclass(frozen=True)
class ExperimentFlags:
    """Which experiment, on what, how large."""

    experiment: tyro.conf.Positional[str] = "dark_knowledge"
    """Name of a file in experiments/, or "all"."""
    data: str | None = None
    """The data set to run on; None takes each experiment's own."""
    scale: Literal["smoke", "quick", "short", "paper"] = "quick"
    """smoke takes seconds, quick minutes on two CPU cores; short the published nets with short schedules, for one
    GPU; paper the published schedules."""


Wanted = Annotated[ExperimentFlags, tyro.conf.arg(name="")]


def reproduce(*, wanted: Wanted, runtime: How) -> None:
    """Run an experiment, or all, as far as they are not done; print verdicts, write a page of all reports.

    Args:
        wanted: which experiment.
        runtime: machine, folders and switches.
    """
    from distill import pipeline
    from distill.stages.report_tables import format_overview, format_summary

    store = ArtifactStore(runtime.store)
    made = pipeline.reproduce(wanted.experiment, wanted.scale, wanted.data, store, runtime)
    summaries = [json.loads(report.file("summary.json").read_text()) for report in made.reports]
    if wanted.experiment == pipeline.ALL:
        print(format_overview(summaries))
    else:
        print(format_summary(summaries[0]))
        print(f"\nreport       {made.reports[0].path / 'index.html'}")
    _print_skipped(made.skipped)
    print(f"all reports  {made.page}")
    print(f"tensorboard  {runtime.store}   (tensorboard --logdir {runtime.store})")
    for name, error in made.failed.items():
        print(f"error: {name}: {error if isinstance(error, UserError) else repr(error)}", file=sys.stderr)
    if made.failed:
        print("`distill reproduce NAME` runs one of them alone and shows all of its error.", file=sys.stderr)
        raise SystemExit(1)


def _print_skipped(skipped: Mapping[str, UserError]) -> None:
    for name, reason in skipped.items():
        print(f"skipped      {name}: {reason}")


def _stage(command: str) -> Callable[[list[str]], None]:
    def run(arguments: list[str]) -> None:
        from distill.pipeline import ensure

        config, runtime = parse_config(command, arguments)
        made = ensure([config], ArtifactStore(runtime.store), runtime)[key(config)]
        assert isinstance(made, Artifact)
        for name, value in made.record.metrics.items():
            print(f"{name:24} {value:.4f}")
        print(made.path)

    return run


def _sweep_smoothing(arguments: list[str]) -> None:
    """Train one recipe with several strengths of smoothing, and say which to take for what use."""
    from distill.pipeline import ensure
    from distill.smoothing import check_sweep
    from distill.stages.sweep_page import format_sweep

    config, runtime = parse_config(SWEEP, arguments)
    assert isinstance(config, SweepConfig), "which this command's flags make"
    check_sweep(config, ArtifactStore(runtime.store), runtime)
    # What diverges is left out and told: other strengths still answer the question.
    made = ensure([config], ArtifactStore(runtime.store), runtime, tolerate_divergence=True)[key(config)]
    assert isinstance(made, Artifact)
    print(format_sweep(json.loads(made.file("sweep.json").read_text())))
    print(f"page         {made.path / 'index.html'}")
    print(f"tensorboard  {runtime.store}   (tensorboard --logdir {runtime.store})")


def evaluate(
    artefact: Name,
    split: Literal["test", "held_out"] = "test",
    measures: Literal["usual", "all"] = "usual",
    temperature: float = 1.0,
    *,
    runtime: How,
) -> None:
    """Print measures of a trained network from its stored predictions, or of a cache on its transfer set.

    Args:
        artefact: path of a teacher, student or cache, or its key.
        split: which predictions of a network.
        measures: usual are those of every report; all are those of dark knowledge and geometry too, of which some
            load the network and its images.
        temperature: of the soft targets that `--measures all` measures.
        runtime: machine and folders.
    """
    folder = ArtifactStore(runtime.store)
    found = folder.resolve(artefact)
    if measures == "all":
        _print_all(found, folder, runtime, split, temperature)
        return
    if temperature != 1:
        raise UserError("temperature", temperature, "1 for the usual measures", "Add --measures all.")
    usual = _of_cache(found, runtime) if found.config.stage == "cache" else _of_network(found, folder, split)
    for name, value in usual.items():
        print(f"{name:32} {value:.5g}")


def _print_all(
    found: Artifact,
    folder: ArtifactStore,
    runtime: Runtime,
    split: Literal["test", "held_out"],
    temperature: float,
) -> None:
    from distill.stages.evaluation import format_groups, measures_of_cache, measures_of_network

    if found.config.stage == "cache":
        groups = measures_of_cache(found, runtime, temperature)
    else:
        groups = measures_of_network(found, folder, runtime, split, temperature)
    print(format_groups(groups))


def _of_cache(cache: Artifact, where: Folders) -> dict[str, float]:
    from distill.cache import LogitCache
    from distill.data.datasets import load
    from distill.stages.analysis import measure_cache

    opened = LogitCache(cache)
    return measure_cache(opened, load(opened.config.transfer_set, where.data_root))


def _of_network(network: Artifact, folder: ArtifactStore, split: Literal["test", "held_out"]) -> dict[str, float]:
    from distill.config import StudentConfig
    from distill.network import network_config
    from distill.stages.analysis import measure, own_teacher

    config = network_config(network)
    teacher = own_teacher(config) if isinstance(config, StudentConfig) else None
    measured = measure(config, network, folder.find(teacher) if teacher else None, split)
    if measured.diverged:
        print(f"diverged: {measured.diverged}")
    return measured.values


def _plan(arguments: list[str]) -> None:
    """Say what would run, its bytes and its rough time; run nothing."""
    from distill import plan

    if arguments and arguments[0] in ("teacher", "cache", "student", SWEEP):
        config, runtime = parse_config(arguments[0], arguments[1:])
        _show_plan(plan.describe([config], ArtifactStore(runtime.store)), runtime)
    else:
        parse_call(_plan_experiment, arguments, "plan")()


def _plan_experiment(*, wanted: Wanted, runtime: How) -> None:
    """Say what an experiment, or all, would run, its bytes and rough time; `plan teacher|cache|student` one stage.

    Args:
        wanted: which experiment.
        runtime: machine, folders and switches.
    """
    from distill import pipeline, plan

    configs, skipped = pipeline.plan_reports(wanted.experiment, wanted.scale, wanted.data)
    _print_skipped(skipped)
    _show_plan(plan.describe(configs, ArtifactStore(runtime.store)), runtime)


def _show_plan(found: Plan, runtime: Runtime) -> None:
    print(found.text)
    found.refuse_small_disk(runtime.store)


def advise(
    subject: Annotated[
        str, tyro.conf.Positional, tyro.conf.arg(help="Path or key of an artefact, or the name of data.")
    ],
    json: bool = False,
    *,
    where: Where,
) -> None:
    """Say whether to distil from a trained network, at which temperature and why, from held-out measures only.

    Args:
        subject: a teacher, student, cache, calibration, sweep or report; or data: all that the store holds on it.
        json: print it for programs.
        where: folders.
    """
    from distill.advice import advise

    found = advise(subject, where)
    print(found.json() if json else found.text())


def calibrate(
    network: Name,
    method: Literal["temperature", "vector", "platt"] = "temperature",
    temperature: float | None = None,
    *,
    runtime: How,
) -> None:
    """Fit a map of a network's logits on its held-out images, and print calibration before and after.

    Args:
        network: path of a teacher or a student, or its key.
        method: temperature divides logits by T; vector has a scale and a bias per class; platt a sigmoid per class.
        temperature: one that you mean to divide its logits by: say too what that would do to its confidence.
        runtime: machine and folders.
    """
    from distill.export import calibrated
    from distill.stages.calibration import RELIABILITY, findings, format_measures

    folder = ArtifactStore(runtime.store)
    found = folder.resolve(network)
    made = calibrated(found, method, folder, runtime)
    print(format_measures(made), *findings(made, found, temperature), sep="\n")
    print(f"diagram      {made.path / RELIABILITY}")
    print(made.path)


def export(
    artefact: Name,
    to: Path,
    calibration: Literal["none", "temperature", "vector", "platt"] | None = None,
    *,
    runtime: How,
) -> None:
    """Write a network to a folder for others: weights, calibration, a description, and a program of torch.export.

    Args:
        artefact: path of a teacher, a student or a calibration, or its key.
        to: folder to write, new or empty.
        calibration: which is applied to its logits; None takes that of a calibration, and none for a network.
        runtime: machine and folders.
    """
    from distill.export import export

    folder = ArtifactStore(runtime.store)
    written = export(folder.resolve(artefact), to, calibration, folder, runtime)
    if written.no_program:
        print(f"no program: torch.export cannot trace this network ({written.no_program})", file=sys.stderr)
    print(written.folder)


def ls(
    stage: Annotated[
        Literal["all", "teacher", "cache", "student", "calibration", "analysis", "sweep", "report"],
        tyro.conf.Positional,
    ] = "all",
    *,
    where: Where,
) -> None:
    """List artefacts: key, stage, accuracy on the test set, path.

    Args:
        stage: only those of this stage.
        where: folders.
    """
    for artifact in ArtifactStore(where.store).all():
        if stage in ("all", artifact.config.stage):
            accuracy = artifact.record.metrics.get("test/accuracy")
            shown = f"{accuracy:.4f}" if accuracy is not None else ""
            print(f"{artifact.record.key[:8]}  {artifact.config.stage:8}  {shown:6}  {artifact.path}")


def show(artefact: Name, *, where: Where) -> None:
    """Print the record of an artefact: config, inputs, files, measures, provenance.

    Args:
        artefact: its path or key.
        where: folders.
    """
    print(ArtifactStore(where.store).resolve(artefact).record.model_dump_json(indent=2))


def verify(artefacts: Names = (), samples: int = 256, *, runtime: How) -> None:
    """Check files against their records, and of named caches pixels and logits; exit 1 if one differs.

    Args:
        artefacts: paths or keys; none means the files of all.
        samples: views of a named cache to make again, at random.
        runtime: machine and folders.
    """
    folder = ArtifactStore(runtime.store)
    unreadable = [] if artefacts else list(folder.unreadable())
    for path, reason in unreadable:
        print(f"damaged  {path}\n         {reason}")
    damaged, unproven = len(unreadable), 0
    for artifact in [folder.resolve(name) for name in artefacts] or folder.all():
        problems = artifact.problems()
        print(f"{'damaged' if problems else 'ok':8} {artifact.path}")
        for problem in problems:
            print(f"         {problem}")
        damaged += bool(problems)
        if artefacts and not problems and artifact.config.stage == "cache":
            found = _replayed(artifact, folder, runtime, samples)
            damaged += False in found
            unproven += None in found
    if damaged:
        print(f"{damaged} damaged or stale: delete these folders and run the same command again.")
    if unproven:
        print(f"{unproven} could not be proven: what is needed is not here.")
    if damaged or unproven:
        raise SystemExit(1)


def _replayed(cache: Artifact, folder: ArtifactStore, runtime: Runtime, samples: int) -> list[bool | None]:
    """Whether what was looked at still fits; None for what could not be looked at."""
    from distill.replay import replay

    found = list(replay(cache, folder, runtime, samples))
    for finding in found:
        word = {True: "ok", False: "FAILED", None: "unproven"}[finding.ok]
        print(f"{word:8} {finding.what}: {finding.found}")
    return [finding.ok for finding in found]


class ImportFlags(Config):
    """What is known of logits from elsewhere."""

    data: DataConfig = DataConfig()
    """The transfer set that they are answers to."""
    classes: tuple[str, ...] = ()
    """Names of the columns, or a file with a name on each line; none takes the data set's order."""
    values: Literal["logits", "probabilities", "log-probabilities"] = "logits"
    """What arrays hold."""
    mean: Literal["probabilities", "logits"] = "probabilities"
    """What is averaged when several arrays are given."""
    augment: AugmentConfig = AugmentConfig()
    """The view program that they are declared to be answers to."""
    view_seed: int = 0
    """Seed of the views."""
    dtype: Literal["float16", "float32"] = "float16"
    """How a logit is stored."""
    top_k: int | None = None
    """Keep only so many logits per view; None keeps what the files have."""
    teacher: str = ""
    """Who made them, in words."""


def import_(
    files: Annotated[tuple[Path, ...], tyro.conf.Positional],
    *,
    flags: Annotated[ImportFlags, tyro.conf.arg(name="")],
    runtime: How,
) -> None:
    """Make a cache of logits from elsewhere; what only their maker can know is marked as declared.

    Args:
        files: arrays [rows, classes] or [rows, view, classes] (.npy, .npz, .safetensors), several for their mean;
            or the folders of a TinyViT file set.
        flags: what is known of them.
        runtime: machine, folders and switches.
    """
    from distill.importing import import_logits

    fields = dict(flags)
    transfer_set = fields.pop("data")
    made = import_logits(files, ArtifactStore(runtime.store), runtime, transfer_set=transfer_set, **fields)
    for name, value in made.record.metrics.items():
        print(f"{name:24} {value:.4f}")
    print(made.path)


def gc(delete: bool = False, *, where: Where) -> None:
    """List what no run can use any more: drafts, notes of diverged runs, artefacts of older versions.

    Args:
        delete: delete it too.
        where: folders.
    """
    folder = ArtifactStore(where.store)
    for path, reason in folder.garbage():
        print(f"{reason:24} {path}")
        if delete:
            folder.delete(path)


def doctor(*, where: Where) -> None:
    """Check this machine: versions, device, data sets found, disk. Exit 1 if something will not work.

    Args:
        where: folders.
    """
    from distill.doctor import examine

    lines, healthy = examine(where.data_root, where.store)
    print("\n".join(lines))
    if not healthy:
        raise SystemExit(1)


_FUNCTIONS: dict[str, Callable[..., None]] = {
    "reproduce": reproduce,
    "evaluate": evaluate,
    "advise": advise,
    "calibrate": calibrate,
    "export": export,
    "ls": ls,
    "show": show,
    "import": import_,
    "verify": verify,
    "gc": gc,
    "doctor": doctor,
}
_HELP = """usage: distill COMMAND [flags]      (distill COMMAND --help lists the flags)

  reproduce  run an experiment, or all, as far as they are not done; print tables and verdicts
  plan       say what would run, its bytes and rough time; run nothing

  teacher    train a teacher, with or without label smoothing
  cache      write a teacher's logits on a transfer set
  import     make a cache of logits from elsewhere
  student    train a student, from a cache or from labels
  sweep-smoothing
             train one recipe with several strengths of smoothing; say which to take for what use

  evaluate   print the measures of a trained network or of a cache, or with --measures all every one
  advise     say whether to distil from a network, at which temperature, why, and what is not known
  calibrate  fit temperature, vector or Platt scaling on held-out images; print calibration before and after
  export     write a network and its calibration to a folder that others can use
  ls         list artefacts          show    print the record of one
  verify     check their files; of a cache that is named, make pixels and logits again
  gc         list or delete what is of no use any more
  doctor     check this machine: versions, device, data, disk"""


def main(arguments: list[str] | None = None) -> None:
    """Entry point of `distill` and of `python -m distill`; a user's mistake is one line and exit code 2."""
    command, *rest = (sys.argv[1:] if arguments is None else arguments) or ["--help"]
    warnings.filterwarnings("ignore", module="torch")  # theirs, about their own internals
    try:
        if command in ("-h", "--help"):
            print(_HELP)
        elif command in ("teacher", "cache", "student"):
            _stage(command)(rest)
        elif command == SWEEP:
            _sweep_smoothing(rest)
        elif command == "plan":
            _plan(rest)
        elif command in _FUNCTIONS:
            parse_call(_FUNCTIONS[command], rest, command)()
        else:
            raise UserError("command", command, "one of those in `distill --help`", "Check the spelling.")
    except UserError as error:
        print(f"error: {error}", file=sys.stderr)
        raise SystemExit(2) from None
    except OSError as error:
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
