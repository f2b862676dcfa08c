"""Noisy labels: what differs between the networks, what is claimed, and what is drawn."""

from __future__ import annotations

import random

import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg

from distill.config import AugmentConfig, LossConfig, StudentConfig, TeacherConfig
from distill.data.sets.load import load
from distill.reports.experiment import Label, Scale, Table
from experiments import drawing, noisy_labels
from experiments.base import setting_of_figures

CASES: list[tuple[Scale, str]] = [
    ("smoke", "digits"),
    ("quick", "fashion-mnist"),
    ("short", "cifar10"),
    ("paper", "cifar10"),
]
WHERE = ["clean", "20% symmetric", "40% symmetric", "20% pair", "40% pair"]
METHODS = ["teacher ε=0", "teacher ε=0.1", "teacher ε=0.3", "student, T=1", "student, T=4"]


def test_every_method_meets_every_noise():
    runs = noisy_labels.runs("quick", "fashion-mnist")
    assert {label.condition for label in runs} == {f"{method}, {where}" for method in METHODS for where in WHERE}
    assert {label.seed for label in runs} == {0, 1, 2}
    assert len(runs) == 75
    at_smoke = {label.condition for label in noisy_labels.runs("smoke", "digits")}
    assert at_smoke == {f"{method}, 40% {kind}" for method in METHODS for kind in ("symmetric", "pair")}


@pytest.mark.parametrize(("scale", "data"), CASES)
def test_networks_of_a_seed_and_a_noise_differ_in_their_targets_alone(scale, data):
    runs = noisy_labels.runs(scale, data)
    for label, config in runs.items():
        method, _, where = label.condition.rpartition(", ")
        hard = runs[Label(f"teacher ε=0, {where}", label.seed)]
        assert isinstance(hard, TeacherConfig)
        assert hard.seed == label.seed
        assert hard.augment == AugmentConfig()
        if isinstance(config, TeacherConfig):
            assert config.with_loss(smoothing=0) == hard
            assert config.loss.smoothing == drawing.smoothing(method)
        else:
            assert config.cache is not None
            assert config.cache.teacher == hard, "it learned the same wrong labels"
            assert config.data == config.cache.transfer_set == hard.data
            assert config.loss == LossConfig(alpha=1, temperature=float(method.removeprefix("student, T=")))
            shared = ("model", "optim", "schedule", "precision", "augment")
            assert {name: getattr(config, name) for name in shared} == {
                name: getattr(hard, name) for name in shared
            }


@pytest.mark.parametrize(("scale", "data"), CASES)
def test_no_student_starts_as_a_teacher(scale, data):
    runs = noisy_labels.runs(scale, data).values()
    teachers = {run.seed for run in runs if isinstance(run, TeacherConfig)}
    students = {run.seed for run in runs if isinstance(run, StudentConfig)}
    assert teachers.isdisjoint(students)
    assert len(teachers) == len(students)


@pytest.mark.parametrize(("scale", "data"), CASES)
def test_the_noise_is_what_the_label_says(scale, data):
    for label, config in noisy_labels.runs(scale, data).items():
        where = label.condition.rpartition(", ")[2]
        rate = config.data.label_noise
        assert where == (f"{rate:.0%} {config.data.noise}" if rate else "clean")
        assert config.data.noise_seed == 0, "the same labels are wrong for every seed"


def test_clean_networks_say_nothing_of_noise():
    """So that one that was trained for something else is found."""
    for label, config in noisy_labels.runs("quick", "fashion-mnist").items():
        said = config.data.model_dump(exclude_defaults=True).keys() & {"label_noise", "noise", "noise_seed"}
        assert bool(said) != label.condition.endswith("clean")


def test_at_quick_there_are_half_of_the_images_of_the_figures():
    images = setting_of_figures("fashion-mnist", "quick").teacher.data.limit
    assert images is not None
    assert {run.data.limit for run in noisy_labels.runs("quick", "fashion-mnist").values()} == {images // 2}


def test_wrong_labels_at_the_lower_rate_are_part_of_those_at_the_higher(tmp_path):
    runs = noisy_labels.runs("quick", "digits")
    for kind in ("symmetric", "pair"):
        clean, few, many = (
            load(runs[Label(f"teacher ε=0, {where}", 0)].data, tmp_path).train.labels
            for where in ("clean", f"20% {kind}", f"40% {kind}")
        )
        assert 0.15 < float((few != clean).double().mean()) < 0.25
        assert 0.35 < float((many != clean).double().mean()) < 0.45
        assert bool((many[few != clean] == few[few != clean]).all())


def test_the_claims_are_those_of_the_papers():
    claims = {claim.id: claim for claim in noisy_labels.CLAIMS}
    assert len(claims) == len(noisy_labels.CLAIMS) == 4 * 4 * 2
    for claim in claims.values():
        where = claim.condition.rpartition(", ")[2]
        assert claim.versus == f"teacher ε=0, {where}"
        assert claim.direction == {"accuracy": "higher", "memorised": "lower"}[claim.measure]
        assert claim.statement.startswith(f"{where}: ")
        assert where != "clean"
    assert claims["memorised-T4-40%-pair"].condition == "student, T=4, 40% pair"
    assert claims["accuracy-ls0.3-20%-symmetric"].condition == "teacher ε=0.3, 20% symmetric"


def synthetic(scale: Scale = "quick", seeds: int = 3) -> Table:
    """Noise costs accuracy; the student at T=4 gains 2 points everywhere and learns 10 % fewer by heart."""
    table, generator = Table(), random.Random(0)
    of_seed = [0.8 + 0.05 * generator.random() for _ in range(3)]
    for label, config in noisy_labels.runs(scale, "fashion-mnist").items():
        if label.seed >= seeds:
            continue
        best = "T=4" in label.condition
        table.values[label] = {
            "accuracy": of_seed[label.seed] - config.data.label_noise / 2 + 0.02 * best + 1e-3 * label.seed * best
        }
        if config.data.label_noise:
            table.values[label]["memorised"] = 0.95 - 0.1 * best
    return table


def points(axes):
    """Name → (x, y) of each point, and half of each interval."""
    found = {}
    for container in axes.containers:
        line, _, (bars,) = container.lines
        halves = [(segment[1][1] - segment[0][1]) / 2 for segment in bars.get_segments()]
        found[container.get_label()] = list(zip(*line.get_data(), halves, strict=True))
    return found


def test_lines_go_through_the_means():
    table = synthetic()
    accuracy, pair, above, _ = noisy_labels.draw(table)["accuracy"].axes
    found = points(accuracy)
    assert list(found) == ["hard labels", "smoothed, ε=0.1", "smoothed, ε=0.3", "distilled, T=1", "distilled, T=4"]
    for name, method in zip(found, METHODS, strict=True):
        for (at, height, _), rate, where in zip(found[name], (0, 20, 40), WHERE[:3], strict=True):
            values = table.by_seed(f"{method}, {where}", "accuracy").values()
            assert height == pytest.approx(100 * sum(values) / 3)
            assert abs(at - rate) <= 2
    # Clean labels belong to both kinds of noise.
    assert all(points(pair)[name][0] == found[name][0] for name in found)
    gained = points(above)
    assert list(gained) == list(found)[1:]
    assert [height for _, height, _ in gained["distilled, T=4"]] == pytest.approx([2.1] * 3)
    assert [height for _, height, _ in gained["smoothed, ε=0.3"]] == pytest.approx([0] * 3, abs=1e-9)
    # Seeds differ by points, and what they differ by is the same for all methods: pairs tell.
    assert max(half for *_, half in gained["distilled, T=4"]) < 0.5 < min(half for *_, half in found["hard labels"])


def test_memorisation_has_no_place_where_no_label_is_wrong():
    (symmetric, pair) = noisy_labels.draw(synthetic())["memorisation"].axes
    for axes in (symmetric, pair):
        assert [text.get_text() for text in axes.get_xticklabels()] == ["20", "40"]
        assert [height for _, height, _ in points(axes)["distilled, T=4"]] == pytest.approx([85] * 2)


def test_a_seed_that_one_of_two_lacks_is_not_in_their_difference():
    table = synthetic()
    del table.values[Label("teacher ε=0, 40% pair", 1)]
    above = noisy_labels.draw(table)["accuracy"].axes[3]
    assert points(above)["distilled, T=4"][2][1] == pytest.approx(2.1)


@pytest.mark.parametrize(("scale", "seeds"), [("quick", 3), ("smoke", 1), ("quick", 0)])
def test_draws_what_is_there(scale, seeds):
    figures = noisy_labels.draw(synthetic(scale, seeds))
    assert list(figures) == ["accuracy", "memorisation"]
    for figure in figures.values():
        FigureCanvasAgg(figure).draw()
        assert figure.get_label().endswith(".")
        assert figure.get_size_inches()[0] == 6.4
        said = [text.get_text() for axes in figure.axes for text in axes.texts]
        assert said == ([] if seeds else ["no run to draw"] * len(figure.axes))
        if seeds:
            assert figure.axes[0].get_ylabel().endswith("%")
            assert figure.axes[-1].get_xlabel() == "wrong training labels, %"
