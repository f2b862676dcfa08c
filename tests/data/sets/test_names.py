"""Names that are packed into two arrays."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from distill.data.sets.names import Names

FILE_NAMES = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0")) | st.binary().map(
    lambda name: name.decode(errors="surrogateescape")
)


@given(st.lists(FILE_NAMES))
def test_names_come_back(names):
    packed = Names.of(names)
    assert len(packed) == len(names)
    assert [*packed] == names
    assert [packed[row] for row in range(len(names))] == names
