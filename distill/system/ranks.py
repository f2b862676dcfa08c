"""The processes of one `torchrun`: who this one is, and what they tell each other.

Without torchrun there is one rank: everything here is then trivial, and torch is not imported. What they tell each
other travels over gloo on the CPU; gradients on GPUs over NCCL. The group is formed when it is first needed.
"""

from __future__ import annotations

import atexit
import functools
import os
import sys
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any, TypeVar

from distill.errors import Diverged, UnfitTeacher, UserError

if TYPE_CHECKING:
    from torch import Tensor

T = TypeVar("T")

_TIMEOUT = timedelta(days=30)
"""The others wait this long for one that evaluates, or that waits for another process; a dead one is noticed at
once, since its connection closes."""
_AGREED = (Diverged, UnfitTeacher)
"""Errors that a stage raises on all ranks or on none."""


def rank() -> int:
    """Number of this process, 0 to `world()` - 1."""
    return int(os.environ.get("RANK", 0)) if world() > 1 else 0


def world() -> int:
    """How many processes torchrun started; 1 without it."""
    return int(os.environ.get("WORLD_SIZE", 1))


def on_this_machine() -> int:
    """How many of them share this machine's cores."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", world()))


def is_first() -> bool:
    """Whether this is the one that holds locks, writes files and tells the user."""
    return rank() == 0


def join() -> None:
    """Form the group with the other ranks, and take this one's GPU; does nothing the second time.

    Raises:
        UserError: torch has no distributed package.
    """
    if world() > 1:
        _store()


@functools.cache
def _store() -> Any:
    """What the ranks keep in common, once the group is formed: a few keys, in the process of torchrun."""
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
    return store


def reduce_sum(*values: Tensor) -> None:
    """Add up tensors over the ranks, in place; all of one dtype and device, of which each rank has the same."""
    _reduce("SUM", values)


def reduce_max(*values: Tensor) -> None:
    """The same for the largest of each number."""
    _reduce("MAX", values)


def _reduce(operation: str, values: Sequence[Tensor]) -> None:
    if world() == 1 or not values:
        return
    import torch
    from torch import distributed

    join()
    # As one message: each costs as much as thousands of numbers.
    flat = torch.cat([value.reshape(-1) for value in values])
    distributed.all_reduce(flat, getattr(distributed.ReduceOp, operation))
    for value, part in zip(values, flat.split([value.numel() for value in values]), strict=True):
        value.copy_(part.view_as(value))


def gather(value: T) -> list[T]:
    """The value of each rank in turn, on all of them; tensors must be on the CPU."""
    if world() == 1:
        return [value]
    from torch import distributed

    join()
    found: list[Any] = [None] * world()
    distributed.all_gather_object(found, value)
    return found


def broadcast(value: T) -> T:
    """The first rank's value, on all of them; tensors must be on the CPU."""
    if world() == 1:
        return value
    from torch import distributed

    join()
    box: list[Any] = [value]
    distributed.broadcast_object_list(box, 0)
    return box[0]


def barrier() -> None:
    """Wait until all ranks are here."""
    broadcast(None)
    gather(None)


def on_first(make: Callable[[], T]) -> T:
    """What `make` gives on the first rank, on all of them, which wait for it.

    Raises:
        Exception: what it raised there, on all of them.
    """
    if world() == 1:
        return make()
    value: Any = None
    error: Exception | None = None
    if is_first():
        try:
            value = make()
        except Exception as raised:
            error = raised
    value, error = broadcast((value, error))
    if error is not None:
        raise error
    return value


def mute_others() -> None:
    """Only the first rank prints; the others keep `sys.__stderr__`, for an error that is theirs alone."""
    if not is_first():
        sys.stdout = sys.stderr = open(os.devnull, "w")  # noqa: SIM115, PTH123 - open as long as the process is
        sys.excepthook = functools.partial(traceback.print_exception, file=sys.__stderr__)


@contextmanager
def end_together() -> Iterator[None]:
    """An error inside ends the run on all ranks: they wait for each other, so none may go on alone.

    The rank that failed first tells it, once; what that makes fail on the others is not shown. torchrun stops those
    that still wait. `Diverged` and `UnfitTeacher`, which a stage raises on all ranks or on none, pass.

    Raises:
        SystemExit: 2 after a user's mistake, else 1.
    """
    if world() == 1:
        yield
        return
    try:
        join()
        yield
    except _AGREED:
        raise
    except (KeyboardInterrupt, SystemExit):
        _is_first_to_fail()  # what that makes fail on the others is not told
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
        return _store().add("failed", 1) == 1
    except Exception:  # the group could not be formed, or torchrun is gone
        return is_first()
