"""Collect the warnings about the label smoothing of one run."""

from __future__ import annotations

from distill.metrics.smoothing_warnings import Notice
from distill.training.tracking import warn


class Notices:
    """Keep the warnings of one run: each kind is printed once, and those that hold at the end are kept.

    Args:
        printed: whether warnings are printed on stderr; in a pool of stages they are not.
    """

    def __init__(self, printed: bool = False):
        self.kept: list[Notice] = []
        self._printed, self._told = printed, set[str]()

    def tell(self, notice: Notice) -> None:
        """Print a warning that may no longer hold at the end of the run, and which is therefore not stored."""
        if self._printed and notice.kind not in self._told:
            warn(notice.kind, notice.text)
        self._told.add(notice.kind)

    def keep(self, *notices: Notice | None) -> list[Notice]:
        """Print and keep warnings; return those that are not None."""
        known = [notice for notice in notices if notice is not None]
        for notice in known:
            self.tell(notice)
        self.kept += known
        return known
