"""Let the processes of one `torchrun`, its ranks, exchange values and end together.

Values travel over gloo on the CPU; gradients on GPUs travel over NCCL. Without torchrun there is one rank: all
functions here are then trivial, and torch is not imported.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from distill.errors import Diverged, UnfitTeacher, UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

# A rank may wait long for another one, which evaluates. A dead rank is noticed at once, for its connections close.
_TIMEOUT = timedelta(days=30)


def rank() -> int:
    """Return the number of this process, from 0 to `world()` - 1."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def world() -> int:
    """Return the number of processes that torchrun started; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_this_machine() -> int:
    """Return the number of ranks that share the cores of this machine."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world()))


def is_first() -> bool:
    """Tell whether this is the first rank: the one that holds locks, writes files and prints."""
    return rank() == 0


def join() -> None:
    """Form the group with the other ranks, and take the GPU of this rank; do nothing the second time.

    Raises:
        UserError: torch has no distributed package.
    """
    if world() > 1:
        _group()


@functools.cache
def _group() -> tuple[Any, Any]:
    """Form the group; return `torch.distributed`, and the key-value store in torchrun that the ranks share."""
    import torch
    from torch import distributed
    from torch.distributed.rendezvous import rendezvous

    if not distributed.is_available():
        way_out = "Install another build of torch, or run it without torchrun."
        raise UserError("torchrun", f"{world()} processes", "a torch with torch.distributed", way_out)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", rank())) % torch.cuda.device_count())
    store, number, size = next(rendezvous("env://", timeout=_TIMEOUT))
    store.set_timeout(_TIMEOUT)
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, store=store, rank=number, world_size=size, timeout=_TIMEOUT)
    atexit.register(distributed.destroy_process_group)
    return distributed, store


def reduce_sum(*values: Tensor) -> None:
    """Add up tensors over the ranks, in place.

    All tensors have one dtype and one device, and each rank passes tensors of the same shapes.
    """
    if world() == 1 or not values:
        return
    import torch

    # All values travel as one message, because a message costs as much as thousands of numbers.
    flat = torch.cat([value.reshape(-1) for value in values])
    _group()[0].all_reduce(flat)
    for value, part in zip(values, flat.split([value.numel() for value in values]), strict=True):
        value.copy_(part.view_as(value))


def gather(value: T) -> list[T]:
    """Return the value of each rank in order of rank, on all ranks; tensors must be on the CPU."""
    if world() == 1:
        return [value]
    values: list[Any] = [None] * world()
    _group()[0].all_gather_object(values, value)
    return values


def broadcast(value: T) -> T:
    """Return the value of the first rank, on all ranks; tensors must be on the CPU."""
    if world() == 1:
        return value
    box: list[Any] = [value]
    _group()[0].broadcast_object_list(box, 0)
    return box[0]


def barrier() -> None:
    """Wait until all ranks have arrived here."""
    gather(None)


def on_first(make: Callable[[], T]) -> T:
    """Call `make` on the first rank, and return its result on all ranks, which wait for it.

    Raises:
        Exception: whatever `make` raised, on all ranks.
    """
    if world() == 1:
        return make()
    value: Any = None
    error: Exception | None = None
    try:
        value = make() if is_first() else None
    except Exception as raised:
        error = raised
    value, error = broadcast((value, error))
    if error is not None:
        raise error
    return value


def mute_others() -> None:
    """Silence all ranks but the first; they keep `sys.__stderr__` for an error that is theirs alone."""
    if not is_first():
        sys.stdout = sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115, PTH123 - open as long as the process is
        sys.excepthook = functools.partial(traceback.print_exception, file=sys.__stderr__)


@contextmanager
def end_together() -> Iterator[None]:
    """End the run on all ranks when an error is raised inside the block on one of them.

    The rank that failed first prints its error; errors that follow from it on other ranks are not shown. torchrun
    stops ranks that still wait. `Diverged` and `UnfitTeacher`, which a stage raises on all ranks or on none, pass.

    Raises:
        SystemExit: 2 after a user's mistake, else 1.
    """
    # The ranks wait for each other, so none may go on alone.
    if world() == 1:
        yield
        return
    try:
        join()
        yield
    except (Diverged, UnfitTeacher):
        raise
    except (KeyboardInterrupt, SystemExit):
        _is_first_to_fail()  # so that errors that follow on other ranks are not printed
        raise
    except Exception as error:
        if _is_first_to_fail():
            if isinstance(error, UserError):
                print(f"error: {error}", file=sys.__stderr__, flush=True)
            else:
                traceback.print_exc(file=sys.__stderr__)
        raise SystemExit(2 if isinstance(error, UserError) else 1) from None


def _is_first_to_fail() -> bool:
    try:
        return _group()[1].add("failed", 1) == 1
    except Exception:  # the group could not be formed, or torchrun is gone
        return is_first()
