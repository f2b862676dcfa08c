"""The command `distill`: one function per subcommand, no logic of its own."""

from __future__ import annotations

import itertools
import os
import sys
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import tyro

from distill.artifact import FOLDERS, Artifact, key
from distill.config import AugmentConfig, Config, DataConfig, SweepConfig
from distill.errors import UserError, printable
from distill.executors.failures import StagesFailed
from distill.flags import SWEEP, parse_beside, parse_call, parse_config
from distill.reading import read_json
from distill.runtime import Folders, Runtime
from distill.store import ArtifactStore

if TYPE_CHECKING:
    from distill.config import StageConfig

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
    summaries = [read_json(report.file("summary.json")) for report in made.reports]
    if wanted.experiment == pipeline.ALL:
        _print(format_overview(summaries))
    else:
        _print(format_summary(summaries[0]))
        print(f"\nreport       {made.reports[0].path / 'index.html'}")
    _print_skipped(made.skipped)
    if made.page:
        print(f"all reports  {made.page}")
    print(f"tensorboard  {runtime.store}   (tensorboard --logdir {runtime.store})")
    if made.failed:
        raise StagesFailed(made.failed)


def _print(text: str) -> None:
    """Print lines in which words of somebody else may stand, without what a terminal would obey."""
    print(*map(printable, text.split("\n")), sep="\n")


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
            _print(f"{name:24} {value:.4f}")
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
    _print(format_sweep(read_json(made.file("sweep.json"))))
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
        _print(f"{name:32} {value:.5g}")


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
    _print(format_groups(groups))


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
        _print(f"diverged: {measured.diverged}")
    return measured.values


_STAGES = ("teacher", "cache", "student", SWEEP)


@dataclass(frozen=True)
class PlanFlags:
    """What is known of images that are not here, and of the machine where it will run."""

    shape: tuple[int, int, int, int, int, int] | None = None
    """Training and test images, channels, height, width and classes, such as 1281167 50000 3 224 224 1000."""
    tflops: float | None = None
    """10^12 operations per second that it reaches in training (a multiplication and an addition are two); None
    takes what this machine does. With --workers, the cores that render views there."""


def _plan(arguments: list[str]) -> None:
    """Say what would run, its bytes and its rough time; run nothing."""
    if not arguments or arguments[0] not in _STAGES:
        parse_call(_plan_experiment, arguments, "plan")()
        return
    is_help = "--help" in arguments or "-h" in arguments
    flags, rest = (PlanFlags(), arguments) if is_help else parse_beside(PlanFlags, arguments, "plan")
    configs: list[StageConfig] = []
    machine: dict[str, Any] = {}
    for is_between, words in itertools.groupby(rest, lambda word: word == "then"):
        if not is_between:
            command, *own = words
            if command not in _STAGES:
                raise UserError("then", command, f"one of {', '.join(_STAGES)}", "See distill plan --help.")
            config, runtime = parse_config(command, own, configs[-1] if configs else None)
            configs.append(config)
            machine |= {name: value for name, value in runtime if value != getattr(Runtime(), name)}
    _show_plan(configs, Runtime(**machine), flags)


def _plan_experiment(*, wanted: Wanted, flags: Annotated[PlanFlags, tyro.conf.arg(name="")], runtime: How) -> None:
    """Say what an experiment, or all, would run, its bytes and rough time, or what stages would, from their flags:
    `plan teacher FLAGS then cache FLAGS then student FLAGS`, where each learns from the one before.

    Args:
        wanted: which experiment.
        flags: of images and a machine that are not here.
        runtime: machine, folders and switches.
    """
    from distill import pipeline

    configs, skipped = pipeline.plan_reports(wanted.experiment, wanted.scale, wanted.data)
    _print_skipped(skipped)
    _show_plan(configs, runtime, flags)


def _show_plan(configs: Sequence[StageConfig], runtime: Runtime, flags: PlanFlags) -> None:
    from distill import plan

    shape = plan.shape_of(flags.shape) if flags.shape else None
    found = plan.describe(configs, ArtifactStore(runtime.store), runtime, shape, flags.tflops)
    print(found.text)
    if flags.tflops is None:  # else it will run on another disk
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
    store = ArtifactStore(where.store)
    for each in FOLDERS if stage == "all" else (stage,):
        folder = str(store.root / FOLDERS[each])
        lines = (
            f"{entry.key[:8]}  {each:8}  {'' if entry.accuracy is None else f'{entry.accuracy:.4f}':6}  "
            f"{printable(f'{folder}/{entry.name}')}\n"
            for entry in store.entries(each)
            if not entry.problem
        )
        sys.stdout.writelines(lines)


def show(artefact: Name, *, where: Where) -> None:
    """Print the record of an artefact: config, inputs, files, measures, provenance.

    Args:
        artefact: its path or key.
        where: folders.
    """
    text = ArtifactStore(where.store).resolve(artefact).record.model_dump_json(indent=2)
    _print(text)


def verify(artefacts: Names = (), samples: int = 256, repair: bool = False, *, runtime: How) -> None:
    """Check files against their records, and of named caches pixels and logits; exit 1 if one differs.

    Args:
        artefacts: paths or keys; none means the files of all.
        samples: views of a named cache to make again, at random.
        repair: make those that are named and not whole again.
        runtime: machine and folders.
    """
    from distill import verification

    if repair and not artefacts:
        way_out = "Name artefacts that verify calls damaged."
        raise UserError("repair", True, "the names of what to make again", way_out)
    folder = ArtifactStore(runtime.store)
    damaged = unproven = 0
    for found in verification.examine(folder, [folder.resolve(name) for name in artefacts]):
        print(f"{'damaged' if found.problems else 'ok':8} {printable(str(found.path))}")
        for text in found.problems:
            print(f"         {printable(text)}")
        for text in found.unproven:
            print(f"unproven {printable(text)}")
        unproven += bool(found.unproven)
        if found.problems and repair:
            print(f"made     {verification.repair(found, folder, runtime)}")
            continue
        damaged += bool(found.problems)
        cache = found.artifact
        if artefacts and not found.problems and cache and cache.config.stage == "cache":
            replayed = _replayed(cache, folder, runtime, samples)
            damaged += False in replayed
            unproven += None in replayed
    if damaged:
        way_out = "make them again with `distill verify --repair NAME …`, or delete these folders and run the same"
        print(f"{damaged} damaged or stale: {way_out} command again.")
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
        print(f"{word:8} {printable(f'{finding.what}: {finding.found}')}")
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
        _print(f"{name:24} {value:.4f}")
    print(made.path)


def gc(delete: bool = False, drafts: bool = False, unreached: bool = False, *, where: Where) -> None:
    """List what no run can use any more, and how much room it takes; what a current artefact needs is not in it.

    Args:
        delete: delete it too.
        drafts: also what interrupted runs would go on from.
        unreached: also artefacts that no report and no sweep was made from.
        where: folders.
    """
    from distill.garbage import collect

    store = ArtifactStore(where.store)
    for line in collect(store, delete, drafts, unreached):
        print(printable(line))


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

_REST = "All that needs none of these is made. Run the same command again to try only what is missing."


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
        sys.stdout.flush()
    except UserError as error:
        print(f"error: {error}", *getattr(error, "__notes__", ()), sep="\n", file=sys.stderr)
        raise SystemExit(2) from None
    except StagesFailed as error:
        print(error, _REST, sep="\n", file=sys.stderr)
        raise SystemExit(1) from None
    except BrokenPipeError:  # as of `distill ls | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # for what Python flushes at its end
        raise SystemExit(1) from None
    except OSError as error:
        print(f"error: {error.filename or 'system'}: {error.strerror or error}", file=sys.stderr)
        raise SystemExit(2) from None
    except KeyboardInterrupt:
        print("interrupted; run the same command again to go on where it stopped", file=sys.stderr)
        raise SystemExit(130) from None
