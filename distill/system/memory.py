"""Let the C library keep freed memory, so that a training step does not ask the kernel for pages again."""

from __future__ import annotations

import ctypes
import functools

_M_TRIM_THRESHOLD, _M_TOP_PAD, _M_MMAP_THRESHOLD = -1, -2, -3


@functools.cache
def keep_freed_memory() -> bool:
    """Tune glibc's allocator for the tensors of a training step; return whether it could be done.

    By default glibc maps fresh pages for large tensors and gives them back when they are freed. A convolutional
    net's step on a CPU then spends a third of its time in page faults (`scripts/bench_allocator.py`). The price of
    the tuning is that a process keeps its peak memory. With another C library the function does nothing.
    """
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError, TypeError):  # musl, macOS, Windows
        return False
    kept = [(_M_MMAP_THRESHOLD, 1 << 30), (_M_TRIM_THRESHOLD, (1 << 31) - 1), (_M_TOP_PAD, 64 << 20)]
    return all([mallopt(option, value) for option, value in kept])
