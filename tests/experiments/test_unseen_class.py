"""Classes left out in turn, and pairs only: which networks, what exceeds the control, figures of what is there."""

from __future__ import annotations

import pytest

from distill.config import LossConfig, ScheduleConfig, StudentConfig, TeacherConfig
from distill.metrics.unseen import accuracy_among, accuracy_of, corrected_accuracy
from distill.pipeline.run import run_stage
from distill.reports.experiment import Label, Scale, Table
from distill.stages.analysis import measure
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_predictions
from experiments import drawing, mnist_distillation
from experiments import unseen_class as subject

STUDENTS = 1 + len(subject.SMOOTHINGS) * len(subject.TEMPERATURES)
LABELS = "student of labels"
TOLD = "student of ε=0, T=4"


def of_seed(scale: Scale, data: str, seed: int = 0) -> dict[Label, StudentConfig]:
    runs = subject.runs(scale, data)
    return {at: run for at, run in runs.items() if at.seed == seed and isinstance(run, StudentConfig)}


def is_of_pair(label: Label) -> bool:
    return ", only " in label.condition


def test_each_class_is_left_out_once_of_each_student():
    students = of_seed("quick", "fashion-mnist")
    left_out = {at: run.exclude_classes for at, run in students.items() if not is_of_pair(at)}
    assert all(classes == (() if at.unseen is None else (at.unseen,)) for at, classes in left_out.items())
    assert [at.unseen for at in left_out] == [cls for cls in (None, *range(10)) for _ in range(STUDENTS)]


@pytest.mark.parametrize(
    ("pair", "others"), [((7, 8), (0, 1, 2, 3, 4, 5, 6, 9)), ((2, 4), (0, 1, 3, 5, 6, 7, 8, 9))]
)
def test_pairs_see_two_classes_for_as_many_steps(pair, others):
    students = of_seed("quick", "fashion-mnist")
    of_pair = [run for at, run in students.items() if at.condition.endswith(f"only {pair[0]} and {pair[1]}")]
    whole = students[Label(LABELS, 0)]
    assert len(of_pair) == STUDENTS
    assert {run.exclude_classes for run in of_pair} == {others}
    # The classes of this set are equally frequent.
    assert {run.schedule.epochs * len(pair) for run in of_pair} == {whole.schedule.epochs * 10}
    assert {run.schedule.batch_size for run in of_pair} == {whole.schedule.batch_size}


@pytest.mark.parametrize("scale", ["smoke", "quick", "short", "paper"])
@pytest.mark.parametrize("data", ["digits", "fashion-mnist", "mnist", "cifar10"])
def test_students_of_a_seed_share_the_caches_of_their_teachers(scale, data):
    runs = subject.runs(scale, data)
    teachers = [run for at, run in runs.items() if at.seed == 0 and isinstance(run, TeacherConfig)]
    students = of_seed(scale, data, 0)
    assert [teacher.loss.smoothing for teacher in teachers] == [0.0, 0.1]
    assert teachers[1].with_loss(smoothing=0) == teachers[0]
    caches = {key(run.cache): run.cache for run in students.values() if run.cache}
    assert [cache.teacher for cache in caches.values()] == teachers, "one cache of each"
    for at, student in students.items():
        if student.cache:
            assert isinstance(student.cache.teacher, TeacherConfig)
            assert student.cache.teacher.loss.smoothing == drawing.smoothing(at.condition)
            assert student.loss.temperature == drawing.temperature(at.condition)
            assert student.loss.alpha == 1
        else:
            assert student.loss.alpha == 0
    first = students[Label(LABELS, 0)]
    for at, student in students.items():
        alike = {"cache": None, "loss": first.loss, "exclude_classes": ()}
        alike |= {"schedule": first.schedule} if is_of_pair(at) else {}
        assert student.replace(**alike) == first


@pytest.mark.parametrize("scale", ["short", "paper"])
def test_all_of_mnist_has_the_teachers_of_section_4_and_every_digit_left_out(scale):
    runs, theirs = subject.runs(scale, "mnist"), mnist_distillation.runs(scale, "mnist")
    assert {at.seed for at in runs} == {0, 1, 2}
    for seed in range(3):
        for name in ("teacher ε=0", "teacher ε=0.1"):
            assert runs[Label(name, seed)] == theirs[Label(name, seed)]
        assert runs[Label(LABELS, seed)] == theirs[Label(LABELS, seed)]
        assert key(runs[Label(TOLD, seed)].cache) == key(theirs[Label("student of ε=0", seed)].cache)
    assert {at.unseen for at in runs} == {None, *range(10)}
    hintons = {"student of ε=0, T=16", "student of ε=0.1, T=16", "student of ε=0, T=16, only 7 and 8"}
    assert hintons < {at.condition for at in runs}


def test_a_set_of_few_classes_has_no_pair_that_is_not_in_it():
    students = of_seed("quick", "imagefolder:photos")
    assert {at.unseen for at in students} == {None, 0, 1, 2}
    assert not any(map(is_of_pair, students))


def recalls(condition: str, seed: int, *of_classes: float) -> dict[Label, dict[str, float]]:
    return {
        Label(condition, seed, cls): {"unseen_recall_corrected": value, "unseen_auc": value / 2}
        for cls, value in enumerate(of_classes)
    }


def test_what_exceeds_the_student_of_labels_is_counted_class_by_class():
    table = Table()
    table.values = recalls(LABELS, 0, 0.25, 0.5) | recalls(TOLD, 0, 0.75, 0.25) | recalls(LABELS, 1, 0.5, 0.5)
    table.values |= recalls(TOLD, 1, 0.5, 1.0) | {Label(TOLD, 0): {"accuracy": 0.9}}
    assert subject.derived(table) == {
        Label(f"{TOLD}, over labels", 0, 0): {"unseen_recall_over_labels": 0.5, "unseen_auc_over_labels": 0.25},
        Label(f"{TOLD}, over labels", 0, 1): {"unseen_recall_over_labels": -0.25, "unseen_auc_over_labels": -0.125},
        Label(f"{TOLD}, over labels", 1, 0): {"unseen_recall_over_labels": 0.0, "unseen_auc_over_labels": 0.0},
        Label(f"{TOLD}, over labels", 1, 1): {"unseen_recall_over_labels": 0.5, "unseen_auc_over_labels": 0.25},
    }
    table.values |= subject.derived(table)
    table.measures += subject.MEASURES
    by_seed = table.by_seed(f"{TOLD}, over labels", "unseen_recall_over_labels")
    assert by_seed == {0: 0.125, 1: 0.25}


@pytest.mark.parametrize("condition", [LABELS, TOLD])
def test_a_seed_with_a_diverged_class_has_no_difference(condition):
    table = Table()
    for seed in (0, 1):
        table.values |= recalls(LABELS, seed, 0.25, 0.5) | recalls(TOLD, seed, 0.75, 0.25)
    table.diverged[Label(condition, 1, 1)] = "accuracy at chance (0.100)"
    del table.values[Label(condition, 1, 1)]
    assert {label.seed for label in subject.derived(table)} == {0}


def test_derived_conditions_are_new():
    table = measured()
    known = set(table.conditions())
    assert known.isdisjoint(label.condition for label in subject.derived(table))
    assert subject.derived(Table()) == {}


def test_claims_are_of_hintons_pair_and_of_all_temperatures():
    conditions = {at.condition for at in subject.runs("smoke", "digits")}
    assert all({claim.condition, claim.versus} <= conditions for claim in subject.CLAIMS)
    assert len(subject.CLAIMS) <= 14
    lowered = [claim for claim in subject.CLAIMS if "smoothing" in claim.id]
    assert {claim.direction for claim in lowered} == {"lower"}
    for claim in lowered:
        assert claim.condition.replace("ε=0.1", "ε=0") == claim.versus


def test_published_numbers_are_one_minus_the_printed_errors():
    errors = [1 - float(found.value) for found in subject.PAPER if found.value is not None]
    assert errors == pytest.approx([133 / 1010, 14 / 1010, 0.473, 0.132], abs=5e-4)
    assert [found.measure for found in subject.PAPER] == [
        "unseen_recall",
        "unseen_recall_corrected",
        "accuracy",
        "pair_accuracy_corrected",
    ]


def measured(scale: Scale = "quick", data: str = "fashion-mnist", seeds: int = 2) -> Table:
    """Every class is better known than the one before; smoothing takes 20 points, and there is no noise."""
    table = Table(
        classes=("top", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot")
    )
    for at, run in subject.runs(scale, data).items():
        if at.seed >= seeds or isinstance(run, TeacherConfig):
            continue
        known = 0.2 if run.cache is None else 0.5 - 2 * (drawing.smoothing(at.condition) or 0)
        values = {"accuracy": 0.8}
        if at.unseen is not None:
            known += 0.03 * at.unseen
            values |= {"unseen_recall": 0.1, "unseen_recall_corrected": known, "unseen_auc": 0.9}
        if is_of_pair(at):
            values |= {"pair_accuracy_corrected": known, "unseen_among_unseen": known - 0.1, "unseen_accuracy": 0.1}
        table.values[at] = values
    return table


def test_classes_are_listed_by_what_is_known_of_them():
    axes = subject.draw(measured())["unseen_recall"].axes
    assert [panel.get_title() for panel in axes] == ["T = 1", "T = 4", "T = 16"]
    names = [text.get_text() for text in axes[0].get_yticklabels()]
    assert names == ["boot", "bag", "sneaker", "shirt", "sandal", "coat", "dress", "pullover", "trouser", "top"]
    for panel in axes:
        labels, hard, smoothed = (container.lines[0] for container in panel.containers)
        expected = [3 * cls for cls in reversed(range(10))]
        assert list(labels.get_xdata()) == pytest.approx([20 + each for each in expected])
        assert list(hard.get_xdata()) == pytest.approx([50 + each for each in expected])
        assert list(smoothed.get_xdata()) == pytest.approx([30 + each for each in expected])
        assert (hard.get_color(), smoothed.get_color()) == (drawing.HARD, drawing.SMOOTHED[0])
        low, high = panel.get_ylim()
        assert low > high, "the first class on top"


def test_pairs_have_a_row_each_and_a_line_per_teacher():
    axes = subject.draw(measured())["pairs"].axes
    assert [panel.get_ylabel() for panel in axes[::2]] == [
        "only sneaker, bag\naccuracy, %",
        "only pullover, coat\naccuracy, %",
    ]
    assert [panel.get_title() for panel in axes[:2]] == [
        "all classes, bias corrected",
        "unseen classes among themselves",
    ]
    for panel, less in zip(axes, (0, 10, 0, 10), strict=True):
        hard, smoothed = (container.lines[0] for container in panel.containers)
        assert list(hard.get_xdata()) == pytest.approx([1, 4, 16], rel=0.03)
        assert list(hard.get_ydata()) == pytest.approx([50 - less] * 3)
        assert list(smoothed.get_ydata()) == pytest.approx([30 - less] * 3)
        flat = {line.get_label(): line.get_ydata()[0] for line in panel.lines if len(line.get_ydata()) == 2}
        assert flat["students of labels"] == pytest.approx(20 - less)
        assert flat.get("chance") == (pytest.approx(12.5) if less else None)


def without(table: Table, of: str) -> Table:
    for label in [label for label in table.values if of in label.condition]:
        table.diverged[label] = "accuracy at chance (0.100)"
        del table.values[label]
    return table


@pytest.mark.parametrize(
    "table",
    [
        Table(),
        measured(seeds=1),
        measured("smoke", "digits"),
        measured("quick", "imagefolder:photos"),
        without(measured(), "labels"),
        without(measured(), "ε"),
    ],
    ids=["nothing", "one seed", "smoke", "few classes", "no control", "only labels"],
)
def test_draws_what_is_there(table):
    table.values |= subject.derived(table)
    drawn = subject.draw(table)
    assert list(drawn) == ["unseen_recall", "over_temperature", "pairs"]
    for figure in drawn.values():
        figure.canvas.draw()
        assert figure.get_label().endswith(".")


def test_a_student_of_two_classes_is_measured_on_all(
    student: StudentConfig, store: ArtifactStore, runtime: Runtime
):
    others = (0, 1, 2, 3, 4, 5, 6, 9)
    schedule = ScheduleConfig(epochs=10, batch_size=64)
    config = student.replace(cache=None, loss=LossConfig(alpha=0), exclude_classes=others, schedule=schedule)
    network = run_stage(config, store, runtime)
    logits, labels = load_predictions(network, "test")
    # As often as they are in the training set before eight classes were left out.
    priors = network.record.data["priors"]
    assert sum(priors) == pytest.approx(1)
    assert priors[7] + priors[8] == pytest.approx(0.2, abs=0.01)
    found = measure(config, network, None).values
    assert found["unseen_accuracy"] == accuracy_of(logits, labels, others)
    assert found["unseen_among_unseen"] == accuracy_among(logits, labels, others)
    corrected = corrected_accuracy(logits, labels, (7, 8), priors[7] + priors[8])
    assert found["pair_accuracy_corrected"] == corrected
    assert found.keys().isdisjoint({"unseen_recall", "unseen_recall_corrected", "unseen_auc"})
    alone = measure(config.replace(exclude_classes=(3, 3)), network, None).values
    assert alone.keys() >= {"unseen_recall", "unseen_recall_corrected", "unseen_auc"}
    assert "pair_accuracy_corrected" not in alone
