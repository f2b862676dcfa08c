"""The list of soft terms: what it refers to is there, and help tells all of it."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys

import pytest
import torch

from distill.cli.main import main
from distill.config import SOFT_TERMS, LossConfig, SoftTerm
from distill.errors import UserError
from distill.losses import make_loss
from distill.system.references import referenced
from tests.losses.slow_losses import draw

EVERY_TERM = pytest.mark.parametrize("term", SOFT_TERMS.values(), ids=list(SOFT_TERMS))


def largest_difference(student_logits, teacher_logits, temperature, weight):
    return weight * (student_logits - teacher_logits).abs().max() / temperature


@EVERY_TERM
def test_every_reference_is_a_function_of_what_it_is_called_with(term: SoftTerm) -> None:
    parameters = inspect.signature(referenced(term.function)).parameters
    expected = {"student_logits", "teacher_logits", "temperature", *term.defaults}
    expected |= {"labels"} if term.needs_labels else set()
    expected |= {"temperature_on"} if term.takes_temperature_on else set()
    assert set(parameters) == expected
    assert list(parameters)[:2] == ["student_logits", "teacher_logits"]
    for name, default in term.defaults.items():
        assert parameters[name].default in (default, inspect.Parameter.empty), "one default"


@EVERY_TERM
def test_a_term_compares_samples_where_the_list_says_so(term: SoftTerm) -> None:
    """The mean of the losses of both halves is that of the batch, unless samples are compared."""
    student, labels, teacher = draw(n=8)
    loss = make_loss(LossConfig(soft=term.name))
    whole = loss(student, labels, teacher).total
    halves = [loss(student[part], labels[part], teacher[part]).total for part in (slice(4), slice(4, 8))]
    assert torch.isclose(whole, torch.stack(halves).mean(), rtol=1e-9) != term.compares_samples


@EVERY_TERM
def test_help_names_a_term_and_its_arguments(term: SoftTerm) -> None:
    fields = LossConfig.model_fields
    assert f"{term.name}: {term.meaning}" in (fields["soft"].description or "")
    if term.defaults:
        assert f"{json.dumps(term.defaults)} of {term.name}" in (fields["kwargs"].description or "")


def test_the_command_line_shows_all_terms(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["student", "--help"])
    assert f"{{{','.join(SOFT_TERMS)}}}" in "".join(capsys.readouterr().out.split())


def test_the_list_is_read_without_torch() -> None:
    code = "import sys; from distill.config import SOFT_TERMS; assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_term_that_is_not_in_the_list_is_refused_with_those_that_are() -> None:
    with pytest.raises(UserError) as caught:
        LossConfig(soft="hints")
    assert all(repr(name) in str(caught.value) for name in SOFT_TERMS)


def test_a_new_line_in_the_list_is_a_soft_term(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without its check of names, which reads the list when the module is imported."""
    toy = SoftTerm("toy", f"{__name__}:largest_difference", "a toy", {"weight": 0.5})
    monkeypatch.setitem(SOFT_TERMS, "toy", toy)
    student, labels, teacher = draw()
    config = LossConfig.model_construct(**dict(LossConfig()) | {"soft": "toy"})
    found = make_loss(config)(student, labels, teacher).total
    torch.testing.assert_close(found, (student - teacher).abs().max() / 8)
