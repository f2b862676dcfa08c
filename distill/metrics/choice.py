"""Choose a label smoothing for accuracy, for calibration or for teaching, by measures of held-out images.

Each use has its measure, and the choices differ:

- accuracy: the highest accuracy.
- calibration: the lowest expected calibration error. The question is whether a network says how sure it is, and ECE
  is the mean distance of "how sure" to "how often right". ECE is not a proper score: a network that knows only how
  frequent classes are has an ECE of 0. NLL is proper, but it falls with every right answer too, so choosing by NLL
  would often be choosing by accuracy. Networks of one recipe are about equally accurate, and among those ECE
  decides. The reason given with a choice says what NLL would have chosen.
- teaching: the largest inter-class logit variance relative to the squared gap, which no temperature restores. Only
  strengths whose accuracy is not credibly below the highest compete; with too few seeds to tell, the most accurate
  is taken. The measure says what there is to teach, not what students learn, and the reason says so.

Strengths are compared seed by seed, by the rule of `verdict.judge`. Each comparison has its own interval: there is
no correction for the number of comparisons, nor for having looked which strength is best.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from distill.metrics.measures import BY_NAME, Use, of_kind
from distill.metrics.verdict import FEWEST_SEEDS, Judgement, judge

CHOSEN_BY: dict[Use, str] = {each.use: each.name for each in of_kind("answers", "knowledge") if each.use}
"""Measure by which the smoothing for each use is chosen."""
_Compared = dict[float, Mapping[str, Mapping[int, float]]]
"""Smoothing → measure → seed → value, weakest smoothing first."""


@dataclass(frozen=True)
class Choice:
    """Say which label smoothing to take for one aim (accuracy, calibration or teaching), and why."""

    smoothing: float
    measure: str
    """Name of the measure by which the smoothing was chosen."""
    value: float
    """Mean of the measure over seeds, at the chosen smoothing."""
    undecided: tuple[float, ...]
    """Other strengths that the seeds cannot tell from the chosen one.

    With fewer than three seeds these are all other strengths that were compared.
    """
    reason: str
    """Reason for the choice in words, including what speaks against it."""


def choose(measured: Mapping[float, Mapping[str, Mapping[int, float]]]) -> dict[str, Choice]:
    """Choose the smoothing to take for "accuracy", for "calibration" and for "teaching".

    Only the strengths with the most seeds are compared, on the seeds that they share. Among equal strengths the
    weakest is taken.

    Args:
        measured: smoothing → measure → seed → value, of held-out images, all finite. `accuracy`, `ece` and
            `interclass_variance_relative` are needed. Reasons also mention `nll`, `scaled_ece` and
            `scaled_temperature` where they are given; the last two are of temperature scaling, fitted on other
            images than it is judged on.

    Raises:
        ValueError: there is no strength, or one of the needed measures is missing for a strength.
    """
    compared = _compared(measured)
    kept = _as_accurate(compared, _best(_means(compared, "accuracy"), "accuracy"))
    reasons = {"accuracy": _of_accuracy, "calibration": _of_calibration, "teaching": _of_teaching}
    left_out = [smoothing for smoothing in sorted(measured) if smoothing not in compared]
    fewer = f" Not compared, since it has fewer seeds: {listed(left_out)}." if left_out else ""
    chosen: dict[str, Choice] = {}
    for use, measure in CHOSEN_BY.items():
        among = kept if use == "teaching" else compared
        means = _means(among, measure)
        best = _best(means, measure)
        undecided = tuple(
            smoothing
            for smoothing in (compared if _too_few(compared) else among)
            if smoothing != best and _against(compared, measure, best, smoothing).verdict == "undecided"
        )
        reason = reasons[use](compared, best, kept)
        chosen[use] = Choice(best, measure, means[best], undecided, reason + fewer)
    return chosen


def listed(smoothings: list[float] | tuple[float, ...]) -> str:
    """Format values of label smoothing for people: "ε = 0, 0.1"."""
    return f"ε = {', '.join(f'{smoothing:g}' for smoothing in smoothings)}"


def _compared(measured: Mapping[float, Mapping[str, Mapping[int, float]]]) -> _Compared:
    """Drop smoothings with fewer seeds than another has (a network diverged); sort the rest in ascending order."""
    if not measured:
        raise ValueError("measured = {}: expected one strength of smoothing or more.")
    for smoothing, measures in measured.items():
        if missing := [name for name in CHOSEN_BY.values() if not measures.get(name)]:
            raise ValueError(f"no {', '.join(missing)} of ε={smoothing:g}: expected a value per seed.")
    # A strength with a diverged network is no recommendation, and must not cost the other strengths that seed.
    most = max(len(measures["accuracy"]) for measures in measured.values())
    return {
        smoothing: measures for smoothing, measures in sorted(measured.items()) if len(measures["accuracy"]) == most
    }


def _as_accurate(compared: _Compared, accurate: float) -> _Compared:
    """Return the smoothings whose accuracy is not credibly below the highest.

    With too few seeds to judge, only the strength of highest accuracy is returned.
    """
    if _too_few(compared):
        return {accurate: compared[accurate]}
    return {
        smoothing: measures
        for smoothing, measures in compared.items()
        if _against(compared, "accuracy", smoothing, accurate).verdict != "contradicted"
    }


def _too_few(compared: _Compared) -> bool:
    return len(next(iter(compared.values()))["accuracy"]) < FEWEST_SEEDS


def _means(compared: _Compared, measure: str) -> dict[float, float]:
    """Return the mean of a measure for each smoothing, over the seeds that all smoothings share.

    Where they share none, each mean is over the strength's own seeds.
    """
    shared = set.intersection(*(set(measures[measure]) for measures in compared.values()))
    means = {}
    for smoothing, measures in compared.items():
        kept = [measures[measure][seed] for seed in sorted(shared or measures[measure])]
        means[smoothing] = sum(kept) / len(kept)
    return means


def _best(means: Mapping[float, float], measure: str) -> float:
    """Return the smoothing with the best mean of a measure; among equal ones the weakest."""
    sign = -1 if BY_NAME[measure].best == "higher" else 1
    return min(means, key=lambda smoothing: (sign * means[smoothing], smoothing))


def _against(compared: _Compared, measure: str, smoothing: float, versus: float) -> Judgement:
    """Judge whether a measure is higher with one smoothing than with another, seed by seed."""
    return judge(compared[smoothing][measure], compared[versus][measure], "higher")


def _of_accuracy(compared: _Compared, best: float, _: _Compared) -> str:
    means = _means(compared, "accuracy")
    text = f"It has the highest mean held-out accuracy, {_percent(means[best])}"
    if best == 0 or 0.0 not in means:
        return f"{text}."
    gain = _against(compared, "accuracy", best, 0.0)
    between = f", 95 % interval {100 * gain.low:+.2f} to {100 * gain.high:+.2f}" if gain.seeds > 1 else ""
    return f"{text}; without smoothing {_percent(means[0.0])} ({100 * gain.effect:+.2f} points{between})."


def _of_calibration(compared: _Compared, best: float, _: _Compared) -> str:
    means = _means(compared, "ece")
    text = f"It has the lowest held-out ECE, {_percent(means[best])}"
    text += f" (without smoothing {_percent(means[0.0])})." if best and 0.0 in means else "."
    if all("nll" in measures for measures in compared.values()):
        by_nll = _means(compared, "nll")
        proper = min(by_nll, key=lambda smoothing: (by_nll[smoothing], smoothing))
        told = "the same" if proper == best else f"ε = {proper:g}"
        text += f" By NLL, which counts right answers too, it would be {told}."
    return text + _scaled(compared, best)


def _scaled(compared: _Compared, best: float) -> str:
    """Say what temperature scaling of the network without smoothing would do instead."""
    hard = compared.get(0.0, {})
    if "scaled_ece" not in hard:
        return ""
    only = {0.0: hard}
    at = f" by T = {_means(only, 'scaled_temperature')[0.0]:.2f}" if "scaled_temperature" in hard else ""
    scaled = _percent(_means(only, "scaled_ece")[0.0])
    text = f" Temperature scaling of the network without smoothing{at} would give {scaled}"
    verdict = judge(hard["scaled_ece"], compared[best]["ece"], "higher").verdict
    if verdict == "reproduced":
        return f"{text}, which is more{': here smoothing calibrates better' if best else ''}."
    if verdict == "contradicted":
        return f"{text}, which is less: for calibration alone no smoothing is needed."
    return f"{text}, which the seeds do not tell from it: for calibration alone smoothing may not be needed."


def _of_teaching(compared: _Compared, best: float, kept: _Compared) -> str:
    means = _means(kept, "interclass_variance_relative")
    if not any(means.values()):
        return "No strength has any inter-class variance, as with two classes; the weakest is taken."
    variance = "inter-class logit variance relative to the squared gap"
    if _too_few(compared):
        text = (
            f"Fewer than {FEWEST_SEEDS} seeds do not tell which others are as accurate, so the most accurate is "
            f"taken. Its {variance} is {_percent(means[best])}."
        )
    else:
        credible = f"whose held-out accuracy is not credibly below the highest ({listed(tuple(kept))})"
        text = (
            f"Of the strengths {credible} it has the largest {variance}, {_percent(means[best])}, which no "
            "temperature restores."
        )
        if worse := [smoothing for smoothing in compared if smoothing not in kept]:
            text += f" Less accurate: {listed(worse)}."
    return (
        f"{text} That is what there is to teach, not what students learn: the proof is to train students "
        "(`distill cache`, then `distill student`)."
    )


def _percent(share: float) -> str:
    return f"{100 * share:.2f} %"
