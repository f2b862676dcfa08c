"""Predictions of the positions that count."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.metrics.positions import counted


def test_one_label_per_sample_comes_back_as_it_is() -> None:
    logits, labels = torch.randn(3, 4), torch.tensor([0, 3, 1])
    assert all(one is other for one, other in zip(counted(logits, labels), (logits, labels), strict=True))


@given(st.integers(0, 4), st.integers(1, 5), st.integers(0, 2**31))
def test_positions_that_count_in_order(n: int, positions: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(n, positions, 3, generator=generator)
    labels = torch.randint(3, (n, positions), generator=generator)
    labels[torch.rand(n, positions, generator=generator) < 0.5] = -100
    kept = [(i, t) for i in range(n) for t in range(positions) if labels[i, t] != -100]
    found, of = counted(logits, labels)
    assert found.shape == (len(kept), 3)
    assert of.tolist() == [int(labels[i, t]) for i, t in kept]
    assert all(torch.equal(row, logits[i, t]) for row, (i, t) in zip(found, kept, strict=True))
