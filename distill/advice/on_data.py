"""Advice on a data set: which teacher of the store to distil from, by everything that was measured on it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from typing import NamedTuple

from distill.advice import about_students, commands, recorded
from distill.advice.context import Context
from distill.advice.on_network import RECORDED
from distill.advice.on_sweep import SWEEP, choices
from distill.advice.statement import Advice, Command, Number, Statement, Verdict, counted, percent
from distill.advice.trials import ACCURACY, Trial, contenders, recipe_name
from distill.advice.words import data_words, held_out, teacher_words
from distill.artifact import Artifact
from distill.config import SweepConfig, TeacherConfig
from distill.errors import UserError
from distill.metrics.verdict import Interval, interval
from distill.reading import read_json

_TEACHERS = 6
"""Recipes of teachers that are told one by one."""


def on_data(name: str, context: Context) -> Advice:
    """Which teacher to take for students on these data, and at which temperature."""
    teachers = [each for each in context.shelf.of(TeacherConfig) if each[0].data.name == name]
    found = [
        (setting, ranked)
        for setting in context.settings
        if (ranked := [each for each in contenders(setting) if each[0].data.name == name])
    ]
    found.sort(key=lambda each: (not each[0].plain, -each[0].students(), each[0].words))
    sweeps = [each for each in context.shelf.of(SweepConfig) if each[0].teacher.data.name == name]
    groups = by_recipe(teachers)
    recipes = {recipe_name(config) for config, _ in teachers}
    keys = {recipe_name(config): artefact.record.key for config, artefact in reversed(teachers)}
    return Advice(
        subject=f"{name}: {counted(len(teachers), 'teacher')} of {counted(len(recipes), 'recipe')},"
        f" {counted(sum(setting.students() for setting, _ in found), 'student')} of soft targets and"
        f" {counted(len(sweeps), 'sweep')} in this store",
        verdict=verdict(name, [ranked for _, ranked in found], groups, keys),
        sections={
            "Which teacher taught best": about_settings([ranked for _, ranked in found], keys),
            "Teachers by held-out accuracy": about_teachers(groups, len(recipes)),
            "Sweeps of smoothing": [each for config, artefact in sweeps for each in _on_sweep(config, artefact)],
            RECORDED: [] if found else recorded.statements(context.recorded, 0.1),
        },
        unknown=_unknown(name, bool(found), bool(teachers)),
        commands=_commands(name, context, teachers, bool(found), bool(sweeps)),
    )


Ranked = Sequence[tuple[TeacherConfig, Trial]]
"""Teachers of one setting, the best first."""


class Recipe(NamedTuple):
    """Teachers of one recipe."""

    config: TeacherConfig
    accuracy: Interval
    """On held-out images, over seeds."""
    seeds: int
    key: str
    """Of the network with the lowest seed."""


def by_recipe(teachers: Iterable[tuple[TeacherConfig, Artifact]]) -> list[Recipe]:
    """Recipes with held-out accuracy over seeds, their number, and the key of one network; the best first.

    Only recipes of the most common held-out images are compared, of those with right labels if there are any:
    accuracy on others is another quantity.
    """
    splits: dict[tuple[bool, str], list[tuple[TeacherConfig, Artifact]]] = defaultdict(list)
    for config, artefact in teachers:
        if ACCURACY in artefact.record.metrics:
            right, images = config.data.label_noise == 0, repr(config.data.replace(limit=None))
            splits[right, images].append((config, artefact))
    if not splits:
        return []
    largest = max(splits, key=lambda split: (split[0], len(splits[split]), split[1]))
    groups: dict[str, list[tuple[TeacherConfig, Artifact]]] = defaultdict(list)
    for config, artefact in splits[largest]:
        groups[recipe_name(config)].append((config, artefact))
    rows = []
    for group in groups.values():
        first, artefact = min(group, key=lambda each: (each[0].seed, each[1].record.key))
        values = {config.seed: found.record.metrics[ACCURACY] for config, found in group}
        rows.append(Recipe(first, interval(values.values()), len(values), artefact.record.key))
    return sorted(rows, key=lambda row: (-row.accuracy.mean, row.key))


def about_settings(found: Sequence[Ranked], keys: Mapping[str, str]) -> list[Statement]:
    """For each setting of students the teacher that taught best, and who cannot be told from it."""
    said = [_about(ranked, keys) for ranked in found[: about_students.SHOWN]]
    if len(found) > about_students.SHOWN:
        hidden = counted(len(found) - about_students.SHOWN, "other setting")
        text = f"{hidden} not shown; `distill advise` of a teacher tells of its own."
        said.append(Statement(text, about_students.basis(trial for ranked in found for _, trial in ranked)))
    return said


def _about(ranked: Ranked, keys: Mapping[str, str]) -> Statement:
    teacher, trial = ranked[0]
    mean = trial.by_temperature[trial.best]
    text = f"{trial.setting}: {_named(teacher, keys)} at T = {trial.best:g}, {percent(mean.mean)}"
    numbers: dict[str, Number] = {
        "accuracy": mean.mean,
        "best_temperature": trial.best,
        "teacher": _named(teacher, keys),
    }
    if len(ranked) > 1:
        beaten = sum(rival.difference.verdict == "reproduced" for rival in trial.rivals)
        text += f"; better than {beaten} of {counted(len(ranked) - 1, 'other teacher')}"
        same = sum(rival.difference.verdict == "undecided" for rival in trial.rivals)
        text += f", not told apart from {same}" if same else ""
        numbers |= {"better than": beaten, "not told apart": same, "others": len(ranked) - 1}
    if trial.over_labels and trial.labels:
        text += (
            f"; over a student of labels ({percent(trial.labels.mean)}) {about_students.outcome(trial.over_labels)}"
        )
        numbers |= {"labels": trial.labels.mean, "over_labels": trial.over_labels.effect}
    trials = [trial for _, trial in ranked]
    return Statement(f"{text}{about_students.by_labels(trials)}.", about_students.basis(trials), numbers)


def _named(teacher: TeacherConfig, keys: Mapping[str, str]) -> str:
    """A recipe in words, with the key of one of its networks, if the store has one."""
    key = keys.get(recipe_name(teacher))
    return teacher_words(teacher) + (f" ({key[:8]})" if key else "")


def about_teachers(groups: Sequence[Recipe], recipes: int) -> list[Statement]:
    """The most accurate recipes of teachers, and of how many recipes they are the most accurate."""
    said = []
    for config, mean, seeds, key in groups[:_TEACHERS]:
        of = held_out((config.data.label_noise,))
        bounds = f" [{100 * mean.low:.1f}, {100 * mean.high:.1f}]" if seeds > 1 else ""
        text = (
            f"{teacher_words(config)}, {data_words(config.data)}, {counted(config.schedule.epochs, 'epoch')}:"
            f" {percent(mean.mean)}{bounds}{' of ' + of if config.data.label_noise else ''}; seed {config.seed} is"
            f" {key[:8]}."
        )
        numbers = {"accuracy": mean.mean, "low": mean.low, "high": mean.high, "key": key}
        said.append(Statement(text, f"this store: {counted(seeds, 'seed')}, {of}", numbers))
    if recipes > len(groups):
        text = (
            f"{recipes - len(groups)} of {counted(recipes, 'recipe')} are not compared: they held out other images"
            f" or none, or their labels are wrong by design."
        )
        said.append(Statement(text, "their records", {"recipes": recipes, "compared": len(groups)}))
    return said


def verdict(name: str, found: Sequence[Ranked], groups: Sequence[Recipe], keys: Mapping[str, str]) -> Verdict:
    """The teacher that taught best in most settings; without students the most accurate one, which is a guess."""
    if found:
        # Settings of right labels, and of two teachers, as far as there are any: others rank none.
        right = [ranked for ranked in found if not ranked[0][1].data.label_noise] or found
        told = [ranked for ranked in right if len(ranked) > 1] or right
        return about_students.weighed(_of_students(told, keys), [ranked[0][1].data for ranked in told])
    if not groups:
        return Verdict("not-known", Statement(f"this store has no teacher on {name}.", "this store: 0 networks"))
    config, mean, seeds, _ = groups[0]
    text = (
        f"no student in this store has learned from a teacher on {name}. The most accurate teacher is"
        f" {teacher_words(config)} ({percent(mean.mean)}); what it teaches is not measured."
    )
    basis = (
        f"this store: {counted(len(groups), 'recipe')}, {counted(seeds, 'seed')} of this one, 0 students,"
        f" {held_out((config.data.label_noise,))}"
    )
    return Verdict("not-known", Statement(text, basis, {"accuracy": mean.mean}))


def _of_students(found: Sequence[Ranked], keys: Mapping[str, str]) -> Verdict:
    """Which teacher was the first most often, and whether its students gain; there is at least one setting."""
    basis = about_students.basis(trial for ranked in found for _, trial in ranked)
    firsts = Counter(recipe_name(ranked[0][0]) for ranked in found)
    best, most = min(firsts.items(), key=lambda each: (-each[1], each[0]))
    own = [ranked for ranked in found if recipe_name(ranked[0][0]) == best]
    teacher = _named(own[0][0][0], keys)
    trials = [ranked[0][1] for ranked in own]
    gains, losses, unsure = about_students.over_labels(trials)
    at = about_students.temperature(trials)
    numbers: dict[str, Number] = {"teacher": teacher, "settings": len(found), "best in": most, "gains": gains}
    if len(found[0]) > 1:
        # The rivals of a trial are those with which it has seeds and a temperature in common.
        alone = sum(
            len(trial.rivals) == len(ranked) - 1
            and all(rival.difference.verdict == "reproduced" for rival in trial.rivals)
            for ranked, trial in zip(own, trials, strict=True)
        )
        numbers["told apart from all others"] = alone
        text = (
            f"{teacher} taught best in {most} of {counted(len(found), 'setting')} with two or more teachers, told"
            f" apart from all others in {alone or 'none'}; {at}"
        )
    else:
        text = f"no setting has students of two teachers; {teacher} taught in {most} of {len(found)}; {at}"
    if losses and not gains:
        text = (
            f"even the students of {teacher}, the best teacher in most settings, are less accurate than those of"
            f" labels in {losses} of {counted(most, 'setting')}."
        )
        return Verdict("rather-not", Statement(text, basis, numbers))
    if not gains:
        text = f"that distillation gains anything over labels is undecided; so far {text}."
        return Verdict("not-known", Statement(text, basis, numbers))
    if losses:
        over = f"Its students gain over labels in {gains} and lose in {losses}"
    else:
        over = f"Its students are more accurate than those of labels in {gains} of {gains + unsure} of them"
    sure = most == len(found) and not losses
    text = f"{'' if sure else 'look at your setting: '}{text}. {over}."
    return Verdict("use" if sure else "use-but", Statement(text, basis, numbers))


def _on_sweep(config: SweepConfig, artefact: Artifact) -> list[Statement]:
    try:
        return choices(read_json(artefact.file(SWEEP)), config.teacher.data)
    except UserError:
        return []


def _unknown(name: str, students: bool, teachers: bool) -> list[Statement]:
    said = []
    if students:
        text = "Other students, schedules and losses than those above; and chance chooses among many teachers too."
        said.append(Statement(text, "this store, held-out images"))
    else:
        said.append(Statement("What any student gains: nothing is measured.", "this store: 0 students"))
    if teachers:
        text = f"Other images than those of {name}, and its test images, which were not read."
        said.append(Statement(text, "this store, held-out images"))
    return said


def _commands(
    name: str,
    context: Context,
    teachers: Sequence[tuple[TeacherConfig, Artifact]],
    students: bool,
    sweeps: bool,
) -> list[Command]:
    where, said = context.where, list[Command]()
    groups = by_recipe(teachers)
    if groups:
        line = commands.line(["distill", "advise", groups[0].key[:12]], where)
        said.append(Command("Advice on the most accurate teacher", line))
        if not students:
            said += commands.distil(groups[0].config, where, (1.0, 4.0), cached=False)
    if not sweeps:
        said.append(commands.sweep(groups[0].config if groups else None, name, where))
    if name != "translation":
        said.append(commands.hurts(name, where))
    return said
