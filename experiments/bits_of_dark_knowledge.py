"""Which measure of a teacher predicts, before any student is trained, what its soft targets are worth?

A question of our own, after Müller et al. (2019) and Ye et al. (2024, who give a teacher more conditional mutual
information and get better students). Gain is what a student of soft targets has over one of labels that differs
in nothing else: test accuracy of the one minus that of the other, per seed and temperature. Candidates are all
scalars that the probe `knowledge` finds of training images and of held-out ones, at temperature 1, and the
accuracy on held-out images. None of them sees the test set, which serves only to measure the gain.

Our proposal, made before any result: `bits_beyond_top1_held_out`, how many bits about the labels of held-out
images the whole distribution carries beyond its top-1 answer, and its part `bits_classes_held_out`, which classes
are confused. The closest published scalar is conditional mutual information of training images; the naive one is
accuracy on held-out images.

Population: 42 teachers, one as it is and 41 in eight families that each vary one thing: smoothing in two
conventions (left out together, since one is the other with another ε), dropout, weight decay, mixup, early stopping
(at a constant rate), length and width. Students see a tenth of the teacher's images, without labels. Teachers at
chance are left out, with their students.

A measure is judged by its concordance: of all pairs of teachers, the share that it orders as the gain does, 0.5
being chance. Whether more of it is better is learned for each pair on the families of neither teacher; so is which
measure to take, for "best measure". (Leaving out one family only would put a measure that knows nothing above 0.5:
we tried it on noise.) The gain has noise of its own, so no measure need reach 1: the concordance of another seed's
gain, and of the mean gain of all other seeds, is reported beside. That mean is close to the most that a recipe's
name can tell; a measure may know more, since it sees the very teacher that taught.

Verdicts compare seeds in pairs: initial weights, order and students. All seeds share the 42 recipes, so intervals
say nothing of other kinds of teachers; for these stand the families left out, and the grey bars in the ranking, a
jackknife over families. Claims are fixed before the results and reported whatever comes out.

What departs from Ye et al.: they train teachers for more conditional mutual information, here it is only measured.
What the proposal costs: held-out images with labels, which students are not given.

Cost at `quick` on two CPU cores: 381 networks, 24 minutes while other work shared the cores. At `smoke` every
eighth recipe and one seed, and no verdict.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from distill.config import KnowledgeProbe
from distill.metrics.measures import Measure, Topic, of_kind
from distill.reports.experiment import Claim, Label, Published, Runs, Scale, Table
from experiments import gain_figures, gain_ranking
from experiments.base import DATA_OF_FIGURES, always, images_of, of_few, setting_of_figures
from experiments.conditions import OF_LABELS, caches, distilled, labelled
from experiments.gain_figures import ANOTHER_SEED, CHANCE, CHOSEN, OTHER_SEEDS, gain_of, measured_by, teacher_of
from experiments.prediction import chosen_without, left_out_concordance, rank_correlation
from experiments.teacher_population import base_of, families, kin, population

TEMPERATURES = (1.0, 4.0)
TRANSFER_SHARE = 0.1
"""Share of the teacher's images that students see: so few that the teacher knows more than their labels."""

_TWINS = ("wrong_mass_train", "wrong_mass_held_out", "equiangular_distance_held_out")
"""Measures that rank teachers exactly as others do: a multiple of the difficulty, a measure of weights alone."""
_OF_OWN_IMAGES = (
    f"{each.name}_{split}" for each in of_kind("knowledge", "features") for split in ("train", "held_out")
)
CANDIDATES = ("held_out_accuracy", *(name for name in _OF_OWN_IMAGES if name not in _TWINS))
"""Measures that may predict the gain: all that a teacher has of its own images, none of the test set."""

PROPOSAL, PROPOSED_PART = "bits_beyond_top1_held_out", "bits_classes_held_out"
PUBLISHED, NAIVE = "conditional_mutual_information_train", "held_out_accuracy"
SPREAD = "interclass_variance_relative_train"

SEEDS = 3
"""Number of seeds, each of 42 teachers and 85 students."""

DATA = DATA_OF_FIGURES
_PREDICTED = Topic("What predicts the gain")
MEASURES = (
    Measure("concordance_T1", "concordance, T=1", "%", 1, _PREDICTED),
    Measure("concordance_T4", "concordance, T=4", "%", 1, _PREDICTED),
    Measure("rank_correlation_T1", "rank correlation, T=1", decimals=2, topic=_PREDICTED),
    Measure("rank_correlation_T4", "rank correlation, T=4", decimals=2, topic=_PREDICTED),
    Measure("gain", "gain", "points", 2),
)
# fmt: off
PAPER = [
    Published("Ye 2024, abstract: CIFAR-100 accuracy of students if teachers get more conditional mutual "
              "information", "up to 3.32 points more"),
    Published("Ye 2024, abstract: the same with 5 % of the images", "up to 5.72 points more"),
]
# fmt: on


def _claims(temperature: float) -> Iterator[Claim]:
    """Yield the claims about the gain at one temperature."""
    spread = "relative inter-class logit variance predicts it better than chance, on these recipes"
    compared = (
        ("accuracy", "our proposal predicts the gain better than accuracy does", PROPOSAL, NAIVE),
        ("information", "our proposal predicts it better than conditional mutual information", PROPOSAL, PUBLISHED),
        ("published", "conditional mutual information predicts it better than accuracy", PUBLISHED, NAIVE),
        ("spread", spread, SPREAD, None),
        ("chance", "our proposal predicts it better than chance, on these recipes", PROPOSAL, None),
    )
    measure, at = f"concordance_T{temperature:g}", f"T={temperature:g}"
    for id_, statement, of, versus in compared:
        against = measured_by(versus) if versus else CHANCE
        yield Claim(f"{id_}-{at}", f"{at}: {statement}", measure, measured_by(of), against, "higher")
    statement = f"{at}: the best measure, chosen on other families, predicts it better than accuracy"
    yield Claim(f"chosen-{at}", statement, measure, CHOSEN, measured_by(NAIVE), "higher")


CLAIMS = [claim for temperature in TEMPERATURES for claim in _claims(temperature)]


def distilled_of(name: str, temperature: float) -> str:
    """Name a student by its teacher and the temperature of its soft targets."""
    return f"student of {name}, T={temperature:g}"


def runs(scale: Scale, data: str) -> Runs:
    """Build every network of the experiment, under its label."""
    chosen = setting_of_figures(data, scale)
    base = base_of(chosen.teacher, scale, data)
    recipes = {name: recipe for family in population(base).values() for name, recipe in family.items()}
    if scale == "smoke":
        recipes = dict(list(recipes.items())[::8])
    student = of_few(chosen.student, images_of(data, scale), TRANSFER_SHARE, steps=2 / 3)
    built: Runs = {}
    for seed in range(min(SEEDS, chosen.seeds)):
        few = student.replace(seed=seed)
        taught = {name: recipe.replace(seed=seed) for name, recipe in recipes.items()}
        built |= labelled({OF_LABELS: few}, seed)
        for name, cache in caches(taught, few).items():
            built |= labelled({teacher_of(name): taught[name]}, seed)
            built |= labelled(distilled(few, {name: cache}, TEMPERATURES, distilled_of), seed)
    return built


probes = always(KnowledgeProbe(teachers_only=True))


class Gains(NamedTuple):
    """The gains of the students of one seed at one temperature, and the measures of their teachers."""

    names: tuple[str, ...]
    """Names of the teachers whose student, and whose student of labels, did not diverge."""
    gain: np.ndarray
    """Test accuracy minus the test accuracy of the student of labels, [n]."""
    measures: dict[str, np.ndarray]
    """Candidate → its value for each teacher, [n]; only those that all teachers have."""

    @property
    def families(self) -> list[str]:
        """Return the larger family (`kin`) of each teacher."""
        return [kin()[name] for name in self.names]


def gains_of(table: Table, seed: int, temperature: float) -> Gains:
    """Return the gains and measures of one seed, for teachers and students that learned."""
    of_labels = table.values.get(Label(OF_LABELS, seed), {}).get("accuracy", math.nan)
    gain = {
        name: table.values[student]["accuracy"] - of_labels
        for name in families()
        if (student := Label(distilled_of(name, temperature), seed)) in table.values
        and Label(teacher_of(name), seed) in table.values
        and math.isfinite(of_labels)
    }
    teachers = [table.values[Label(teacher_of(name), seed)] for name in gain]
    measures = {
        name: np.array([teacher[name] for teacher in teachers])
        for name in CANDIDATES
        if teachers and all(name in teacher for teacher in teachers)
    }
    return Gains(tuple(gain), np.array(list(gain.values())), measures)


def derived(table: Table) -> dict[Label, dict[str, float]]:
    """Return how well each measure predicts the gain of each seed, and the gains themselves.

    `rank_correlation_T*` and `concordance_T*` of "measure: …" and of what other seeds tell, `concordance_T*` of
    chance and of the measure chosen on other families; `gain` of "gain of …".
    """
    rows: dict[Label, dict[str, float]] = {}

    def put(condition: str, seed: int, **values: float) -> None:
        defined = {name: value for name, value in values.items() if math.isfinite(value)}
        if defined:
            rows.setdefault(Label(condition, seed), {}).update(defined)

    seeds = sorted({label.seed for label in table.values})
    by_temperature = {at: {seed: gains_of(table, seed, at) for seed in seeds} for at in TEMPERATURES}
    for at, seed in product(TEMPERATURES, seeds):
        gains = by_temperature[at][seed]
        correlation, concordance = f"rank_correlation_T{at:g}", f"concordance_T{at:g}"
        if not gains.measures:
            continue
        values = np.stack(list(gains.measures.values()))
        judged = left_out_concordance(values, gains.gain, gains.families)
        for name, rank, share in zip(gains.measures, rank_correlation(values, gains.gain), judged, strict=True):
            put(measured_by(name), seed, **{correlation: float(rank), concordance: float(share)})
        chosen = chosen_without(gains.measures, gains.gain, gains.families)
        put(CHOSEN, seed, **{concordance: chosen.concordance})
        if math.isfinite(chosen.concordance):
            put(CHANCE, seed, **{concordance: 0.5})
        for condition, others in _other_seeds(seed, seeds).items():
            if told := _told_by(gains, [by_temperature[at][other] for other in others]):
                put(condition, seed, **dict(zip((correlation, concordance), told, strict=True)))
    for at, seed in product(TEMPERATURES, seeds):
        gains = by_temperature[at][seed]
        for name, gain in zip(gains.names, gains.gain, strict=True):
            put(gain_of(name, at), seed, gain=float(gain))
    return rows


def _other_seeds(seed: int, seeds: list[int]) -> dict[str, list[int]]:
    """Return the next seed, in a circle so that each is asked once; and all seeds but this one."""
    following = seeds[(seeds.index(seed) + 1) % len(seeds)]
    others = [other for other in seeds if other != seed]
    return {ANOTHER_SEED: [following], OTHER_SEEDS: others} if others else {}


def _told_by(gains: Gains, others: list[Gains]) -> tuple[float, float] | None:
    """Return rank correlation and concordance of other seeds' mean gain, over teachers that all seeds have."""
    of_others = [dict(zip(other.names, other.gain, strict=True)) for other in others]
    rows = [row for row, name in enumerate(gains.names) if all(name in other for other in of_others)]
    if not rows:
        return None
    mean = np.array([np.mean([other[gains.names[row]] for other in of_others]) for row in rows])
    gain, families = gains.gain[rows], [gains.families[row] for row in rows]
    return float(rank_correlation(mean, gain)), float(left_out_concordance(mean, gain, families))


def draw(table: Table) -> Mapping[str, Any]:
    """Draw the figures of the report."""
    named = {
        PROPOSAL: "our proposal",
        PROPOSED_PART: "part of our proposal",
        PUBLISHED: "Ye et al. 2024",
        NAIVE: "the naive one",
        SPREAD: "after Müller et al. 2019",
    }
    seeds = sorted({label.seed for label in table.values})
    main = [gains for seed in seeds if (gains := gains_of(table, seed, TEMPERATURES[-1])).measures]
    chosen = [chosen_without(gains.measures, gains.gain, gains.families).shares for gains in main]
    return {
        "ranking": gain_ranking.ranking(table, kin(), CANDIDATES, named, chosen),
        "gain_by_measure": gain_figures.gain_by_measure(table, families(), CANDIDATES, PROPOSAL),
        "gains_by_family": gain_figures.gains_by_family(table, families()),
    }
