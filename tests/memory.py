"""What a process remembers from one test to the next, and how a test forgets it.

No public function forgets any of it: whoever needs a fresh process takes one of these.
"""

from __future__ import annotations

from collections import Counter

import pytest

from distill.data.sets import load
from distill.system import trust
from distill.training import tracking


def forget_data_sets() -> None:
    """The next load of a data set reads its files, or calls its plug-in."""
    load._load.cache_clear()


def forget_names(patch: pytest.MonkeyPatch) -> None:
    """Trust no plug-in and forget which files name one, until the patch is undone."""
    patch.setattr(trust, "current", trust.Trusted())
    patch.setattr(trust, "naming_files", {})


def forget_warnings(patch: pytest.MonkeyPatch, *told_often: str) -> None:
    """No kind of warning was shown yet but these, which are not shown again; until the patch is undone."""
    patch.setattr(tracking, "_shown", Counter(dict.fromkeys(told_often, 9)))
