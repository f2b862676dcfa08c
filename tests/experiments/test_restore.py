"""Which students there are, what is chosen for them on held-out images, and what the figures make of it."""

from __future__ import annotations

import pytest

from distill.config import AugmentConfig, LossConfig, SnapshotsProbe, StudentConfig, TeacherConfig
from distill.reports.experiment import Label, Table
from experiments import restore
from experiments.base import setting_of_figures

SCALES = "smoke", "quick", "short", "paper"
DATA = "digits", "fashion-mnist", "cifar10"
TAUGHT = {"ε=0": "teacher ε=0", "ε=0.1": "teacher ε=0.1", "MaxSup 0.1": "teacher MaxSup 0.1"}
LOSSES = "standardised", "DIST", "DKD", "WSL", "decoupled temperatures"
TEMPERATURES = "T=0.5", "T=1", "T=2", "T=4", "T=8", "T=16"
EARLY = tuple(f"T=4, checkpoint {part} of 5" for part in (1, 2, 3, 4))


def split(condition: str) -> tuple[str, str]:
    """Teacher and way of "student of ε=0.1, T=4, checkpoint 1 of 5"."""
    of, _, how = condition.removeprefix("student of ").partition(", ")
    return of, how


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_every_way_is_there_once_for_each_teacher_and_seed(scale, data):
    runs = restore.runs(scale, data)
    for seed in range(setting_of_figures(data, scale).seeds):
        found: dict[str, list[str]] = {of: [] for of in TAUGHT}
        for label, config in runs.items():
            if label.seed == seed and isinstance(config, StudentConfig) and config.cache is not None:
                of, how = split(label.condition)
                found[of].append(how)
                assert config.cache.teacher == runs[Label(TAUGHT[of], seed)]
                assert config.loss.alpha == 1
        assert {of: sorted(set(ways) - set(EARLY)) for of, ways in found.items()} == dict.fromkeys(
            TAUGHT, sorted((*TEMPERATURES, *LOSSES))
        )


def test_checkpoints_are_of_the_hard_and_the_smoothed_teacher():
    checkpoints = {}
    for label, config in restore.runs("quick", "fashion-mnist").items():
        if isinstance(config, StudentConfig) and config.cache and config.cache.snapshot is not None:
            assert config.loss == LossConfig(temperature=4)
            checkpoints.setdefault(split(label.condition)[0], set()).add(config.cache.snapshot)
            assert label.condition.endswith(f"T=4, checkpoint {config.cache.snapshot} of 5")
    assert checkpoints == {"ε=0": {1, 2, 3, 4}, "ε=0.1": {1, 2, 3, 4}}


def test_a_way_has_one_loss_for_all_teachers():
    losses: dict[str, set[str]] = {}
    for label, config in restore.runs("quick", "fashion-mnist").items():
        if isinstance(config, StudentConfig) and config.cache:
            losses.setdefault(split(label.condition)[1], set()).add(repr(config.loss))
    assert {how: len(found) for how, found in losses.items() if len(found) != 1} == {}
    assert len({repr(found) for how, found in losses.items() if how not in EARLY}) == 11


@pytest.mark.parametrize("scale", SCALES)
@pytest.mark.parametrize("data", DATA)
def test_teachers_differ_in_smoothing_and_students_in_targets_alone(scale, data):
    teachers, students = set(), set()
    for label, config in restore.runs(scale, data).items():
        assert (config.seed, config.augment) == (label.seed, AugmentConfig())
        if isinstance(config, TeacherConfig):
            taught = config.with_loss(smoothing=0, smoothing_convention="uniform")
            teachers.add(repr(taught.replace(seed=0, snapshots=0)))
        else:
            students.add(repr(config.replace(seed=0, cache=None, loss=LossConfig(alpha=0))))
    assert (len(teachers), len(students)) == (1, 1)


def test_students_see_a_hundredth_of_the_images_for_as_many_steps():
    runs = restore.runs("quick", "fashion-mnist")
    teacher, student = runs[Label("teacher ε=0", 0)], runs[Label("student of labels", 0)]
    assert (teacher.data.limit, student.data.limit) == (10_000, 100)
    assert (student.schedule.batch_size, student.schedule.epochs) == (100, 15 * (10_000 // 128))


@pytest.mark.parametrize("scale", ["short", "paper"])
def test_learning_rates_change_at_the_same_shares_of_training(scale):
    usual = setting_of_figures("cifar10", scale).student.schedule
    longer = restore.runs(scale, "cifar10")[Label("student of labels", 0)].schedule
    assert longer.epochs > 50 * usual.epochs
    assert longer.warmup_epochs / longer.epochs == pytest.approx(usual.warmup_epochs / usual.epochs)
    shares = [[epoch / each.epochs for epoch in each.decay_epochs] for each in (longer, usual)]
    assert shares[0] == pytest.approx(shares[1])
    steps = longer.epochs * (400 // longer.batch_size)
    assert steps == pytest.approx(usual.epochs * (40_000 // usual.batch_size), rel=0.01)


def test_the_smoothed_teacher_is_watched_along_its_training():
    assert restore.probes("quick", "fashion-mnist") == (SnapshotsProbe(),)


def measured(students: dict[str, tuple[float, float]], seed: int = 0) -> Table:
    """A table of students: condition without "student of" → accuracy, and that on held-out images."""
    names = "accuracy", "held_out_accuracy"
    return Table(
        {
            Label(f"student of {name}", seed): dict(zip(names, found, strict=True))
            for name, found in students.items()
        }
    )


def test_the_temperature_is_chosen_on_held_out_images_not_on_test_images():
    found = restore.derived(
        measured({"ε=0.1, T=1": (0.7, 0.75), "ε=0.1, T=2": (0.9, 0.74), "ε=0.1, T=8": (0.6, 0.76)})
    )
    assert found[Label("student of ε=0.1, best T", 0)] == {
        "accuracy": 0.6,
        "held_out_accuracy": 0.76,
        "chosen_temperature": 8,
    }


def test_of_equal_temperatures_the_lowest_is_chosen():
    table = measured({"ε=0, T=16": (0.9, 0.7), "ε=0, T=0.5": (0.5, 0.7), "ε=0, T=2": (0.8, 0.7)})
    assert restore.derived(table)[Label("student of ε=0, best T", 0)]["chosen_temperature"] == 0.5


def test_of_equal_checkpoints_the_end_and_then_the_latest():
    students = {"ε=0.1, T=4": (0.6, 0.7), **{f"ε=0.1, {how}": (0.5, 0.7) for how in EARLY}}
    found = restore.derived(measured(students))[Label("student of ε=0.1, best checkpoint", 0)]
    assert found == {"accuracy": 0.6, "held_out_accuracy": 0.7, "chosen_checkpoint": 5}
    del students["ε=0.1, T=4"]
    assert (
        restore.derived(measured(students))[Label("student of ε=0.1, best checkpoint", 0)]["chosen_checkpoint"] == 4
    )
    students[f"ε=0.1, {EARLY[1]}"] = (0.4, 0.71)
    found = restore.derived(measured(students))[Label("student of ε=0.1, best checkpoint", 0)]
    assert found == {"accuracy": 0.4, "held_out_accuracy": 0.71, "chosen_checkpoint": 2}


@pytest.mark.parametrize("best", [*TEMPERATURES, *LOSSES, *EARLY])
def test_the_best_remedy_is_any_of_all(best):
    students = {f"ε=0.1, {how}": (0.5, 0.6) for how in (*TEMPERATURES, *LOSSES, *EARLY)}
    students[f"ε=0.1, {best}"] = (0.4, 0.61)
    found = restore.derived(measured(students))[Label("student of ε=0.1, best remedy", 0)]
    assert found == {"accuracy": 0.4, "held_out_accuracy": 0.61}


def test_a_teacher_without_early_checkpoints_has_no_best_one():
    found = restore.derived(measured({"ε=0, T=4": (0.6, 0.7), "MaxSup 0.1, T=4": (0.6, 0.7)}))
    assert [label for label in found if "checkpoint" in label.condition] == []


def test_each_seed_chooses_for_itself():
    table = measured({"ε=0, T=1": (0.1, 0.9), "ε=0, T=4": (0.2, 0.8)}, seed=0)
    table.values |= measured({"ε=0, T=1": (0.3, 0.7), "ε=0, T=4": (0.4, 0.8)}, seed=3).values
    found = restore.derived(table)
    assert {label.seed: found[label]["accuracy"] for label in found if label.condition.endswith("best T")} == {
        0: 0.1,
        3: 0.4,
    }


def test_what_did_not_run_is_not_chosen_and_nothing_of_nothing():
    assert restore.derived(Table()) == {}
    table = measured({"ε=0.1, T=4": (0.6, 0.7), "ε=0.1, DKD": (0.65, 0.69)})
    table.values[Label("student of ε=0.1, T=1", 0)] = {"accuracy": 0.99}  # without held-out images
    table.values[Label("student of ε=0.1, T=2", 1)] = {"accuracy": 0.99}
    found = restore.derived(table)
    assert found[Label("student of ε=0.1, best T", 0)]["chosen_temperature"] == 4
    assert found[Label("student of ε=0.1, best remedy", 0)]["accuracy"] == 0.6
    assert {label.seed for label in found} == {0}


GAPPED = {
    "ε=0, T=4": (0.74, 0.74),
    "ε=0, T=8": (0.73, 0.75),
    "ε=0, DKD": (0.76, 0.70),
    "ε=0.1, T=4": (0.71, 0.71),
    "ε=0.1, T=2": (0.72, 0.72),
    "ε=0.1, DKD": (0.70, 0.70),
    "ε=0.1, WSL": (0.75, 0.70),
    f"ε=0.1, {EARLY[0]}": (0.735, 0.73),
    "MaxSup 0.1, T=4": (0.73, 0.73),
}


def test_gaps_by_hand():
    found = restore.derived(measured(GAPPED))
    gaps = {label.condition: values for label, values in found.items() if label.condition.startswith("gap of ")}
    expected = {
        "gap of T=4": {"accuracy_gap": 0.03, "accuracy_gap_best": 0.02, "accuracy_gap_same_remedy": 0.03},
        "gap of best T": {"accuracy_gap": 0.02, "accuracy_gap_best": 0.01, "accuracy_gap_same_remedy": 0.01},
        "gap of DKD": {"accuracy_gap": 0.04, "accuracy_gap_best": 0.03, "accuracy_gap_same_remedy": 0.06},
        "gap of WSL": {"accuracy_gap": -0.01, "accuracy_gap_best": -0.02},
        "gap of best checkpoint": {"accuracy_gap": 0.005, "accuracy_gap_best": -0.005},
        "gap of best remedy": {
            "accuracy_gap": 0.005,
            "accuracy_gap_best": -0.005,
            "accuracy_gap_same_remedy": -0.005,
        },
        "gap of MaxSup 0.1, T=4": {
            "accuracy_gap": 0.01,
            "accuracy_gap_best": 0.0,
            "accuracy_gap_same_remedy": 0.01,
        },
        "gap of MaxSup 0.1, best T": {
            "accuracy_gap": 0.01,
            "accuracy_gap_best": 0.0,
            "accuracy_gap_same_remedy": 0.0,
        },
    }
    assert set(gaps) == set(expected)
    for condition, values in expected.items():
        assert gaps[condition] == pytest.approx(values, abs=1e-12), condition


def test_without_the_hard_teacher_at_t4_only_the_other_gaps_are_there():
    students = {name: found for name, found in GAPPED.items() if name != "ε=0, T=4"}
    found = restore.derived(measured(students))
    assert set(found[Label("gap of T=4", 0)]) == {"accuracy_gap_best"}
    assert set(found[Label("gap of DKD", 0)]) == {"accuracy_gap_best", "accuracy_gap_same_remedy"}


def full(seeds: int = 3) -> Table:
    """All that a report at quick has; the smoothed teacher's students are worse, less so early and with DIST."""
    table = Table()
    for label, config in restore.runs("quick", "fashion-mnist").items():
        if label.seed >= seeds:
            continue
        if isinstance(config, TeacherConfig):
            table.values[label] = {
                "accuracy": 0.9,
                "ece": 0.05 + config.loss.smoothing / 10,
                "interclass_variance_relative": 1,
            }
            if config.snapshots:
                table.values[label] |= {f"ece_part{part}": 0.02 * part for part in range(config.snapshots + 1)}
            continue
        of, how = split(label.condition)
        accuracy = 0.7 + 0.04 * (of == "ε=0") + 0.03 * (how == "DIST") - 0.01 * (how == "WSL")
        if how in EARLY:
            accuracy += 0.01 * (5 - int(how.split()[-3]))
        accuracy += 0.001 * label.seed
        table.values[label] = {"accuracy": accuracy, "held_out_accuracy": accuracy}
    derived = restore.derived(table)
    assert not derived.keys() & table.values.keys(), "what is derived has labels of its own"
    table.values |= derived
    return table


def test_claims_are_about_what_there_is():
    table = full()
    assert len({claim.id for claim in restore.CLAIMS}) == len(restore.CLAIMS)
    for claim in restore.CLAIMS:
        assert table.by_seed(claim.condition, claim.measure), claim.id
        assert table.by_seed(claim.versus, claim.versus_measure or claim.measure), claim.id
        assert claim.condition != claim.versus, claim.id


def test_rows_are_in_the_order_of_the_smoothed_teachers_students():
    (axes,) = restore.draw(full())["remedies"].axes
    names = [text.get_text() for text in axes.get_yticklabels()]
    assert names[0] == "WSL"
    assert set(names[-2:]) == {"checkpoint*", "best of all*"}
    assert names[-3] == "DIST"
    of_smoothed = next(c for c in axes.containers if c.get_label() == "student of ε=0.1").lines[0]
    assert list(of_smoothed.get_xdata()) == sorted(of_smoothed.get_xdata())
    assert of_smoothed.get_xdata()[0] == pytest.approx(69.1)
    assert list(of_smoothed.get_ydata()) == list(range(9))
    of_hard = next(c for c in axes.containers if c.get_label() == "student of ε=0").lines[0]
    assert len(of_hard.get_xdata()) == 9


def test_lines_are_of_the_hard_teacher_and_of_labels():
    (axes,) = restore.draw(full())["remedies"].axes
    places = {line.get_label(): line.get_xdata()[0] for line in axes.lines if not line.get_label().startswith("_")}
    assert places == pytest.approx({"ε=0, T=4": 74.1, "ε=0, best T": 74.1, "labels": 70.1})


def test_calibration_stands_against_the_accuracy_of_students():
    (axes,) = restore.draw(full())["calibration"].axes
    found = {c.get_label(): c.lines[0] for c in axes.containers if not c.get_label().startswith("_")}
    points = {name: (line.get_xdata()[0], line.get_ydata()[0]) for name, line in found.items()}
    assert points["teacher ε=0, best T"] == pytest.approx((5, 74.1))
    assert points["teacher MaxSup 0.1, best T"] == pytest.approx((6, 70.1))
    of_hard, path = [line for line in axes.lines if "checkpoints" in str(line.get_label())]
    assert len(of_hard.get_xdata()) == 5
    assert list(path.get_xdata()) == pytest.approx([2, 4, 6, 8, 10])
    assert list(path.get_ydata()) == pytest.approx([74.1, 73.1, 72.1, 71.1, 70.1])
    assert [text.get_text() for text in axes.texts] == 2 * ["1", "2", "3", "4"]


def test_temperatures_have_a_line_per_teacher():
    (axes,) = restore.draw(full())["by_temperature"].axes
    assert [container.get_label() for container in axes.containers] == [
        f"students of {name}" for name in TAUGHT.values()
    ]
    for container in axes.containers:
        assert len(container.lines[0].get_xdata()) == 6, "checkpoints and losses are not on it"
        assert list(container.lines[0].get_xdata()) == pytest.approx([0.5, 1, 2, 4, 8, 16], rel=0.05)


@pytest.mark.parametrize("seeds", [0, 1, 2])
def test_draws_what_is_there(seeds):
    for figure in restore.draw(full(seeds)).values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")
        assert all(axes.texts or axes.has_data() for axes in figure.axes)
