"""The population of teachers, and what is derived from a table in which one measure is the gain by construction."""

from __future__ import annotations

import math
from itertools import product

import numpy as np
import pytest

from distill.config import StudentConfig, TeacherConfig
from distill.metrics.measures import of_kind
from distill.metrics.verdict import judge
from distill.reports.experiment import Label, Table
from experiments import bits_of_dark_knowledge as bits
from experiments.base import setting_of_figures
from experiments.gain_figures import ANOTHER_SEED, CHANCE, CHOSEN, OTHER_SEEDS, gain_of, measured_by, teacher_of
from experiments.prediction import left_out_concordance
from experiments.teacher_population import base_of, families, population

ALL = tuple(families())
SMOKE = ALL[::8]
RANKS = ("rank_correlation_T1", "rank_correlation_T4")
SHARES = ("concordance_T1", "concordance_T4")


def _value(candidate: str, true: float, noise: float) -> float:
    """The proposal knows what students will gain, the measure of Ye et al. half of it, the others nothing."""
    if candidate == bits.PROPOSAL:
        return math.exp(true)
    return -true + 1.5 * noise if candidate == bits.PUBLISHED else noise


def table_of(names=SMOKE, seeds: int = 3, derive: bool = True) -> Table:
    rng = np.random.default_rng(0)
    table = Table()
    for seed in range(seeds):
        table.values[Label(bits.OF_LABELS, seed)] = {"accuracy": 0.8 + 0.01 * seed}
        for place, name in enumerate(names):
            true = (place * 5 % len(names)) / len(names)
            table.values[Label(teacher_of(name), seed)] = {
                "accuracy": 0.9,
                "conditional_mutual_information": true,
                **{candidate: _value(candidate, true, rng.normal()) for candidate in bits.CANDIDATES},
            }
            for temperature in bits.TEMPERATURES:
                student = Label(bits.distilled_of(name, temperature), seed)
                table.values[student] = {"accuracy": 0.8 + 0.01 * seed + 0.02 * true * temperature}
    if derive:
        table.values |= bits.derived(table)
    return table


@pytest.fixture(scope="module")
def half() -> Table:
    """Every second recipe."""
    return table_of(ALL[::2], seeds=5)


@pytest.mark.parametrize(
    ("scale", "data"),
    [
        ("smoke", "digits"),  # on other data one epoch is too few to tell lengths apart; none of them is run
        *product(("quick", "short", "paper"), ("digits", "fashion-mnist", "cifar10")),
    ],
)
def test_each_teacher_differs_from_the_base_in_one_field(scale, data):
    base = base_of(setting_of_figures(data, scale).teacher, scale, data)
    varied = population(base)
    assert varied["base"] == {"as it is": base}
    recipes = [recipe for family in varied.values() for recipe in family.values()]
    assert len(recipes) >= 40
    assert len(set(map(repr, recipes))) == len(recipes) or scale == "smoke"
    for family, members in varied.items():
        fields = list(TeacherConfig.model_fields)
        changed = [
            [name for name in fields if getattr(each, name) != getattr(base, name)] for each in members.values()
        ]
        assert all(names == changed[0] for names in changed)
        assert len(changed[0]) == (family != "base")


def test_names_are_of_one_family_at_every_scale():
    base = base_of(setting_of_figures("cifar10", "paper").teacher, "paper", "cifar10")
    named = [(name, family) for family, recipes in population(base).items() for name in recipes]
    assert len(dict(named)) == len(named)
    assert families() == dict(named)


def test_students_differ_in_their_teacher_and_temperature_alone():
    runs = bits.runs("quick", "fashion-mnist")
    of_labels = runs[Label(bits.OF_LABELS, 0)]
    assert isinstance(of_labels, StudentConfig)
    assert of_labels.loss.alpha == 0
    alike = {"cache": None, "loss": of_labels.loss, "seed": 0}
    students = [run for run in runs.values() if isinstance(run, StudentConfig)]
    assert len(students) == bits.SEEDS * (1 + 2 * len(ALL))
    assert {repr(student.replace(**alike)) for student in students} == {repr(of_labels)}
    for label, run in runs.items():
        if isinstance(run, StudentConfig) and run.cache:
            own = next(name for name in ALL if label.condition.startswith(f"student of {name}, T="))
            assert run.cache.teacher == runs[Label(teacher_of(own), label.seed)]
    assert list(families())[::8] == [
        label.condition.removeprefix("teacher, ")
        for label in bits.runs("smoke", "digits")
        if label.condition.startswith("teacher") and label.seed == 0
    ]


def test_candidates_are_all_that_is_measured_of_own_images_and_nothing_of_test_images():
    measured = {
        f"{measure.name}_{split}" for measure in of_kind("knowledge", "features") for split in ("train", "held_out")
    }
    # Those left out rank teachers exactly as others do.
    twins = {"wrong_mass_train", "wrong_mass_held_out", "equiangular_distance_held_out"}
    assert set(bits.CANDIDATES) == (measured - twins) | {"held_out_accuracy"}
    assert len(set(bits.CANDIDATES)) == len(bits.CANDIDATES)
    assert all(name == "held_out_accuracy" or name.endswith(("_train", "_held_out")) for name in bits.CANDIDATES)
    assert {bits.PROPOSAL, bits.PROPOSED_PART, bits.PUBLISHED, bits.NAIVE, bits.SPREAD} <= set(bits.CANDIDATES)


def test_claims_compare_what_is_derived():
    table = table_of()
    assert len(bits.CLAIMS) == 12
    assert len({claim.id for claim in bits.CLAIMS}) == 12
    for claim in bits.CLAIMS:
        assert table.by_seed(claim.condition, claim.measure).keys() == {0, 1, 2}, claim.id
        assert table.by_seed(claim.versus, claim.measure).keys() == {0, 1, 2}, claim.id
        assert claim.direction == "higher"
    assert {(claim.condition, claim.versus) for claim in bits.CLAIMS if claim.id.startswith("information")} == {
        (measured_by(bits.PROPOSAL), measured_by(bits.PUBLISHED))
    }


def test_the_measure_that_is_the_gain_is_perfect_and_its_claims_are_reproduced(half):
    table = half
    for measure in RANKS + SHARES:
        assert list(table.by_seed(measured_by(bits.PROPOSAL), measure).values()) == pytest.approx([1.0] * 5)
    found = {
        claim.id: judge(
            table.by_seed(claim.condition, claim.measure), table.by_seed(claim.versus, claim.measure), "higher"
        )
        for claim in bits.CLAIMS
    }
    for temperature in "14":
        for id_ in "accuracy", "information", "chosen":
            assert found[f"{id_}-T={temperature}"].verdict == "reproduced"
        assert found[f"chance-T={temperature}"].effect == 0.5
        assert found[f"spread-T={temperature}"].effect < 0.3
    for measure in SHARES:
        assert table.by_seed(CHOSEN, measure) == dict.fromkeys(range(5), 1)
        assert table.by_seed(CHANCE, measure) == dict.fromkeys(range(5), 0.5)
        for reference in ANOTHER_SEED, OTHER_SEEDS:
            assert table.by_seed(reference, measure) == dict.fromkeys(range(5), 1)
    assert table.by_seed(measured_by("conditional_mutual_information"), "concordance_T4") == {}
    trained = {label.condition for label in bits.runs("quick", "fashion-mnist")}
    assert trained.isdisjoint(label.condition for label in bits.derived(table_of(seeds=1)))


def test_gains_are_over_the_student_of_labels_of_the_same_seed():
    table = table_of()
    for name, true in zip(SMOKE, (0, 5, 4, 3, 2, 1), strict=True):
        for temperature in bits.TEMPERATURES:
            gains = table.by_seed(gain_of(name, temperature), "gain")
            assert gains == pytest.approx(dict.fromkeys(range(3), 0.02 * temperature * true / 6))


def test_sizes_of_gains_of_other_seeds_are_what_they_tell():
    table = table_of(derive=False)
    first, second = SMOKE[:2]
    for seed, name in ((1, first), (2, second)):
        table.values[Label(bits.distilled_of(name, 4), seed)]["accuracy"] += 0.055
    derived = bits.derived(table)
    gains = {
        seed: np.array([derived[Label(gain_of(name, 4), seed)]["gain"] for name in SMOKE]) for seed in range(3)
    }
    of_smoke = [families()[name] for name in SMOKE]
    for seed, following in ((0, 1), (1, 2), (2, 0)):
        expected = left_out_concordance(gains[following], gains[seed], of_smoke)
        assert derived[Label(ANOTHER_SEED, seed)]["concordance_T4"] == pytest.approx(float(expected))
        others = (sum(gains.values()) - gains[seed]) / 2
        expected = left_out_concordance(others, gains[seed], of_smoke)
        assert derived[Label(OTHER_SEEDS, seed)]["concordance_T4"] == pytest.approx(float(expected))


def test_what_diverged_is_left_out_in_pairs():
    table = table_of(derive=False)
    lost, at = SMOKE[1], 0
    table.diverged[Label(teacher_of(lost), at)] = "accuracy at chance"
    del table.values[Label(teacher_of(lost), at)]
    table.diverged[Label(bits.distilled_of(SMOKE[2], 4), at)] = "its teacher diverged"
    del table.values[Label(bits.distilled_of(SMOKE[2], 4), at)]
    del table.values[Label(bits.OF_LABELS, 2)]
    assert bits.gains_of(table, at, 4).names == (SMOKE[0], *SMOKE[3:])
    assert bits.gains_of(table, at, 1).names == (SMOKE[0], *SMOKE[2:])
    assert bits.gains_of(table, 1, 4).names == SMOKE
    assert bits.gains_of(table, 2, 4).names == ()
    derived = bits.derived(table)
    assert Label(gain_of(lost, 4), at) not in derived
    assert {label.seed for label in derived} == {0, 1}
    assert derived[Label(measured_by(bits.PROPOSAL), at)]["concordance_T4"] == 1


def test_a_measure_that_one_teacher_lacks_ranks_no_teachers_of_this_seed():
    table = table_of(derive=False)
    del table.values[Label(teacher_of(SMOKE[3]), 1)]["bits_known_train"]
    derived = bits.derived(table)
    assert Label(measured_by("bits_known_train"), 0) in derived
    assert Label(measured_by("bits_known_train"), 1) not in derived
    assert Label(measured_by("bits_known_held_out"), 1) in derived


def test_the_ranking_is_by_concordance_and_names_what_was_proposed(half):
    figure = bits.draw(half)["ranking"]
    (axes,) = figure.axes
    names = [tick.get_text() for tick in axes.get_yticklabels()]
    assert "bits beyond top1, held out ↑\n(our proposal)" in names[:2]
    assert "best measure, chosen\non other families" in names[:2]
    assert any(name.endswith("(Ye et al. 2024)") for name in names)
    assert 15 <= len(names) <= 21
    dots = [line for line in axes.lines if line.get_marker() == "o"]
    places = [float(np.ravel(line.get_xdata())[0]) for line in dots]
    assert len(places) == len(names)
    assert places == sorted(places, reverse=True)
    assert "bits beyond top1, held out (100% of pairs)" in figure.get_label()


def test_the_scatter_joins_smoothing_from_weak_to_strong():
    shown = ALL[:12]
    figure = bits.draw(table_of(shown, seeds=1))["gain_by_measure"]
    line = figure.axes[0].lines[0]
    joined = [name for name, family in families().items() if family in ("base", "smoothing")]
    true = [(shown.index(name) * 5 % 12) / 12 for name in joined]
    assert list(line.get_xdata()) == pytest.approx([math.exp(value) for value in true])
    assert list(line.get_ydata()) == pytest.approx([8 * value for value in true])


@pytest.mark.parametrize("seeds", [0, 1, 2])
@pytest.mark.parametrize("missing", [None, "gains", "measures", "teachers"])
def test_draws_what_is_there(seeds, missing):
    table = table_of(seeds=seeds, derive=False)
    for label in list(table.values):
        if missing == "gains" and label.condition.startswith("student of ε"):
            del table.values[label]
        elif missing == "measures" and label.condition.startswith("teacher"):
            table.values[label] = {"accuracy": 0.9}
        elif missing == "teachers" and label.condition.startswith("teacher"):
            table.diverged[label] = "accuracy at chance"
            del table.values[label]
    table.values |= bits.derived(table)
    figures = bits.draw(table)
    assert list(figures) == ["ranking", "gain_by_measure", "gains_by_family"]
    for name, figure in figures.items():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")
        empty = any(text.get_text() == "no run to draw" for axes in figure.axes for text in axes.texts)
        nothing = seeds == 0 or missing == "teachers" or (missing == "measures" and name != "gains_by_family")
        assert empty == nothing
