"""Format bytes and seconds for people."""

from __future__ import annotations

import math


def format_bytes(count: int | None) -> str:
    """Format a number of bytes, such as 3.21 GB, in powers of 1000; None becomes "?"."""
    if count is None:
        return "?"
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log(count, 1000)), 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}B"


def format_seconds(seconds: float | None) -> str:
    """Format seconds as seconds, minutes or hours; None becomes "?"."""
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
