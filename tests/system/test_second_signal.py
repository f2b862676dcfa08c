"""A process that is told twice to end does so, wherever it is; once is left to its own handlers."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from distill.system.interrupts import SAME_SECONDS

pytestmark = pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")

SCRIPT = """
import ctypes, multiprocessing, signal, sys, time
from distill.system.second_signal import end_at_second_signal
for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
    signal.signal(number, lambda *_: None)
end_at_second_signal()
child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,), daemon=True)
child.start()
print(child.pid, flush=True)
if sys.argv[1] == "native":
    mutex, libc = ctypes.create_string_buffer(64), ctypes.CDLL(None)
    for _ in range(2):  # the second call never returns
        libc.pthread_mutex_lock(mutex)
time.sleep(60)
"""


@pytest.mark.parametrize("where", ["python", "native"])
def test_the_second_signal_ends_a_process_and_its_children(where: str) -> None:
    command = [sys.executable, "-c", SCRIPT, where]
    pipe = subprocess.PIPE
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2])}
    process = subprocess.Popen(command, stdout=pipe, stderr=pipe, text=True, env=environment)
    assert process.stdout
    child = int(process.stdout.readline())
    for number in (signal.SIGHUP, signal.SIGHUP, signal.SIGTERM):  # the first two are one
        process.send_signal(number)
        time.sleep(0.05)
    assert process.poll() is None
    time.sleep(SAME_SECONDS)
    process.send_signal(signal.SIGINT)
    _, told = process.communicate(timeout=10)
    assert process.returncode == 128 + signal.SIGINT
    assert told.strip() == "ended at once; run the same command again to go on from what was saved last"
    assert not _lives(child)


def _lives(process: int) -> bool:
    """Tell whether a process still lives, after a moment in which it may end."""
    for _ in range(100):
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        time.sleep(0.05)
    return True
