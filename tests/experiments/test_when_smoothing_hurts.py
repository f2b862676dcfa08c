"""The map: which networks stand behind a cell, what marks it, and which temperature is a teacher's best."""

import math
from functools import cache
from itertools import pairwise
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.patches import Rectangle

from distill.config import AugmentConfig, LossConfig, StudentConfig, TeacherConfig
from distill.data.sets.load import load
from distill.metrics.verdict import Judgement, judge
from distill.reports.experiment import Label, Table
from experiments import drawing, smoothing_map
from experiments import when_smoothing_hurts as hurts
from experiments.base import setting_of_figures

SCALES = "smoke", "quick", "short", "paper"
CASES = ("smoke", "digits"), ("quick", "fashion-mnist"), ("quick", "cifar10"), ("paper", "cifar10")
SIZES = 1, 3, 10, 30, 100

networks = cache(hurts.runs)


def students(scale, data):
    """Label → config of the students that learn from a teacher, of two seeds."""
    runs = networks(scale, data).items()
    return {at: run for at, run in runs if isinstance(run, StudentConfig) and run.cache and at.seed < 2}


def steps(config, images):
    """Steps that a schedule makes of so many images, and those of one epoch."""
    an_epoch = images // config.schedule.batch_size
    return config.schedule.epochs * an_epoch, an_epoch


def test_the_map_is_whole():
    runs = networks("quick", "fashion-mnist")
    assert {label.seed for label in runs} == set(range(5))
    conditions = {label.condition for label in runs}
    assert len(runs) == 5 * len(conditions) == 710
    main = {f"student of ε={e}, T={t}, {s}%" for e in (0, 0.1, 0.3, 0.6) for t in (1, 2, 4, 16) for s in SIZES}
    assert main | {f"student of labels, {size}%" for size in SIZES} < conditions
    assert sum(name.endswith(", augmented") for name in conditions) == 2 + 3 * (1 + 2 * 3)
    assert sum(name.endswith(", narrow") for name in conditions) == 3 * (1 + 3 * 3)


@pytest.mark.parametrize(("scale", "data"), CASES)
def test_students_of_a_point_differ_in_their_teacher_alone(scale, data):
    runs, found = networks(scale, data), students(scale, data)
    compared = 0
    for label, student in found.items():
        (teacher,) = student.cache.teachers
        smoothing = drawing.smoothing(label.condition)
        suffix = ", augmented" if "augmented" in label.condition else ""
        assert teacher == runs[Label(f"teacher ε={smoothing:g}{suffix}", label.seed)]
        assert (teacher.loss.smoothing, teacher.seed, student.seed) == (smoothing, label.seed, label.seed)
        assert student.loss == LossConfig(alpha=1, temperature=drawing.temperature(label.condition))
        twin = found[Label(label.condition.replace(f"ε={smoothing:g}", "ε=0"), label.seed)]
        (hard,) = twin.cache.teachers
        assert teacher.with_loss(smoothing=0) == hard
        assert student.replace(cache=student.cache.replace(teacher=hard)) == twin
        compared += student != twin
    assert compared > 0


@pytest.mark.parametrize(("scale", "data"), CASES)
def test_a_part_of_the_images_is_shown_for_as_many_steps(scale, data):
    usual = setting_of_figures(data, scale).student.schedule
    for label, student in students(scale, data).items():
        (teacher,) = student.cache.teachers
        share = float(label.condition.split(", ")[2].removesuffix("%")) / 100
        images = student.data.limit
        assert images == round(share * teacher.data.limit)
        assert student.data.replace(limit=teacher.data.limit) == teacher.data
        made, an_epoch = steps(student, images)
        wanted, _ = steps(student.replace(schedule=usual), teacher.data.limit)
        assert abs(made - wanted) <= an_epoch / 2
        # What a schedule does on the way, it does after as many steps.
        at = [epoch / student.schedule.epochs for epoch in student.schedule.decay_epochs]
        assert at == pytest.approx([epoch / usual.epochs for epoch in usual.decay_epochs])
        warmed = student.schedule.warmup_epochs / student.schedule.epochs
        assert warmed == pytest.approx(usual.warmup_epochs / usual.epochs)


def test_smaller_transfer_sets_lie_in_larger_ones(tmp_path: Path):
    runs = networks("quick", "digits").values()
    sets = {run.data.limit: run.data for run in runs if isinstance(run, StudentConfig)}
    assert all(run.data == sets[1000] for run in runs if isinstance(run, TeacherConfig))
    rows = [set(load(sets[limit], tmp_path).positions.tolist()) for limit in sorted(sets)]
    assert [len(found) for found in rows] == pytest.approx([10, 30, 100, 300, 1000], rel=0.02)
    assert all(smaller < larger for smaller, larger in pairwise(rows))


def test_only_augmented_students_see_views():
    for label, student in students("quick", "fashion-mnist").items():
        (teacher,) = student.cache.teachers
        assert student.cache.augment == teacher.augment
        assert (teacher.augment != AugmentConfig()) == ("augmented" in label.condition)
        assert (student.model.kwargs == {"widths": [16]}) == ("narrow" in label.condition)


@pytest.mark.parametrize("scale", SCALES)
def test_every_claim_is_about_what_is_measured(scale):
    table = Table()
    for label in networks(scale, "digits" if scale == "smoke" else "fashion-mnist"):
        table.values[label] = {"accuracy": 0.5, "held_out_accuracy": 0.5}
    derived = hurts.derived(table)
    assert not derived.keys() & table.values.keys()
    table.values |= derived
    claims = hurts.CLAIMS
    assert len({claim.id for claim in claims}) == len(claims) == 16
    for claim in claims:
        assert table.by_seed(claim.condition, claim.measure), claim.id
        assert table.by_seed(claim.versus, claim.versus_measure or claim.measure), claim.id


def test_the_papers_disagree_at_one_temperature_only():
    """Müller and Chandrasegaran say the opposite at T=1; where both mean the same, they say the same."""
    claims = {claim.id: claim for claim in hurts.CLAIMS}
    mueller, chandrasegaran = claims["mueller-100%-T1"], claims["chandrasegaran-T1"]
    assert (mueller.condition, mueller.versus) == (chandrasegaran.condition, chandrasegaran.versus)
    assert (mueller.direction, chandrasegaran.direction) == ("lower", "higher")
    costs = claims["chandrasegaran-T16"]
    assert (costs.measure, costs.versus_measure, costs.direction) == ("cost_T16", "cost_T1", "higher")


HARD = "student of ε=0, T={}, 10%"
BEST = "student of ε=0, best T, 10%"


def measured(points, seed=0):
    """A table of the hard teacher's students: temperature → (accuracy, held-out accuracy)."""
    table = Table()
    for temperature, (accuracy, held_out) in points.items():
        values = {"accuracy": accuracy, "held_out_accuracy": held_out}
        table.values[Label(HARD.format(temperature), seed)] = values
    return table


def test_the_best_temperature_is_that_of_held_out_images():
    table = measured({1: (0.9, 0.5), 4: (0.7, 0.6)})
    table.values[Label("student of labels, 10%", 0)] = {"accuracy": 0.6}
    assert hurts.derived(table) == {
        Label(BEST, 0): {
            "accuracy": 0.7,
            "held_out_accuracy": 0.6,
            "gain_over_labels": pytest.approx(0.1),
            "chosen_temperature": 4,
        }
    }


def test_of_equal_temperatures_the_lowest_is_taken():
    found = hurts.derived(measured({16: (0.9, 0.6), 2: (0.7, 0.6), 1: (0.8, 0.5)}))
    assert found[Label(BEST, 0)]["chosen_temperature"] == 2
    assert "gain_over_labels" not in found[Label(BEST, 0)]


def test_a_seed_without_one_of_the_temperatures_has_no_best():
    table = measured({1: (0.8, 0.8), 4: (0.7, 0.7)})
    table.values |= measured({1: (0.8, 0.8)}, seed=1).values
    assert list(hurts.derived(table)) == [Label(BEST, 0)]


def test_a_diverged_student_is_not_chosen():
    table = measured({1: (0.8, 0.8), 4: (0.9, 0.9)})
    table.values |= measured({1: (0.7, 0.7)}, seed=1).values
    table.diverged[Label(HARD.format(4), 1)] = "accuracy at chance"
    table.diverged |= {Label(HARD.format(temperature), 2): "its teacher diverged" for temperature in (1, 4)}
    found = hurts.derived(table)
    assert {label.seed: found[label]["chosen_temperature"] for label in found} == {0: 4, 1: 1}


def test_without_held_out_images_there_is_no_best():
    table = measured({1: (0.8, 0.8)})
    del table.values[Label(HARD.format(1), 0)]["held_out_accuracy"]
    assert hurts.derived(table) == {}


def test_the_cost_is_of_pairs():
    table = measured({1: (0.8, 0.8), 4: (0.9, 0.9)})
    table.values |= measured({1: (0.6, 0.6)}, seed=1).values
    table.values[Label("student of ε=0.1, T=1, 10%", 0)] = {"accuracy": 0.75}
    table.values[Label("student of ε=0.1, T=1, 10%", 1)] = {"accuracy": 0.7}
    table.values[Label("student of ε=0.1, T=1, 10%", 2)] = {"accuracy": 0.7}
    found = {label: values for label, values in hurts.derived(table).items() if "cost" in label.condition}
    assert found == {
        Label("cost of ε=0.1, 10%", 0): {"cost_T1": pytest.approx(0.05)},
        Label("cost of ε=0.1, 10%", 1): {"cost_T1": pytest.approx(-0.1)},
    }


def synthetic(seeds=5, scale="quick"):
    """Smoothing hurts at T=16, helps at T=1, and does nothing that seeds agree on between them."""
    table = Table()
    for label in networks(scale, "fashion-mnist"):
        smoothing, temperature = drawing.smoothing(label.condition), drawing.temperature(label.condition)
        if label.seed >= seeds:
            continue
        effect = {1: 0.02, 16: -0.03}.get(temperature, 0.01 * (-1) ** label.seed) if smoothing else 0
        accuracy = 0.8 + 0.01 * label.seed + effect * (1 + 0.01 * label.seed)
        table.values[label] = {"accuracy": accuracy, "held_out_accuracy": accuracy}
    table.values |= hurts.derived(table)
    return table


def patches(axes):
    """Place → patch of the cell drawn there, and its number."""
    found = {}
    for patch in axes.patches:
        assert isinstance(patch, Rectangle)
        found[round(patch.get_y() + 0.5), round(patch.get_x() + 0.5)] = patch
    texts = {(round(text.get_position()[1]), round(text.get_position()[0])): text for text in axes.texts}
    assert found.keys() == texts.keys()
    return {place: (patch, texts[place]) for place, patch in found.items()}


def test_marks_are_those_of_the_verdicts():
    table = synthetic()
    figure = hurts.draw(table)["map"]
    for axes, smoothing in zip(figure.axes, (0.1, 0.3, 0.6), strict=False):
        cells = patches(axes)
        assert len(cells) == len(hurts.TEMPERATURES) * len(hurts.SHARES)
        for (row, column), (patch, text) in cells.items():
            at = f"T={hurts.TEMPERATURES[row]:g}, {SIZES[column]}%"
            hard = table.by_seed(f"student of ε=0, {at}", "accuracy")
            found = judge(hard, table.by_seed(f"student of ε={smoothing:g}, {at}", "accuracy"), "higher")
            assert text.get_text() == smoothing_map.signed(100 * found.effect)
            assert bool(patch.get_hatch()) == (found.verdict == "undecided")
            red, _, blue, _ = patch.get_facecolor()
            # Orange hurts, purple helps, grey is undecided.
            assert math.copysign(red != blue, red - blue) == {"reproduced": 1, "contradicted": -1}.get(
                found.verdict, 0
            )
            assert found.verdict == {1: "contradicted", 16: "reproduced"}.get(hurts.TEMPERATURES[row], "undecided")


def test_undecided_cells_are_pale_and_missing_ones_blank():
    table = synthetic()
    for seed in range(5):
        del table.values[Label("student of ε=0.1, T=1, 1%", seed)]
        if seed > 1:
            table.diverged[Label("student of ε=0.1, T=16, 1%", seed)] = "accuracy at chance"
            del table.values[Label("student of ε=0.1, T=16, 1%", seed)]
    cells = patches(hurts.draw(table)["map"].axes[0])
    assert (0, 0) not in cells
    of_two_seeds, text = cells[3, 0]
    assert of_two_seeds.get_hatch()
    assert text.get_color() not in ("black", "white")
    assert cells[3, 1][1].get_color() in ("black", "white")


def test_differences_are_judged_as_differences():
    table = synthetic()
    for label, values in table.values.items():
        if drawing.smoothing(label.condition) == 0.1 and label.condition.endswith(", T=4, 10%, narrow"):
            values["accuracy"] -= 0.05 + 0.001 * label.seed
    table.values |= hurts.derived(table)
    wide, _, difference, *_ = map(patches, hurts.draw(table)["capacity"].axes[:3])
    at = 1, 1  # T=4 of (1, 4, 16), 10 % of (1, 10, 100)
    assert wide[at][0].get_hatch()
    assert not difference[at][0].get_hatch()
    assert difference[at][1].get_text() == "+5.2"
    # What costs both as much is no difference, decided or not.
    assert not wide[2, 0][0].get_hatch()
    assert {text.get_text() for place, (_, text) in difference.items() if place != at} == {"0"}
    assert all(patch.get_hatch() for place, (patch, _) in difference.items() if place != at)


@pytest.mark.parametrize("seeds", [0, 5])
def test_draws_what_is_there(seeds):
    figures = hurts.draw(synthetic(seeds, "quick"))
    assert list(figures) == ["map", "best_temperature", "augmentation", "capacity"]
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
        assert figure.get_label().endswith(".")
        assert figure.get_size_inches()[0] == 6.4
        if not seeds:
            assert any("no run" in text.get_text() for axes in figure.axes for text in axes.texts)


def test_the_scale_is_that_of_all_maps_and_of_decided_cells_only():
    def cell(effect, verdict):
        return Judgement(verdict, effect, effect, effect, 0.01, 5)

    first = smoothing_map.Map("", {(0, 0): cell(-0.021, "contradicted"), (0, 1): cell(0.4, "undecided")})
    second = smoothing_map.Map("", {(0, 0): cell(0.004, "reproduced")})
    scale = smoothing_map.scale_of([first, second])
    assert (scale.vmin, scale.vmax) == (-2.5, 2.5)
    assert smoothing_map.scale_of([]).vmax == 0.5


@given(st.floats(-50, 50))
def test_a_number_keeps_its_sign_and_value(points):
    text = smoothing_map.signed(points)
    value = float(text.replace("−", "-"))
    assert abs(value - points) <= (0.0500001 if abs(points) >= 0.05 else 0.0050001)
    assert value == 0 or (value > 0) == (points > 0)
    assert text == "0" or text[0] in "+−"
    assert (text == "0") == (value == 0)
