"""Measure how long it takes until something starts: the import, help, the first step of training, TensorBoard.

Each measurement is a process of its own, and they take turns. Beside the seconds stand the seconds of a core, which
are the seconds on a quiet machine, and their ratio to those of `import torch`. The first step is that of a teacher
of digits, from the start of the process to the end of the step. TensorBoard starts on a store of many runs, which
are copies of one real run, and is ready when its server lists the scalars of all.

    python scripts/bench_start.py [--full] [--rounds 3] [--runs 340]
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Callable
from functools import partial
from pathlib import Path

from bench_store import measured
from rounds import announce, make_parser, parse, take_turns

FIRST_STEP = """
import os
from distill.training import loop
whole = loop.take_step
def take_step(*arguments):
    whole(*arguments)
    os._exit(0)
loop.take_step = take_step
from distill.cli.main import main
main()
"""
TRAINING = "teacher", "--data.name", "digits", "--model.name", "mlp", "--schedule.epochs", "1", "--device", "cpu"
LISTED = "until tensorboard lists {} runs"
ASKED = {"import distill": 0.1}
"""Seconds of a core that are asked for."""
TORCH = "import torch"
PATIENCE = 300
"""Seconds after which TensorBoard is given up."""


def copy_runs(store: Path, runs: int) -> None:
    """Train one teacher, and leave a store in which its TensorBoard log lies as often as asked."""
    subprocess.run(
        [sys.executable, "-m", "distill", *TRAINING, "--store", str(store)], check=True, capture_output=True
    )
    (run,) = (store / "teachers").iterdir()
    for number in range(1, runs):
        shutil.copytree(run / "tb", store / "teachers" / f"{run.name}-{number}" / "tb")


def listed(store: Path, runs: int) -> tuple[float, float]:
    """Start TensorBoard, and return the seconds until it lists all runs, and its seconds of a core until then."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = ["-m", "tensorboard.main", "--logdir", store, "--host", "127.0.0.1", "--port", str(port)]
    started = time.perf_counter()
    server = subprocess.Popen([sys.executable, *command], stderr=subprocess.DEVNULL)
    try:
        while _runs_at(port) < runs:
            if server.poll() is not None or time.perf_counter() - started > PATIENCE:
                raise SystemExit(f"tensorboard did not list {runs} runs of {store}")
            time.sleep(0.05)
        seconds = time.perf_counter() - started
    finally:
        server.terminate()
        _, _, usage = os.wait4(server.pid, 0)
    return seconds, usage.ru_utime + usage.ru_stime


def _runs_at(port: int) -> int:
    """Return how many runs have scalars that can be drawn; names alone are listed before anything is read."""
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/data/plugin/scalars/tags") as answer:
            return sum(map(bool, json.load(answer).values()))
    except OSError:  # it does not listen yet
        return 0


def contestants(store: Path, runs: int) -> dict[str, Callable[[], tuple[float, ...]]]:
    """Return what is started: name → function that returns its seconds, and its seconds of a core."""
    python = [sys.executable, "-c"]
    distill = [sys.executable, "-m", "distill"]
    commands = {
        "python": [*python, "pass"],
        TORCH: [*python, TORCH],
        "import distill": [*python, "import distill"],
        "distill --help": [*distill, "--help"],
        "distill teacher --help": [*distill, "teacher", "--help"],
        "until the first step of training": [
            *python,
            FIRST_STEP,
            *TRAINING,
            "--store",
            str(store.parent / "drafts"),
        ],
    }
    started: dict[str, Callable[[], tuple[float, ...]]] = {
        name: partial(measured, command) for name, command in commands.items()
    }
    return started | {LISTED.format(runs): partial(listed, store, runs)}


def main() -> None:
    """Start everything in turns, and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--runs", type=int, default=340, help="runs in the store that TensorBoard reads")
    given = parse(parser, rounds=15)
    announce(10 + given.rounds * (15 + 0.02 * given.runs))
    with tempfile.TemporaryDirectory(prefix="bench-start-") as folder:
        store = Path(folder) / "store"
        copy_runs(store, given.runs)
        found = take_turns(contestants(store, given.runs), given.rounds, warm_up=0)
    print(f"{'':34} {'seconds':>8} {'of a core':>10} {'/ ' + TORCH:>15}")
    of_torch = statistics.median(taken[1] for taken in found[TORCH])
    for name, taken in found.items():
        seconds, of_a_core = (statistics.median(each[number] for each in taken) for number in (0, 1))
        asked = f"   asked: {ASKED[name]} s" if name in ASKED else ""
        print(f"{name:34} {seconds:8.2f} {of_a_core:10.2f} {of_a_core / of_torch:15.2f}{asked}")


if __name__ == "__main__":
    main()
