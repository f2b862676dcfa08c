"""The four curves: which nets they are made of, what tells these apart, and where they stand in the figure."""

import pytest

from distill.config import AugmentConfig, LossConfig, StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import drawing
from experiments import fig5_distillation as fig5
from experiments.base import setting_of_figures

SCALES = "smoke", "quick", "short", "paper"
DATA = "digits", "mnist", "fashion-mnist", "cifar10", "cifar100"


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_students_differ_in_their_targets_alone(scale, data):
    runs = fig5.runs(scale, data)
    chosen = setting_of_figures(data, scale)
    assert {label.seed for label in runs} == set(range(chosen.seeds))
    for label, config in runs.items():
        smoothing, temperature = drawing.smoothing(label.condition), drawing.temperature(label.condition)
        if isinstance(config, TeacherConfig):
            assert config == chosen.teacher.replace(seed=label.seed).with_loss(smoothing=smoothing)
            continue
        assert config.replace(cache=None, loss=LossConfig(alpha=0)) == chosen.student.replace(seed=label.seed)
        if temperature is None:
            assert (config.loss.alpha, config.loss.smoothing) == (0, smoothing)
            continue
        assert config.loss == LossConfig(alpha=1, temperature=temperature, temperature_on="teacher")
        assert config.cache is not None
        assert config.cache.teacher == runs[Label(f"teacher ε={smoothing:g}", label.seed)]
        assert temperature == 1 or smoothing == 0


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_all_students_of_a_seed_see_the_same_pixels(scale, data):
    views = {0: set()}
    for label, config in fig5.runs(scale, data).items():
        if isinstance(config, StudentConfig):
            shown = config.cache.replace(teacher=TeacherConfig()) if config.cache else None
            views.setdefault(label.seed, set()).add(repr(shown) if shown and shown.views > 1 else None)
            assert config.augment == AugmentConfig()
    assert [len(kinds) for kinds in views.values()] == [1] * len(views)


@pytest.mark.parametrize(("scale", "views"), [("short", 16), ("paper", 64)])
def test_the_published_nets_see_the_views_that_their_teacher_was_trained_on(scale, views):
    for config in fig5.runs(scale, "cifar10").values():
        if isinstance(config, StudentConfig):
            assert config.cache is not None
            (teacher,) = config.cache.teachers
            assert config.cache.augment == teacher.augment == AugmentConfig(pad=4, flip=True)
            assert config.cache.views == views
            assert (teacher.model.name, config.model.name) == ("resnet56_preact", "alexnet")


def test_the_points_are_those_of_the_paper():
    runs = fig5.runs("paper", "cifar10")
    assert {label.seed for label in runs} == set(range(5))
    conditions = {label.condition for label in runs}
    epsilons = [0, 0.15, 0.3, 0.45, 0.6, 0.75]
    expected = {f"teacher ε={epsilon:g}" for epsilon in epsilons}
    expected |= {f"student of labels, ε={epsilon:g}" for epsilon in epsilons}
    expected |= {f"student of ε={epsilon:g}, T=1" for epsilon in epsilons}
    expected |= {f"student of ε=0, T={temperature}" for temperature in (2, 3, 4, 8, 12, 16)}
    assert conditions == expected


def test_short_keeps_claims_of_every_kind_and_has_no_point_of_its_own():
    short = {label.condition for label in fig5.runs("short", "cifar10")}
    assert short < {label.condition for label in fig5.runs("paper", "cifar10")}
    decided = {claim.id for claim in fig5.CLAIMS if {claim.condition, claim.versus} <= short}
    assert {"teacher", "baseline", "better-teacher"} < decided
    assert {"distilled-T1", "distilled-T16", "smoothed-ls0.15", "smoothed-ls0.6"} < decided


def test_every_number_of_the_paper_is_of_a_condition_or_of_none():
    conditions = {label.condition for label in fig5.runs("quick", "fashion-mnist")}
    assert {one.condition for one in fig5.PAPER} - {None} == conditions
    printed = [(one.value, one.half_width) for one in fig5.PAPER if one.value is not None]
    assert printed == [(0.868, 0.002), (0.867, 0.003)]


GAMMA = {1: 0.01, 2: 0.04, 3: 0.1, 4: 0.2, 8: 0.5, 12: 0.6, 16: 0.7}


def measured(seeds: int = 3) -> Table:
    table = Table()
    for label in fig5.runs("quick", "fashion-mnist"):
        if label.seed < seeds:
            smoothing, temperature = drawing.smoothing(label.condition), drawing.temperature(label.condition)
            gamma = GAMMA[int(temperature)] if temperature and not smoothing else smoothing
            accuracy = 0.8 + 0.01 * label.seed**2
            table.values[label] = {"accuracy": accuracy, "equivalent_smoothing": gamma}
    return table


def test_a_point_is_the_mean_and_its_bar_the_whole_range():
    above, below = fig5.draw(measured())["distillation"].axes
    (teachers,) = above.containers
    assert list(teachers.lines[0].get_xdata()) == pytest.approx(list(fig5.SMOOTHINGS))
    labels, smoothed, hard = below.containers
    assert list(labels.lines[0].get_xdata()) == pytest.approx(list(fig5.SMOOTHINGS))
    assert list(smoothed.lines[0].get_xdata()) == pytest.approx(list(fig5.SMOOTHINGS[1:]))
    assert list(hard.lines[0].get_xdata()) == pytest.approx(list(GAMMA.values()))
    for curve in (teachers, labels, smoothed, hard):
        assert list(curve.lines[0].get_ydata()) == pytest.approx([80 + 5 / 3] * len(curve.lines[0].get_xdata()))
        ends = [segment[:, 1] for segment in curve.lines[2][0].get_segments()]
        assert all(list(end) == pytest.approx([80, 84]) for end in ends), "least and most, not an interval"
    assert [text.get_text() for text in below.texts] == ["1", "2", "3", "4", "8", "12", "T=16"]


def test_students_stand_at_their_measured_gamma():
    table = measured(1)
    table.values[Label("student of ε=0.6, T=1", 0)]["equivalent_smoothing"] = 0.63
    del table.values[Label("student of ε=0, T=8", 0)]["equivalent_smoothing"]
    _, smoothed, hard = fig5.draw(table)["distillation"].axes[1].containers
    assert smoothed.lines[0].get_xdata()[3] == pytest.approx(0.63)
    assert len(hard.lines[0].get_xdata()) == 6, "without γ there is no place for it"


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    figure = fig5.draw(measured(seeds))["distillation"]
    figure.canvas.draw()
    assert figure.get_label().endswith(".")
