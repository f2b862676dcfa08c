"""Advice on a teacher, a student, a cache or a calibration."""

from __future__ import annotations

from collections.abc import Sequence

from distill.advice import about_network as network_says
from distill.advice import about_students, commands, recorded
from distill.advice.context import Context
from distill.advice.measures import Measures, Twin, hard_twin, measured
from distill.advice.shelf import is_hard
from distill.advice.statement import Advice, Command, Statement, Verdict, listed
from distill.advice.trials import Trial, trials_of
from distill.artifact import Artifact
from distill.config import CacheConfig, StudentConfig, TeacherConfig
from distill.losses.labels import in_uniform, is_usual
from distill.metrics.smoothing_warnings import strongest
from distill.metrics.verdict import FEWEST_SEEDS

STUDENTS = "Students that learned from it"
RECORDED = "Recorded results of this project: other networks, so a weaker basis"


def on_teacher(config: TeacherConfig, artefact: Artifact, context: Context) -> Advice:
    """Whether to distil from a trained teacher, at which temperature, and why."""
    found = measured(artefact, context.store)
    usable = found.values is not None
    # What smoothing took away is told by right labels only.
    twin = hard_twin(config, context.shelf, context.store) if usable and not found.noise else None
    trials = trials_of(config, context.settings)
    classes = len(artefact.data["classes"])
    smoothing = uniform_smoothing(config, classes)
    hints = recorded.statements(context.recorded, smoothing) if usable else []
    return Advice(
        subject=f"{artefact.path.name}: a teacher",
        verdict=verdict(found, trials, is_hard(config), _hint(context, smoothing)),
        sections={
            STUDENTS: about_students.about_each(trials),
            "What it is": [network_says.what_it_is(config), *_measured(found, config)],
            "What it knows beyond its answer": _dark(found, twin, config),
            # Where students say it, others' results would only take the place.
            RECORDED: [] if trials else hints,
        },
        unknown=unknown(config, found, trials, twin),
        commands=_commands(config, artefact, context, found, trials, twin),
    )


def uniform_smoothing(config: TeacherConfig, classes: int) -> float | None:
    """ε in the uniform convention; None where no single ε says what its labels are."""
    if not is_usual(config):
        return None
    return in_uniform(config.smoothing, config.smoothing_convention, classes)


def _hint(context: Context, smoothing: float | None) -> Statement | None:
    """The temperature to try first, by recorded results; the lowest of those that were the best somewhere."""
    if smoothing is None or not (best := recorded.best_temperatures(context.recorded, smoothing)):
        return None
    sources = [
        result.source.rpartition("/")[2]
        for result in context.recorded
        if recorded.best_temperatures([result], smoothing)
    ]
    span = f"{min(best):g}" if len(best) == 1 else f"from {min(best):g} to {max(best):g}, by setting"
    text = f"in recorded results of other networks the best temperature was {span}"
    return Statement(text, listed(sources), {f"T={T:g}": T for T in sorted(best)})


def verdict(found: Measures, trials: Sequence[Trial], hard: bool, hint: Statement | None) -> Verdict:
    """The answer in one line: of its own students if there are any, and then of what was measured of itself."""
    if found.diverged:
        text = f"{found.diverged}. Such a network has nothing to teach."
        return Verdict("no", Statement(text, found.basis, {"images": found.images}))
    if trials:
        return about_students.verdict(trials, hard)
    if found.values is None:
        text = "no student in this store has learned from it, and it has no held-out images to measure it on."
        return Verdict("not-known", Statement(text, "its record, this store: 0 students"))
    text, basis = "no student in this store has learned from it", "this store: 0 students"
    if hint is None:
        return Verdict("not-known", Statement(f"{text}; the commands below train some.", basis))
    return Verdict("not-known", Statement(f"{text}; {hint.text}.", f"{basis}; {hint.basis}", hint.numbers))


def _measured(found: Measures, config: TeacherConfig | StudentConfig) -> list[Statement]:
    if found.values is None:
        why = f"It counts as diverged: {found.diverged}." if found.diverged else "It has no held-out images."
        basis = found.basis if found.diverged else "its record"
        return [Statement(f"{why} Nothing else is measured.", basis)]
    return [*network_says.how_good(found, strongest(config) > 0), *network_says.how_soft(found)]


def _dark(found: Measures, twin: Twin | None, config: TeacherConfig) -> list[Statement]:
    if found.values is None:
        return []
    said = network_says.dark_knowledge(found)
    if twin:
        said.append(network_says.beside_twin(found, twin))
    elif not is_hard(config) and not found.noise:
        text = "What smoothing took away of it is not measured: no network of its recipe has hard labels here."
        said.append(Statement(text, "this store: 0 networks"))
    return said


def unknown(
    config: TeacherConfig | StudentConfig, found: Measures, trials: Sequence[Trial], twin: Twin | None
) -> list[Statement]:
    """What the figures do not cover, each with what they do cover."""
    said = []
    if trials:
        basis = about_students.basis(trials)
        said.append(Statement("Students of other networks, images, schedules or losses than those above.", basis))
        text = (
            "The temperature told is the best of those tried on these images, and its accuracy a little too high."
            " In differences each seed has the one that is best on the other seeds, of the same images."
        )
        said.append(Statement(text, basis))
        if len(trials) > 1:
            text = (
                "Which differences are chance: of comparisons without any, one in twenty counts as decided with one"
                " temperature; with eight, over up to ten seeds, up to one in seven of those with labels and one in"
                " four of those with another teacher (simulated). Settings that share their teachers err together."
            )
            said.append(Statement(text, basis))
        if all(trial.teachers == 1 for trial in trials):
            text = "All its students are of one network: intervals say nothing of another training of its recipe."
            said.append(Statement(text, basis))
    else:
        said.append(
            Statement(
                "What a student gains from it, and at which temperature: nothing is measured.",
                "this store: 0 students",
            )
        )
    if found.images:
        right = ": their labels are right" if found.noise else ""
        text = f"Other images than those of {config.data.name}, and its test images, which were not read{right}."
        said.append(Statement(text, found.basis))
    if twin is None and isinstance(config, TeacherConfig) and is_hard(config) and not any(t.rivals for t in trials):
        text = "Whether the same teacher with label smoothing would teach better: nothing is measured."
        said.append(Statement(text, "this store: no students of one"))
    return said


def _commands(
    config: TeacherConfig,
    artefact: Artifact,
    context: Context,
    found: Measures,
    trials: Sequence[Trial],
    twin: Twin | None,
) -> list[Command]:
    where = context.where
    if found.diverged:
        return []
    said: list[Command] = []
    if found.values is None:
        said.append(commands.with_held_out(config, where))
    elif not trials or max(trial.seeds for trial in trials) < FEWEST_SEEDS:
        plain = CacheConfig(teacher=config, transfer_set=config.data)
        said += commands.distil(config, where, (1.0, 4.0), cached=context.store.find(plain) is not None)
    if found.values and twin is None and not is_hard(config) and not found.noise:
        said.append(commands.train_hard(config, where))
    if config.data.name != "translation":
        said += [commands.hurts(config.data.name, where), commands.sweep(config, config.data.name, where)]
    return [*said, commands.read_test(artefact.record.key, where)]


def on_student(config: StudentConfig, artefact: Artifact, context: Context) -> Advice:
    """What a student would be as a teacher, and how closely it follows its own."""
    found = measured(artefact, context.store)
    if found.diverged:
        answer = verdict(found, [], hard=False, hint=None)
    else:
        text = "no student in this store has learned from a student; a cache takes a teacher, or imported logits."
        answer = Verdict("not-known", Statement(text, "this store: 0 students"))
    usable = found.values is not None
    own = config.cache.teacher if config.cache else None
    again = []
    if isinstance(own, TeacherConfig) and (teacher := context.store.find(own)):
        line = commands.line(["distill", "advise", teacher.record.key[:12]], context.where)
        again = [Command("Advice on its teacher", line)]
    return Advice(
        subject=f"{artefact.path.name}: a student",
        verdict=answer,
        sections={
            "What it is": [
                network_says.what_it_is(config),
                *_measured(found, config),
                *network_says.fidelity(found),
            ],
            "What it knows beyond its answer": network_says.dark_knowledge(found) if usable else [],
        },
        unknown=unknown(config, found, [], None),
        commands=[*again, commands.read_test(artefact.record.key, context.where)],
    )
