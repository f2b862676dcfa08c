"""What a batch may not be, and that it is looked at once."""

from __future__ import annotations

import pytest
import torch

from distill.config import LossConfig
from distill.errors import UserError
from distill.losses import check_batch, cross_entropy, make_loss
from tests.losses.slow_losses import draw, mixed

pytestmark = pytest.mark.fault("odd input of a loss")

LOGITS, LABELS, _ = draw(n=8, k=5, dtype=torch.float32)
LOGITS = LOGITS.detach()
SEVERAL = torch.tensor([[1, 1, 0, 0, 0], [0, 0, 0, 0, 0]]).repeat(4, 1)

REFUSED = {
    "one logit": (LOGITS[:, :1], LABELS, "one logit per class"),
    "no classes": (LOGITS[:, 0], LABELS, "binary cross-entropy"),
    "several labels": (LOGITS, SEVERAL, "classes compete"),
    "several labels as floats": (LOGITS, SEVERAL.float(), "classes compete"),
    "one-hot integers": (LOGITS, torch.eye(5).long()[LABELS], r"argmax\(-1\)"),
    "negative shares": (LOGITS, torch.tensor([[2.0, -1, 0, 0, 0]]).repeat(8, 1), "at least 0"),
    "numbers to predict": (LOGITS, torch.rand(8), "classes as integers"),
    "classes in the middle": (LOGITS.reshape(2, 5, 4), LABELS.reshape(2, 4), "classes last"),
    "too large a label": (LOGITS, LABELS.clamp(0, 3) + 2, "0 to 4"),
    "a negative label": (LOGITS, LABELS - 7, "labels = -"),
    "probabilities": (torch.softmax(LOGITS, 1), LABELS, "Drop the softmax"),
    "probabilities in half precision": (torch.softmax(LOGITS, 1).half(), LABELS, "Drop the softmax"),
    "probabilities of positions": (torch.softmax(LOGITS, 1).view(2, 4, 5), LABELS.view(2, 4), "Drop the softmax"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused_in_one_line_with_the_reason(case):
    logits, labels, reason = REFUSED[case]
    for call in (lambda: check_batch(logits, labels), lambda: make_loss(LossConfig(alpha=0))(logits, labels)):
        with pytest.raises(UserError, match=reason) as refusal:
            call()
        assert "\n" not in str(refusal.value)


def test_what_a_classifier_gives_passes():
    check_batch(LOGITS, LABELS)
    check_batch(LOGITS, mixed(LABELS, 5))
    check_batch(LOGITS, mixed(LABELS, 5).half())
    check_batch(LOGITS.view(2, 4, 5), LABELS.view(2, 4).masked_fill(torch.eye(2, 4).bool(), -100))
    check_batch(LOGITS, torch.full_like(LABELS, -100))
    check_batch(LOGITS, torch.zeros_like(LABELS), ignore_index=0)
    check_batch(torch.zeros(3, 5), torch.zeros(3, dtype=torch.int32))
    check_batch(torch.full((3, 5), torch.nan), torch.zeros(3, dtype=torch.long))
    check_batch(LOGITS)


def test_probabilities_in_some_rows_only_may_be_logits():
    check_batch(torch.cat([torch.softmax(LOGITS, 1), LOGITS]), torch.cat([LABELS, LABELS]))


def test_log_probabilities_pass_since_a_softmax_leaves_them_alone():
    log_p = torch.log_softmax(LOGITS.double(), 1)
    check_batch(log_p, LABELS)
    torch.testing.assert_close(cross_entropy(log_p, LABELS, 0.1), cross_entropy(LOGITS.double(), LABELS, 0.1))


def test_only_the_first_batch_is_looked_at(monkeypatch):
    seen = []
    monkeypatch.setattr("distill.losses.objective.check_batch", lambda *given: seen.append(given))
    loss = make_loss(LossConfig(alpha=0, smoothing=0.1))
    values = [loss(LOGITS, LABELS).total for _ in range(3)]
    assert len(seen) == 1
    assert torch.equal(values[0], values[2])


def test_a_batch_that_was_refused_is_looked_at_again():
    loss = make_loss(LossConfig(alpha=0))
    for _ in range(2):
        with pytest.raises(UserError, match="softmax"):
            loss(torch.softmax(LOGITS, 1), LABELS)


def test_labels_that_are_not_used_are_not_looked_at():
    teacher = LOGITS.flip(0)
    make_loss(LossConfig(alpha=1))(LOGITS, torch.full_like(LABELS, 99), teacher)
    with pytest.raises(UserError, match="0 to 4"):
        make_loss(LossConfig(alpha=0.5))(LOGITS, torch.full_like(LABELS, 99), teacher)


def test_the_random_numbers_go_on_as_they_would():
    before = torch.get_rng_state()
    check_batch(LOGITS, LABELS)
    assert torch.equal(torch.get_rng_state(), before)


def test_compiled():
    compiled = torch.compile(make_loss(LossConfig(alpha=0, smoothing=0.1)), backend="eager")
    logits = LOGITS.clone().requires_grad_()
    for _ in range(2):
        found = compiled(logits, LABELS).total
        assert found.item() == pytest.approx(cross_entropy(LOGITS, LABELS, 0.1).item())
    found.backward()
    assert logits.grad.isfinite().all()
