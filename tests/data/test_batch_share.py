"""A batch in parts and over ranks: every sample once, or a line that says why not."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill.data.batch_share import BatchShare
from distill.errors import UserError


@given(parts=st.integers(1, 6), world=st.integers(1, 5), rows=st.integers(1, 4), steps=st.integers(1, 4))
def test_the_ranks_have_each_sample_once_and_each_part_is_a_slice_of_the_batch(parts, world, rows, steps) -> None:
    pieces = parts if parts % world == 0 else parts * world
    batch = pieces * rows
    order = torch.randperm(steps * batch)
    found = {}
    for rank in range(world):
        share = BatchShare(parts, rank, world)
        assert share.rows(batch) == rows
        cut = share.of(order, batch).view(steps, share.pieces, rows)
        found |= {share.number(piece): cut[:, piece] for piece in range(share.pieces)}
    assert sorted(found) == list(range(pieces))  # each draws its own dropout
    together = torch.stack([found[number] for number in range(pieces)], 1).view(steps, -1)
    assert torch.equal(together, order.view(steps, batch))


@given(parts=st.integers(1, 6), world=st.integers(1, 5), batch=st.integers(1, 60))
def test_a_batch_that_cannot_be_cut_is_refused(parts, world, batch) -> None:
    share = BatchShare(parts, 0, world)
    assume(batch % (share.pieces * world))
    with pytest.raises(UserError, match=r"schedule\.batch_size"):
        share.rows(batch)
