"""Describe why stages failed in a run, and keep what their workers wrote."""

from __future__ import annotations

import os
import signal
import traceback
from collections.abc import Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from distill.errors import UserError
from distill.store.record import LOG_HEAD

_LISTED = 5
"""Largest number of stages that a line names; the others are only counted."""


@dataclass(frozen=True)
class Failure:
    """Say why a stage failed, and which stages could not run because of it."""

    error: Exception
    log: Path | None = None
    """File with the output of the worker and the traceback; None if it would add nothing to the error."""
    blocked: tuple[str, ...] = ()
    """Names of the stages that need the failed stage, directly or indirectly, in the order of the stages."""

    def details(self) -> list[str]:
        """Return lines to print: the path of the failed stage's log, and the stages that it kept from running."""
        lines = [] if self.log is None else [f"  log      {self.log}"]
        if self.blocked:
            lines.append(f"  not run  {_listed(self.blocked)}")
        return lines


def _listed(names: Sequence[str]) -> str:
    more = [f"and {len(names) - _LISTED} more"] if len(names) > _LISTED else []
    return ", ".join([*names[:_LISTED], *more])


class StagesFailed(Exception):
    """Report a run in which several stages failed, or in which one stage failed in a worker."""

    def __init__(self, failures: Mapping[str, Failure]):
        super().__init__(dict(failures))
        self.failures = dict(failures)
        """Name of a stage → why it failed."""

    def __str__(self) -> str:
        # One cause, such as data that are not here, may stop many stages: it is told once.
        by_cause: dict[str, list[str]] = {}
        for name, failure in self.failures.items():
            by_cause.setdefault(one_line(failure.error), []).append(name)
        lines: list[str] = []
        for cause, (name, *others) in by_cause.items():
            lines.append(f"error: {name}: {cause}")
            lines += [f"  also     {_listed(others)}"] if others else []
            alike = [self.failures[each] for each in (name, *others)]
            blocked = dict.fromkeys(stage for failure in alike for stage in failure.blocked)
            lines += [line for failure in alike for line in replace(failure, blocked=()).details()]
            lines += Failure(alike[0].error, blocked=tuple(blocked)).details()
        return "\n".join(lines)


class WorkerDied(Exception):
    """Report a worker that ended before its stage did; another worker takes its place."""

    def __init__(self, exit_code: int):
        super().__init__(exit_code)
        self.exit_code = exit_code
        """Exit code as multiprocessing has it: negative for a signal."""

    def __str__(self) -> str:
        number = -self.exit_code if self.exit_code < 0 else self.exit_code - 128
        try:
            name = signal.Signals(number).name
        except ValueError:
            return f"its worker ended with exit code {self.exit_code}. Run the same command again to go on."
        return f"its worker was ended by {name}: {_CAUSES.get(number, _CRASH)} Run the same command again to go on."


_CAUSES: dict[int, str] = {
    signal.SIGKILL: "most likely the machine ran out of memory. Lower `jobs`.",
    signal.SIGTERM: "somebody told it to stop, and it saved what it could.",
    signal.SIGINT: "somebody told it to stop, and it saved what it could.",
    signal.SIGBUS: "most likely a disk or /dev/shm is full.",
}
_CRASH = "native code crashed; its log may say where."


def one_line(error: Exception) -> str:
    """Format an error in one line for people, with its class unless it is a message for users."""
    text = " ".join(str(error).split())
    return text if isinstance(error, UserError | WorkerDied) else f"{type(error).__name__}: {text}".rstrip(": ")


def log_file(logs: Path, name: str) -> Path:
    """Return the path of the log of a stage."""
    return logs / f"{Path(name).name}.log"


def open_log(log: Path) -> int:
    """Empty a log, or create it, and return a file descriptor that appends to it.

    Raises:
        OSError: the log cannot be made, or a link or a pipe stands in its place.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    # A link would lead to somebody else's file, and a pipe would be waited for. The log is appended to, because
    # another run may write to it at the same time.
    no_other = os.O_NOFOLLOW | os.O_NONBLOCK
    file = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_APPEND | no_other, 0o666)
    with suppress(OSError):  # on a full disk
        os.write(file, LOG_HEAD)
    return file


def write_traceback(error: Exception, log: Path) -> Path | None:
    """Write the traceback of an error that is no user's mistake, and free what its frames hold.

    Returns:
        The log; None when there was nothing to write, or no room.
    """
    written = None
    if not isinstance(error, UserError):
        with suppress(OSError):
            with open(open_log(log), "w", encoding="utf-8", errors="backslashreplace") as file:
                file.write("".join(traceback.format_exception(error)))
            written = log
    # The frames hold networks and images, perhaps too many for the device, while other stages go on.
    cause: BaseException | None = error
    while cause is not None:
        traceback.clear_frames(cause.__traceback__)
        cause = cause.__cause__ or cause.__context__
    return written


def raise_failure(failures: Mapping[str, Failure], wanted: Container[str]) -> None:
    """Raise the errors of a run in which stages failed; do nothing if none failed.

    Raises:
        Exception: the error itself if there is only one and its traceback is known here, with the name of its stage
            unless the user `wanted` that stage.
        StagesFailed: more than one stage failed, or a worker failed by a bug or died; the traceback of a bug is in
            the log of the worker.
    """
    if not failures:
        return
    (name, failure), *others = failures.items()
    error = failure.error
    if others or not (isinstance(error, UserError) or error.__traceback__):
        raise StagesFailed(failures)
    if name not in wanted:
        error.add_note("\n".join([f"  stage    {name}", *failure.details()]))
    raise error
