import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.data.sets.splits import stratified_split

LABELS = st.lists(st.integers(0, 5), max_size=200).map(lambda labels: torch.tensor(labels, dtype=torch.int64))


@given(LABELS, st.floats(0, 0.99), st.integers(0, 2**62))
def test_parts_are_disjoint_complete_and_stratified(labels, share, seed):
    kept, held = stratified_split(labels, share, seed)
    assert torch.equal(torch.cat([kept, held]).sort().values, torch.arange(len(labels)))
    assert torch.equal(kept, kept.sort().values)
    assert torch.equal(held, held.sort().values)
    for label in labels.unique():
        count = int((labels == label).sum())
        taken = int((labels[held] == label).sum())
        assert taken == min(round(share * count), count - 1) or abs(taken - share * count) <= 1
        assert taken < count


def test_the_seed_decides():
    labels = torch.arange(1000) % 10
    first = stratified_split(labels, 0.1, 0)[1]
    assert torch.equal(first, stratified_split(labels, 0.1, 0)[1])
    assert not torch.equal(first, stratified_split(labels, 0.1, 1)[1])
    assert len(first) == 100


@given(st.integers(0, 60), st.floats(0, 0.99), st.integers(0, 2**62))
def test_samples_with_a_label_per_position_are_of_one_class(n, share, seed):
    per_position = torch.arange(3 * n).view(n, 3) % 7
    per_position[:, 2] = -100
    rows = stratified_split(per_position, share, seed)
    expected = stratified_split(torch.zeros(n, dtype=torch.int64), share, seed)
    assert all(map(torch.equal, rows, expected))
    assert len(rows[1]) == min(round(share * n), max(n - 1, 0))
