"""The catalogue names what the functions return, and nothing in it grows faster than the number of samples."""

import math
from collections.abc import Callable

import pytest
import torch
from torch.overrides import TorchFunctionMode

from distill.metrics.accuracy import predictive_kl
from distill.metrics.catalogue import MEASURES, feature_measures, fidelity_measures, logit_measures
from distill.metrics.dark_knowledge import class_similarity, similarity_correlation

GROUPS = "logits", "features", "teacher"


def found(group: str, n: int = 300, k: int = 10, d: int = 16) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, k, generator=generator)
    labels = torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1)
    features = logits @ torch.randn(k, d, generator=generator) + torch.randn(n, d, generator=generator)
    return {
        "logits": lambda: logit_measures(logits, labels, 2.0),
        "features": lambda: feature_measures(features, labels, logits, torch.randn(k, d, generator=generator)),
        "teacher": lambda: fidelity_measures(logits, logits + torch.randn(n, k, generator=generator), labels, 2.0),
    }[group]()


@pytest.mark.parametrize("group", GROUPS)
def test_the_catalogue_holds_what_is_returned(group):
    assert list(found(group)) == [measure.name for measure in MEASURES if measure.of == group]


def test_names_are_unique_and_each_measure_is_explained():
    names = [measure.name for measure in MEASURES]
    assert len(set(names)) == len(names)
    assert {measure.of for measure in MEASURES} == set(GROUPS)
    assert all(measure.source and measure.what and measure.cost.startswith("O(") for measure in MEASURES)


class _Largest(TorchFunctionMode):
    """Number of elements of the largest tensor that any operation makes."""

    def __init__(self) -> None:
        super().__init__()
        self.elements = 0

    def __torch_function__(self, func, types, args=(), kwargs=None):
        made = func(*args, **(kwargs or {}))
        for each in made if isinstance(made, (tuple, list)) else [made]:
            if isinstance(each, torch.Tensor):
                self.elements = max(self.elements, each.numel())
        return made


def largest(compute: Callable[[], object]) -> int:
    with _Largest() as watched:
        compute()
    return watched.elements


@pytest.mark.parametrize("group", GROUPS)
def test_memory_is_linear_in_samples(group):
    """Twice the samples, at most twice the largest tensor; a matrix over pairs of samples would be four times."""
    few, many = (largest(lambda n=n: found(group, n)) for n in (400, 800))
    assert many <= 2 * few
    assert few <= 400 * 16


def test_temperature_is_that_of_the_soft_targets_alone():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5).repeat(40)
    cold, warm = logit_measures(logits, labels), logit_measures(logits, labels, 4.0)
    changed = {name for name in cold if cold[name] != pytest.approx(warm[name], rel=1e-9)}
    assert changed == {
        "wrong_class_variance",
        "conditional_mutual_information",
        "difficulty",
        "nontarget_entropy",
        "aggregated_variance",
        "wrong_mass",
        "similarity_confusion",
    }
    # At another temperature the same network has the values of logits divided by it.
    divided = logit_measures(logits / 4, labels)
    assert {name: warm[name] for name in changed} == pytest.approx({name: divided[name] for name in changed})


def test_a_student_against_its_teacher():
    generator = torch.Generator().manual_seed(2)
    teacher, labels = torch.randn(200, 5, generator=generator), torch.arange(5).repeat(40)
    student = teacher / 4 + torch.randn(200, 5, generator=generator) / 9
    cold, warm = fidelity_measures(student, teacher, labels), fidelity_measures(student, teacher, labels, 3.0)
    same = {name for name in cold if cold[name] == pytest.approx(warm[name], rel=1e-9)}
    assert same == {"agreement", "kl", "deviation_ratio"}
    assert cold["kl"] == predictive_kl(student, teacher)
    assert cold["deviation_ratio"] < 1
    similarities = class_similarity(student, labels, 3.0), class_similarity(teacher, labels, 3.0)
    assert warm["similarity_correlation"] == similarity_correlation(*similarities)


def test_what_is_not_defined_is_left_out():
    labels = torch.arange(4).repeat(5)
    flat = logit_measures(torch.zeros(20, 4), labels)
    assert "max_logit_suppression" not in flat
    assert "similarity_confusion" not in flat
    assert "interclass_variance_relative" not in flat
    sure = logit_measures(torch.eye(4)[labels], labels)
    assert not any(name.startswith("bits") for name in sure)
    assert "deviation_ratio" not in fidelity_measures(torch.eye(4)[labels], torch.zeros(20, 4), labels)
    some = feature_measures(torch.randn(15, 3), torch.arange(3).repeat(5), torch.randn(15, 4), torch.randn(4, 3))
    assert "duality_distance" not in some
    assert all(math.isfinite(value) for value in (*flat.values(), *sure.values(), *some.values()))
