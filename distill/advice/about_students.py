"""Trials of students in the store → sentences, and the verdict that follows from them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from distill.advice.statement import Number, Statement, Verdict, counted, listed, percent, points
from distill.advice.trials import Rival, Trial
from distill.advice.words import held_out
from distill.config import DataConfig
from distill.metrics.verdict import FEWEST_SEEDS
from distill.metrics.verdict import Verdict as Paired

SHOWN = 5
"""Settings that are told one by one."""


def basis(trials: Iterable[Trial]) -> str:
    """What sentences on these trials rest on."""
    trials = list(trials)
    students = sum(trial.students for trial in trials)
    seeds = sorted({trial.seeds for trial in trials})
    span = f"{seeds[0]}" if len(seeds) == 1 else f"{seeds[0]} to {seeds[-1]}"
    noun = "seed" if seeds == [1] else "seeds"
    of = held_out(trial.data.label_noise for trial in trials)
    return f"this store: {counted(students, 'student')}, {span} {noun}, {of}"


def by_labels(trials: Iterable[Trial]) -> str:
    """By which labels accuracies are told, where some are wrong: "; accuracy is of held-out labels, of which …"."""
    noise = [trial.data.label_noise for trial in trials]
    return f"; accuracy is of {held_out(noise)}" if any(noise) else ""


def about_each(trials: Sequence[Trial], shown: int = SHOWN) -> list[Statement]:
    """A statement for each of the first settings, and one on how all came out."""
    said = _whose(trials) + [_about(trial) for trial in trials[:shown]]
    if len(trials) > 1:
        said.append(_overall(trials, hidden=max(0, len(trials) - shown)))
    return said


def _whose(trials: Sequence[Trial]) -> list[Statement]:
    students, own = sum(trial.students for trial in trials), sum(trial.own for trial in trials)
    if own == students:
        return []
    text = (
        f"{own} of the {counted(students, 'student')} learned from this very network, the others from networks of"
        f" its recipe with other seeds; what follows is of all of them."
    )
    return [Statement(text, basis(trials), {"students": students, "of this network": own})]


def _about(trial: Trial) -> Statement:
    mean = trial.by_temperature[trial.best]
    numbers: dict[str, Number] = {"best_temperature": trial.best, "accuracy": mean.mean, "seeds": trial.seeds}
    numbers |= {f"accuracy_T{T:g}": value.mean for T, value in trial.by_temperature.items()}
    text = f"{trial.setting}: best at T = {trial.best:g}, {percent(mean.mean)}"
    if len(trial.by_temperature) == 1:
        text += " (no other temperature was tried)"
    elif trial.untold:
        text += f", not told apart from T = {listed([f'{T:g}' for T in sorted(trial.untold)])}"
    else:
        text += f", better than each other T tried ({', '.join(f'{T:g}' for T in _others(trial))})"
    if trial.over_labels and trial.labels:
        text += f"; over a student of labels ({percent(trial.labels.mean)}) {outcome(trial.over_labels)}"
        numbers |= {"labels": trial.labels.mean, **_numbers("over_labels", trial.over_labels)}
    for rival in trial.rivals:
        if rival.is_hard or rival is _strongest(trial):
            text += f"; over students of {rival.words} at T = {rival.best:g} {outcome(rival.difference)}"
            numbers |= _numbers(f"over {rival.words}", rival.difference)
    return Statement(f"{text}{by_labels([trial])}.", basis([trial]), numbers)


def _strongest(trial: Trial) -> Rival | None:
    """The other smoothing that taught better, by the most."""
    better = [each for each in trial.rivals if not each.is_hard and each.difference.verdict == "contradicted"]
    return min(better, key=lambda rival: rival.difference.effect) if better else None


def _others(trial: Trial) -> list[float]:
    return [T for T in trial.by_temperature if trial.best != T]


def outcome(found: Paired) -> str:
    """A paired difference in words: "+1.2 points [+0.8, +1.6]", "undecided: +0.3 points, 2 seeds"."""
    effect = points(found.effect)
    if found.seeds < 2:
        return f"undecided: {effect}, {counted(found.seeds, 'seed')}"
    bounds = f"{effect} [{100 * found.low:+.2f}, {100 * found.high:+.2f}]"
    return bounds if found.verdict != "undecided" else f"undecided: {bounds}, {counted(found.seeds, 'seed')}"


def _numbers(name: str, found: Paired) -> dict[str, Number]:
    return {
        name: found.effect,
        f"{name} low": found.low,
        f"{name} high": found.high,
        f"{name} verdict": {"reproduced": "more", "contradicted": "less"}.get(found.verdict, "undecided"),
        f"{name} seeds": found.seeds,
    }


def _count(found: Iterable[Paired]) -> tuple[int, int, int]:
    """More, less, undecided."""
    verdicts = Counter(each.verdict for each in found)
    return verdicts["reproduced"], verdicts["contradicted"], verdicts["undecided"]


def over_labels(trials: Iterable[Trial]) -> tuple[int, int, int]:
    """In how many settings its students are more accurate than those of labels, less, undecided."""
    return _count(trial.over_labels for trial in trials if trial.over_labels)


def over_rivals(trials: Iterable[Trial], of_hard: bool) -> tuple[int, int, int]:
    """The same beside students of the hard teacher of its recipe; or, by comparison, of each other smoothing."""
    return _count(rival.difference for trial in trials for rival in trial.rivals if rival.is_hard == of_hard)


def _overall(trials: Sequence[Trial], hidden: int) -> Statement:
    best = Counter(trial.best for trial in trials)
    spread = listed(
        [f"T = {T:g} in {count}" for T, count in sorted(best.items(), key=lambda each: (-each[1], each[0]))]
    )
    text = (
        f"Over all {len(trials)} settings{f', {hidden} of them not shown' if hidden else ''}, the best was {spread}"
    )
    numbers: dict[str, Number] = {f"best_T{T:g}": count for T, count in sorted(best.items())}
    for name, (more, less, undecided) in {
        "those of labels": over_labels(trials),
        "those of the hard teacher": over_rivals(trials, of_hard=True),
        "those of other smoothings": over_rivals(trials, of_hard=False),
    }.items():
        if more + less + undecided:
            unit = " comparisons" if name == "those of other smoothings" else ""
            text += f"; more accurate than {name} in {more}{unit}, less in {less}, undecided in {undecided}"
            numbers |= {f"{name}: more": more, f"{name}: less": less, f"{name}: undecided": undecided}
    return Statement(f"{text}{by_labels(trials)}.", basis(trials), numbers)


def temperature(trials: Sequence[Trial]) -> str:
    """Which temperature to take, in words."""
    first = trials[0]
    if not any(len(trial.by_temperature) > 1 for trial in trials):
        return (
            f"at T = {first.best:g}, the only one tried"
            if len({t.best for t in trials}) == 1
            else "see below for T"
        )
    best = Counter(trial.best for trial in trials)
    if len(trials) == 1:
        return f"at T = {first.best:g}"
    most = max(best.values())
    usual = min(T for T, count in best.items() if count == most)
    if len(best) == 1:
        return f"at T = {usual:g}, the best in all {len(trials)} settings"
    if most == 1:
        tried = listed([f"T = {T:g}" for T in sorted(best)])
        return f"choose T on held-out images, {tried} were the best in one setting each"
    return f"start at T = {usual:g}, the best in {most} of {len(trials)} settings, and choose it on held-out images"


def verdict(trials: Sequence[Trial], is_hard: bool) -> Verdict:
    """What the students say of their teacher; there is at least one trial."""
    return weighed(_verdict(trials, is_hard), [trial.data for trial in trials])


def weighed(found: Verdict, data: Iterable[DataConfig]) -> Verdict:
    """A verdict that says so if it is by labels of which some are wrong by design, and is none if these mislead.

    Wrong labels of any other class, all alike, shrink the differences between networks and on average keep their
    sign, if fewer than half are wrong. Wrong labels of the next class need not.
    """
    noisy = [each for each in data if each.label_noise]
    if not noisy:
        return found
    labels, said = held_out(each.label_noise for each in noisy), found.statement
    if all(each.noise == "symmetric" and each.label_noise < 0.5 for each in noisy):
        answer = "use-but" if found.answer == "use" else found.answer
        text = f"{said.text} This is by {labels}, which makes differences smaller."
    else:
        answer, text = "not-known", f"by {labels}, the better network need not look better. They say: {said.text}"
    return Verdict(answer, Statement(text, said.basis, said.numbers))


def _verdict(trials: Sequence[Trial], is_hard: bool) -> Verdict:
    gains, losses, unsure = over_labels(trials)
    better, worse, _ = over_rivals(trials, of_hard=True)
    beaten = sum(_strongest(trial) is not None for trial in trials)
    where, at = basis(trials), temperature(trials)
    numbers: dict[str, Number] = {
        "gains": gains,
        "losses": losses,
        "undecided": unsure,
        "better than hard": better,
        "worse than hard": worse,
    }
    over = f"more accurate than those of labels in {_of(gains, gains + losses + unsure)}"

    def say(answer, text: str) -> Verdict:
        return Verdict(answer, Statement(text, where, numbers))

    if worse and not better:
        text = (
            f"train it without smoothing. Its students are less accurate than those of the same teacher with hard"
            f" labels in {counted(worse, 'setting')} and more in none"
        )
        labels = (
            f"; than those of labels they are more accurate in {_of(gains, gains + losses + unsure)}"
            if gains
            else ""
        )
        return say("rather-not", f"{text}{labels}. If you must: {at}.")
    if losses and not gains:
        fewer = f"less accurate than those of labels in {_of(losses, losses + unsure)}, and more in none"
        return say("rather-not", f"its students are {fewer}. Train from labels.")
    if gains and (losses or worse):
        buts = [f"less accurate than those of labels in {losses}"] if losses else []
        if worse:
            less, more = _images(trials, "contradicted"), _images(trials, "reproduced")
            buts.append(f"less accurate than those of the same teacher with hard labels in {worse}{less}")
            buts.append(f"more accurate than those in {better}{more}")
        return say("use-but", f"look at your setting: its students are {over}, {listed(buts)}. Temperature: {at}.")
    if gains and beaten:
        whose = "a smoothed teacher of its recipe" if is_hard else "the same teacher with another smoothing"
        return say(
            "use-but",
            f"{whose} taught better in {_of(beaten, len(trials))}: its students are {over}. Temperature: {at}.",
        )
    if gains:
        hard = f", and than those of the hard teacher in {better}, less in none" if better else ""
        return say("use", f"{at}. Its students are {over}{hard}.")
    if better:
        text = "not for sure: that its students gain over labels is not shown. They are more accurate than those of"
        return say("use-but", f"{text} the hard teacher in {counted(better, 'setting')}. Temperature: {at}.")
    if not gains + losses + unsure:
        return say("not-known", f"there is no student of labels to hold its students against; so far {at}.")
    few = max((trial.over_labels.seeds for trial in trials if trial.over_labels), default=0)
    because = f" ({counted(few, 'seed')}; {FEWEST_SEEDS} are the fewest)" if few < FEWEST_SEEDS else ""
    text = f"whether its students gain anything over labels is undecided in {counted(unsure, 'setting')}{because}"
    return say("not-known", f"{text}; so far {at}.")


def _images(trials: Iterable[Trial], verdict: str) -> str:
    """How many training images there were where students beat, or lost to, those of the hard teacher."""
    counts = [
        trial.data.limit
        for trial in trials
        if any(rival.is_hard and rival.difference.verdict == verdict for rival in trial.rivals)
    ]
    known = sorted({count for count in counts if count is not None})
    if not known or None in counts:
        return ""
    span = f"{known[0]:,}" if len(known) == 1 else f"{known[0]:,} to {known[-1]:,}"
    return f" (with {span} images)"


def _of(count: int, total: int) -> str:
    return f"{count} of {counted(total, 'setting')}"
