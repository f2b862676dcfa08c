"""The weight of each class, and trainings with them."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.utils.class_weight import compute_class_weight

from distill.config import DataConfig, LossConfig
from distill.data.sets.load import load
from distill.errors import UserError
from distill.training.class_weights import balanced_weights, class_weights


@given(st.lists(st.integers(0, 6), min_size=1, max_size=60))
@settings(deadline=None)  # the first call imports and computes with tensors
def test_balanced_is_scikit_learns(labels):
    weights = balanced_weights(torch.tensor(labels), 9)
    present = np.unique(labels)
    np.testing.assert_allclose(
        weights[present], compute_class_weight("balanced", classes=present, y=labels), rtol=1e-12
    )
    assert weights[labels].mean().item() == pytest.approx(1)
    absent = [cls for cls in range(9) if cls not in present]
    assert weights[absent].tolist() == [1.0] * len(absent)


def test_weights_of_the_samples_that_are_taught(runtime):
    digits = load(DataConfig(), runtime.data_root)
    few = (digits.train.labels < 3).nonzero().squeeze(1)
    weights = class_weights(LossConfig(alpha=0, class_weights="balanced"), digits, few)
    assert weights is not None
    assert torch.equal(weights[:3], balanced_weights(digits.train.labels[few], 3))
    assert class_weights(LossConfig(alpha=0), digits) is None
    given = class_weights(LossConfig(alpha=0, class_weights=tuple(range(1, 11))), digits)
    assert given is not None
    assert given.tolist() == list(range(1, 11))


def test_another_number_of_weights_and_tokens_are_refused(runtime):
    with pytest.raises(UserError, match=r"^loss\.class_weights = .*one for each of the 10 classes: 0, 1"):
        class_weights(LossConfig(alpha=0, class_weights=(1, 2)), load(DataConfig(), runtime.data_root))
    tokens = load(DataConfig(name="translation"), runtime.data_root)
    with pytest.raises(UserError, match=r"^loss\.class_weights = .*a label per position"):
        class_weights(LossConfig(alpha=0, class_weights="balanced"), tokens)
