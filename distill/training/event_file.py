"""Write TensorBoard's event file in the thread that logs.

torch's writer hands its events to a thread of its own, where nobody can catch the error of a full disk. It also
names its files by the clock alone, although TensorBoard reads the files of a run in the order of their names.
"""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tensorboard.compat.proto import summary_pb2
from tensorboard.compat.proto.event_pb2 import Event, SessionLog  # pyright: ignore[reportAttributeAccessIssue]
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import scalar
from torch.utils.tensorboard.writer import FileWriter, SummaryWriter

_NAME = "events.out.tfevents."


class SafeSummaryWriter(SummaryWriter):
    """Write a TensorBoard log that a full disk cannot stop: after its first error it drops all further events.

    Args:
        folder: folder of the log; made if it is missing.
        failed: called once, with the first error.
        purge_step: events of this step and later, in older files of the folder, are hidden.
    """

    def __init__(self, folder: Path, failed: Callable[[OSError], object], purge_step: int | None = None):
        self._events, self._explained = _EventFile(folder, failed), set[str]()
        super().__init__(str(folder), purge_step=purge_step)

    def add_explained(self, name: str, value: float, text: str, step: int) -> None:
        """Add a scalar with a text, in Markdown, that its chart shows."""
        summary = scalar(name, value)
        if name not in self._explained:  # TensorBoard reads the text of the first event only
            self._explained.add(name)
            about = summary.value[0].metadata
            about.summary_description, about.plugin_data.plugin_name = text, "scalars"
            about.data_class = summary_pb2.DATA_CLASS_SCALAR  # pyright: ignore[reportAttributeAccessIssue]
        self.add_summary(summary, step)

    def add_summary(self, summary: Any, step: int | None = None) -> None:
        """Add a summary to this log; torch's own methods open a second one for some kinds."""
        self._get_file_writer().add_summary(summary, step)

    def _get_file_writer(self) -> FileWriter:
        if self.file_writer is None:
            self.file_writer = _FileWriter(self._events)
            self.all_writers = {self.file_writer.get_logdir(): self.file_writer}
            if self.purge_step is not None:
                started = SessionLog(status=SessionLog.START)
                self.file_writer.add_event(Event(session_log=started), self.purge_step)
        return self.file_writer


class _FileWriter(FileWriter):
    """Let torch's `FileWriter` write to an `_EventFile`."""

    def __init__(self, events: _EventFile):
        self.event_writer: Any = events


class _EventFile:
    """Write an event file, with the methods that torch's `FileWriter` calls."""

    def __init__(self, folder: Path, failed: Callable[[OSError], object]):
        self._folder, self._failed = folder, failed
        self._records: RecordWriter | None = None
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._records = RecordWriter((folder / _next_name(folder)).open("wb"))
        except OSError as error:
            self._give_up(error)
        self.add_event(Event(wall_time=time.time(), file_version="brain.Event:2"))
        self.flush()

    def get_logdir(self) -> str:
        return str(self._folder)

    def add_event(self, event: Event) -> None:
        self._attempt(lambda records: records.write(event.SerializeToString()))

    def flush(self) -> None:
        self._attempt(lambda records: records.flush())

    def close(self) -> None:
        self._attempt(lambda records: records.close())
        self._records = None

    def _attempt(self, write: Callable[[RecordWriter], object]) -> None:
        if self._records is None:
            return
        try:
            write(self._records)
        except OSError as error:
            self._give_up(error)

    def _give_up(self, error: OSError) -> None:
        records, self._records = self._records, None
        try:
            if records is not None:
                records.close()
        except OSError:
            pass  # the rest of the buffer cannot be written either
        self._failed(error)


def _next_name(folder: Path) -> str:
    """Return a file name that sorts after all event files of the folder, even if the clock was set back."""
    there = [path.name.removeprefix(_NAME).split(".")[0] for path in folder.glob(f"{_NAME}*")]
    latest = max((int(number) for number in there if number.isdecimal()), default=0)
    return f"{_NAME}{max(int(time.time()), latest + 1):010d}.{socket.gethostname()}.{os.getpid()}"
