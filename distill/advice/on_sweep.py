"""Advice on a sweep of smoothings: which one to take for what use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from distill.advice import about_students, commands, recorded
from distill.advice.about_network import DARK
from distill.advice.context import Context
from distill.advice.on_network import RECORDED
from distill.advice.statement import Advice, Command, Number, Statement, Verdict, counted, listed
from distill.advice.trials import Trial, trials_of
from distill.advice.words import data_words, held_out, model_words
from distill.artifact import Artifact
from distill.config import DataConfig, SweepConfig, TeacherConfig
from distill.metrics.verdict import FEWEST_SEEDS
from distill.reading import read_json

SWEEP = "sweep.json"
_USES = {"accuracy": "For its own accuracy", "calibration": "For calibration", "teaching": "For teaching"}
_SHARES = ("accuracy", "confidence", "ece", "interclass_variance_relative")


def on_sweep(config: SweepConfig, artefact: Artifact, context: Context) -> Advice:
    """The three choices of a sweep in words, and what students in the store say of the one for teaching."""
    sweep = read_json(artefact.file(SWEEP))
    basis = sweep_basis(sweep, config.teacher.data)
    teacher = _chosen(config, sweep["choices"].get("teaching"))
    trials = trials_of(teacher, context.settings) if teacher else []
    return Advice(
        subject=f"{artefact.path.name}: a sweep of {counted(len(sweep['smoothings']), 'smoothing')}, of"
        f" {model_words(config.teacher.model)} on {data_words(config.teacher.data)}",
        verdict=verdict(sweep, basis, trials, teacher),
        sections={
            "Which smoothing for what": choices(sweep, config.teacher.data),
            "Students that learned from the one for teaching": about_students.about_each(trials),
            RECORDED: recorded.on_teaching(context.recorded),
        },
        unknown=_unknown(sweep, basis, trials),
        commands=_commands(teacher, context, trials, sweep),
    )


def sweep_basis(sweep: Mapping[str, Any], data: DataConfig) -> str:
    """What sentences on a sweep rest on."""
    seeds = counted(len(sweep["seeds"]), "seed")
    return f"this sweep: {sweep['data']}, {seeds} per smoothing, {held_out((data.label_noise,))}"


def choices(sweep: Mapping[str, Any], data: DataConfig) -> list[Statement]:
    """Each use with its smoothing, the figures and what cannot be told from it."""
    basis, said = sweep_basis(sweep, data), []
    for use, words in _USES.items():
        if not (choice := sweep["choices"].get(use)):
            said.append(Statement(f"{words}: no smoothing was chosen.", basis))
            continue
        measure = choice["measure"]
        numbers: dict[str, Number] = {"smoothing": choice["smoothing"], measure: choice["value"]}
        text = f"{words}: ε = {choice['smoothing']:g}, by {_measure(measure)} ({_value(measure, choice['value'])})."
        if choice["undecided"]:
            shown = listed([f"ε = {each:g}" for each in choice["undecided"]], "or")
            text += f" Not told apart from {shown}."
        if choice["reason"]:
            text += f" {choice['reason'].rstrip('.')}."
        if data.label_noise:
            text += f" That is by {held_out((data.label_noise,))}, and not known of right ones."
        said.append(Statement(text, basis, numbers | _means(sweep, measure)))
    if sweep["diverged"]:
        lost = counted(len(sweep["diverged"]), "network")
        text = f"{lost} diverged, and what is said here is of the others."
        said.append(Statement(text, basis, {"diverged": len(sweep["diverged"])}))
    return said


def _means(sweep: Mapping[str, Any], measure: str) -> dict[str, Number]:
    return {
        f"ε={row['smoothing']:g}": row["mean"]
        for row in sweep["rows"]
        if row["measure"] == measure and row["split"] == "held_out"
    }


def _measure(name: str) -> str:
    return name.upper() if name in ("nll", "ece") else DARK.get(name, name.replace("_", " "))


def _value(measure: str, value: float) -> str:
    return f"{100 * value:.1f} %" if measure in _SHARES else f"{value:.4g}"


def _chosen(config: SweepConfig, choice: Mapping[str, Any] | None) -> TeacherConfig | None:
    """The first network of the smoothing for teaching."""
    if not choice:
        return None
    return next(
        (network for (smoothing, _), network in config.networks().items() if smoothing == choice["smoothing"]), None
    )


def verdict(
    sweep: Mapping[str, Any], basis: str, trials: Sequence[Trial], teacher: TeacherConfig | None
) -> Verdict:
    """Which smoothing to teach with: by students if there are any, else by the measures, which know less."""
    choice = sweep["choices"].get("teaching")
    if not choice or teacher is None:
        return Verdict("not-known", Statement("no smoothing was chosen for teaching.", basis))
    numbers: dict[str, Number] = {"smoothing": choice["smoothing"]}
    if trials:
        found = about_students.verdict(trials, is_hard=choice["smoothing"] == 0)
        # The answer is of its students; that they are of this teacher is the sweep's doing.
        text = f"{found.statement.text} This is of ε = {choice['smoothing']:g}: {_why(sweep, choice)}."
        return Verdict(
            found.answer,
            Statement(text, f"{basis}; {found.statement.basis}", {**numbers, **found.statement.numbers}),
        )
    text = (
        f"no student has learned from ε = {choice['smoothing']:g}, the choice for teaching: {_why(sweep, choice)}."
    )
    return Verdict("not-known", Statement(text, basis, numbers))


def _why(sweep: Mapping[str, Any], choice: Mapping[str, Any]) -> str:
    """What the choice for teaching says of the teacher, and what not."""
    if len(sweep["seeds"]) < FEWEST_SEEDS:
        what = "it is the most accurate, and the seeds are too few to say more"
    else:
        what = (
            f"of teachers not credibly less accurate than the best it has the largest {_measure(choice['measure'])}"
        )
    undecided = listed([f"ε = {each:g}" for each in choice["undecided"]], "or")
    open_to = f", not told apart from {undecided}" if choice["undecided"] else ""
    return f"{what}{open_to}; that is no proof that it teaches best"


def _unknown(sweep: Mapping[str, Any], basis: str, trials: Sequence[Trial]) -> list[Statement]:
    said = [
        Statement("Other recipes, and smoothings between those tried.", basis),
        Statement(f"Other images than those of {sweep['data']}, and its test images, which were not read.", basis),
    ]
    if not trials:
        text = "The choice for teaching is by a measure of the teacher: what students gain is not measured."
        said.insert(0, Statement(text, "this store: 0 students"))
    return said


def _commands(
    teacher: TeacherConfig | None, context: Context, trials: Sequence[Trial], sweep: Mapping[str, Any]
) -> list[Command]:
    said: list[Command] = []
    if teacher is not None:
        if not trials:
            said += commands.distil(teacher, context.where, (1.0, 4.0), cached=False)
        if network := context.store.find(teacher):
            line = commands.line(["distill", "advise", network.record.key[:12]], context.where)
            said.append(Command("Advice on the network that it chose for teaching", line))
    return [*said, commands.hurts(sweep["data"], context.where)]
