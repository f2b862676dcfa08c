"""The targets of each class: from numbers, a tree, a matrix, and the held-out answers of a trained teacher."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.config import DataConfig, LabelsConfig, LossConfig, StudentConfig, TeacherConfig
from distill.data.sets.dataset import Dataset
from distill.data.sets.load import load
from distill.errors import UserError
from distill.losses import make_loss
from distill.system.runtime import Runtime
from distill.training.network import load_predictions
from distill.training.targets import smoothing_matrix


@pytest.fixture
def digits(runtime: Runtime) -> Dataset:
    return load(DataConfig(held_out=0.15), runtime.data_root)


def targets(**fields: object) -> LossConfig:
    return LossConfig(**({"alpha": 0, "smoothing": 0.1} | fields))


def test_one_smoothing_for_all_needs_no_matrix(digits: Dataset) -> None:
    assert smoothing_matrix(targets(), digits, None) is None
    assert smoothing_matrix(targets(labels=LabelsConfig(schedule="cosine")), digits, None) is None


@pytest.mark.parametrize(("convention", "own"), [("uniform", [0.91, 1.0]), ("others", [0.9, 1.0])])
def test_each_class_has_its_own(digits: Dataset, convention: str, own: list[float]) -> None:
    labels = LabelsConfig(per_class=(0.1, 0.0, *[0.2] * 8))
    matrix = smoothing_matrix(targets(smoothing=0, smoothing_convention=convention, labels=labels), digits, None)
    assert matrix is not None
    assert matrix.diagonal()[:2].tolist() == pytest.approx(own)
    assert matrix[0, 1:].tolist() == pytest.approx([(1 - own[0]) / 9] * 9)
    with pytest.raises(UserError, match="one for each of the 10 classes: 0, 1"):
        smoothing_matrix(targets(smoothing=0, labels=LabelsConfig(per_class=(0.1,))), digits, None)


def test_a_trained_teacher_says_which_classes_are_alike(make, teacher: TeacherConfig, digits: Dataset) -> None:
    source = make(teacher)
    logits, labels = load_predictions(source, "held_out")
    confused = targets(smoothing_convention="others", labels=LabelsConfig(towards="confusions"))
    matrix = smoothing_matrix(confused, digits, source)
    assert matrix is not None
    wrong = logits.argmax(1) != labels
    for label in range(10):
        counts = torch.bincount(logits.argmax(1)[wrong & (labels == label)], minlength=10) + 1.0
        counts[label] = 0
        expected = 0.1 * counts / counts.sum()
        expected[label] = 0.9
        assert torch.allclose(matrix[label], expected)
    similar = targets(smoothing_convention="others", labels=LabelsConfig(towards="similar"))
    matrix = smoothing_matrix(similar, digits, source)
    assert matrix is not None
    probabilities = torch.softmax(logits.double(), 1)
    probabilities[torch.arange(len(labels)), labels] = 0
    probabilities /= probabilities.sum(1, keepdim=True)
    assert torch.allclose(matrix[7].double(), 0.1 * probabilities[labels == 7].mean(0) + 0.9 * torch.eye(10)[7])


def test_a_source_of_other_classes_is_refused(make, teacher: TeacherConfig, digits: Dataset) -> None:
    wanted = targets(labels=LabelsConfig(towards="similar"))
    others = replace(digits, classes=tuple("abcdefghij"))
    with pytest.raises(
        UserError, match=r"smoothing_source = .*expected a network with the classes of digits: a, b"
    ):
        smoothing_matrix(wanted, others, make(teacher))
    blind = make(teacher.replace(data=DataConfig(held_out=0)))
    with pytest.raises(UserError, match="held-out samples of every class"):
        smoothing_matrix(wanted, digits, blind)


@pytest.mark.parametrize("towards", ["similar", "confusions"])
def test_networks_that_learn_from_it_have_it_as_an_input(
    make, teacher: TeacherConfig, student: StudentConfig, towards: str
) -> None:
    labels = LabelsConfig(towards=towards, schedule="linear", by_sample="difficulty", confidence_penalty=0.01)
    of_labels = LossConfig(alpha=0, smoothing=0.2, labels=labels)
    smoothed = make(teacher.replace(loss=of_labels, smoothing_source=teacher))
    alone = make(student.replace(cache=None, loss=of_labels, smoothing_source=teacher))
    both = make(student.replace(loss=LossConfig(alpha=0.5, smoothing=0.2, labels=labels), smoothing_source=teacher))
    source = make(teacher)
    for network in (smoothed, alone, both):
        assert source.record.key in network.record.inputs
        assert network.record.metrics["test/accuracy"] > 0.3
        assert "smoothing" not in str(network.record.metrics), "there is no one smoothing of its targets"


def test_what_asks_for_a_matrix_gets_one() -> None:
    wanted = targets(labels=LabelsConfig(towards="hierarchy", kwargs={"tree": [[0, 1], [2, 3]]}))
    with pytest.raises(ValueError, match="matrix"):
        make_loss(wanted)


def test_a_tree_of_the_data_set_classes(digits: Dataset) -> None:
    tree = [["0", "6", "8"], [1, 7], [2, 3, 5, 9], [4]]
    labels = LabelsConfig(towards="hierarchy", kwargs={"tree": tree, "beta": 2.0})
    matrix = smoothing_matrix(targets(labels=labels), digits, None)
    assert matrix is not None
    assert matrix.sum(1).tolist() == pytest.approx([1] * 10)
    assert matrix[0, 6] == matrix[0, 8] > matrix[0, 1] == matrix[0, 4]
    bad = targets(labels=LabelsConfig(towards="hierarchy", kwargs={"tree": [[0, 1], [2, 3, 5]]}))
    with pytest.raises(UserError, match=r"labels\.kwargs"):
        smoothing_matrix(bad, digits, None)


def test_smoothing_that_falls_may_not_start_where_another_class_outweighs_the_label(digits: Dataset) -> None:
    following = [[float(column == (row + 1) % 10) for column in range(10)] for row in range(10)]
    falls = {"schedule": "linear", "first": 3.0}
    pairs = LabelsConfig(towards="matrix", kwargs={"rows": following}, **falls)
    with pytest.raises(UserError, match="smoothing"):
        smoothing_matrix(targets(smoothing=0.3, labels=pairs), digits, None)
    assert smoothing_matrix(targets(smoothing=0.3, labels=pairs.replace(first=1.2)), digits, None) is not None
    alike = targets(smoothing=0.31, smoothing_convention="others", labels=LabelsConfig(**falls))
    with pytest.raises(UserError, match="label gets the most"):
        smoothing_matrix(alike, digits, None)
    assert smoothing_matrix(alike.replace(smoothing=0.29), digits, None) is None


@pytest.mark.parametrize("towards", ["confusions", "similar"])
def test_a_class_that_is_never_a_label_is_no_obstacle(
    make, teacher: TeacherConfig, digits: Dataset, towards
) -> None:
    """As the padding of sentences: it has no samples anywhere."""
    source = make(teacher)
    wanted = targets(smoothing_convention="others", labels=LabelsConfig(towards=towards))
    kept = digits.train.labels != 4
    without = replace(
        digits, train=replace(digits.train, images=digits.train.images[kept], labels=digits.train.labels[kept])
    )
    logits, labels = load_predictions(source, "held_out")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "distill.training.targets.load_predictions", lambda *_: (logits[labels != 4], labels[labels != 4])
        )
        matrix = smoothing_matrix(wanted, without, source)
        assert matrix is not None
        assert matrix[4].tolist() == pytest.approx([0.1 / 9] * 4 + [0.9] + [0.1 / 9] * 5)
        with pytest.raises(UserError, match="held-out samples of every class"):
            smoothing_matrix(wanted, digits, source)
