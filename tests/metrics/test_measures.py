"""The list of measures: each can be computed, is explained, and needs no more than the number of samples allows."""

import inspect
import math
import subprocess
import sys
from collections.abc import Callable
from typing import get_type_hints

import pytest
import torch
from torch.overrides import TorchFunctionMode

from distill.metrics import dark_knowledge
from distill.metrics.accuracy import predictive_kl
from distill.metrics.dark_knowledge import class_similarity, similarity_correlation
from distill.metrics.measures import (
    BY_NAME,
    GIVEN,
    HELD_OUT,
    MEASURES,
    Kind,
    Measure,
    as_markdown,
    compute,
    defined,
    of_kind,
    usual,
)
from distill.probes import PROBES, probe_measures
from distill.system.references import referenced

KINDS = [kind for kind in GIVEN if kind != "run"]


def found(kind: Kind, n: int = 300, k: int = 10, d: int = 16) -> dict[str, float]:
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(n, k, generator=generator)
    features = logits @ torch.randn(k, d, generator=generator) + torch.randn(n, d, generator=generator)
    given = {
        "logits": logits,
        "labels": torch.multinomial(torch.softmax(logits, 1), 1, generator=generator).squeeze(1),
        "features": features,
        "other": features.square(),
        "weight": torch.randn(k, d, generator=generator),
        "student": logits,
        "teacher": logits + torch.randn(n, k, generator=generator),
        "temperature": 2.0,
        "bins": 15,
        "cls": 1,
        "classes": {1, 4},
        "seen_classes": {*range(k)} - {1, 4},
        "prior": 0.5,
    }
    return compute(of_kind(kind), **{name: given[name] for name in GIVEN[kind]})


def logit_measures(logits: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0) -> dict[str, float]:
    return defined(compute(of_kind("knowledge"), logits=logits, labels=labels, temperature=temperature))


def with_temperature(kind: Kind) -> set[str]:
    """Names of the measures of this kind whose function asks for the temperature."""
    asked = {each.name: inspect.signature(function_of(each)).parameters for each in of_kind(kind)}
    return {name for name, parameters in asked.items() if "temperature" in parameters}


def function_of(measure: Measure) -> Callable[..., object]:
    return referenced(f"distill.metrics.{measure.compute.partition('.')[0]}")


def fidelity_measures(
    student: torch.Tensor, teacher: torch.Tensor, labels: torch.Tensor, temperature: float = 1.0
) -> dict[str, float]:
    given = {"student": student, "teacher": teacher, "labels": labels, "temperature": temperature}
    return defined(compute(of_kind("teacher"), **given))


@pytest.mark.parametrize("kind", KINDS)
def test_all_of_a_kind_are_numbers(kind):
    values = found(kind)
    assert list(values) == [measure.name for measure in MEASURES if measure.of == kind]
    assert all(isinstance(value, float) and math.isfinite(value) for value in values.values())


@pytest.mark.parametrize("measure", MEASURES, ids=lambda measure: measure.name)
def test_each_function_is_there_and_asks_for_what_its_kind_is_given(measure: Measure):
    assert bool(measure.compute) == (measure.of != "run")
    if not measure.compute:
        return
    function, part = function_of(measure), measure.compute.partition(".")[2]
    asked = inspect.signature(function).parameters.values()
    needed = {each.name for each in asked if each.default is inspect.Parameter.empty}
    assert needed <= set(GIVEN[measure.of])
    returned = get_type_hints(function)["return"]
    assert (get_type_hints(returned)[part] if part else returned) is float


def test_names_are_unique_and_each_measure_is_explained_and_shown():
    everywhere = [*MEASURES, *(each for probe in PROBES for each in probe_measures(probe))]
    names = [measure.name for measure in everywhere]
    assert len(set(names)) == len(names)
    assert list(BY_NAME) == [measure.name for measure in MEASURES]
    assert {measure.of for measure in MEASURES} == set(GIVEN)
    assert all(measure.what and measure.cost.startswith("O(") for measure in MEASURES)
    assert all(measure.heading and 0 <= measure.decimals <= 4 for measure in everywhere)
    for measure in everywhere:
        assert not measure.topic or all(name in BY_NAME for name in measure.topic.beside)
    table = as_markdown(MEASURES).splitlines()
    assert len(table) == len(MEASURES) + 2
    assert len({line.count("|") for line in table}) == 1


def test_what_smoothing_is_chosen_by_is_measured_of_held_out_images():
    assert [measure.name for measure in HELD_OUT] == [
        "held_out_accuracy",
        "held_out_ece",
        "held_out_interclass_variance_relative",
    ]
    chosen_by = [measure for measure in usual("answers", "knowledge") if measure.use]
    assert [f"held_out_{measure.name}" for measure in chosen_by] == [measure.name for measure in HELD_OUT]


def test_a_function_of_several_values_is_called_once(monkeypatch):
    calls = []
    true = dark_knowledge.interclass_variance

    def counted(logits, labels):
        calls.append(1)
        return true(logits, labels)

    monkeypatch.setattr(dark_knowledge, "interclass_variance", counted)
    values = compute(of_kind("knowledge"), logits=torch.eye(4).repeat(3, 1) + 0.1, labels=torch.arange(4).repeat(3))
    assert len(calls) == 1
    assert sum(name.startswith("interclass_variance") for name in values) == 4


def test_the_list_needs_no_torch():
    code = "import sys; import distill.metrics.measures, distill.reports.tables; print('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "False\n"


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


@pytest.mark.parametrize("kind", KINDS)
def test_memory_is_linear_in_samples(kind):
    """Twice the samples, at most twice the largest tensor; a matrix over pairs of samples would be four times."""
    few, many = (largest(lambda n=n: found(kind, n)) for n in (400, 800))
    assert many <= 2 * few
    assert few <= 400 * 16


def test_temperature_is_that_of_the_soft_targets_alone():
    logits = torch.randn(200, 5, generator=torch.Generator().manual_seed(1))
    labels = torch.arange(5).repeat(40)
    cold, warm = logit_measures(logits, labels), logit_measures(logits, labels, 4.0)
    changed = {name for name in cold if cold[name] != pytest.approx(warm[name], rel=1e-9)}
    assert changed == with_temperature("knowledge")
    assert {"difficulty", "nontarget_entropy"} <= changed, "and not those of the answers or of the logits"
    # At another temperature the same network has the values of logits divided by it.
    divided = logit_measures(logits / 4, labels)
    assert {name: warm[name] for name in changed} == pytest.approx({name: divided[name] for name in changed})


def test_a_student_against_its_teacher():
    generator = torch.Generator().manual_seed(2)
    teacher, labels = torch.randn(200, 5, generator=generator), torch.arange(5).repeat(40)
    student = teacher / 4 + torch.randn(200, 5, generator=generator) / 9
    cold, warm = fidelity_measures(student, teacher, labels), fidelity_measures(student, teacher, labels, 3.0)
    same = {name for name in cold if cold[name] == pytest.approx(warm[name], rel=1e-9)}
    assert same == cold.keys() - with_temperature("teacher")
    assert {"agreement", "kl"} <= same
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
    given = {"features": torch.randn(15, 3), "labels": torch.arange(3).repeat(5), "weight": torch.randn(4, 3)}
    some = defined(compute(of_kind("features"), logits=torch.randn(15, 4), **given))
    assert "duality_distance" not in some
    assert all(math.isfinite(value) for value in (*flat.values(), *sure.values(), *some.values()))
