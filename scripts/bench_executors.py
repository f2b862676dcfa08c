"""Measure the seconds of a graph of small students, one after another and side by side in processes.

The teacher and its cache are made first and are not timed. Each measurement is a process of its own, from its start
to its end, and so includes the start of Python and torch (the pool starts them once more in each worker). The
executors take turns, and the result is the median over rounds of the ratio within a round, so that the drift of a
shared machine falls on both alike. Where other programs use the cores, the ratio says little: look at the load, and
at the seconds of CPU, of which each core can spend one per second.

    python scripts/bench_executors.py [--full] [--students 8] [--epochs 40] [--jobs 2] [--rounds 1] [--device cpu]
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from rounds import announce, make_parser, parse

CHILD = """
import json, sys
from pathlib import Path
from distill.config import parse_stage
from distill.pipeline.graph import ensure
from distill.system.runtime import Runtime
from distill.store import ArtifactStore

if __name__ == "__main__":
    given = json.loads(sys.argv[1])
    runtime = Runtime(**given["runtime"])
    ensure([parse_stage(config) for config in given["configs"]], ArtifactStore(runtime.store), runtime)
"""


def add_arguments(parser: argparse.ArgumentParser, students: int, epochs: int) -> None:
    """Add the arguments that this benchmark shares with `bench_gpu_sharing`."""
    parser.add_argument("--students", type=int, default=students)
    parser.add_argument("--epochs", type=int, default=epochs, help="of each student")
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--widths", type=int, nargs="+", default=[128], help="layers of the student, an MLP")
    parser.add_argument("--data", default="digits")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--threads", type=int, help="CPU threads per process; by default inline takes all cores")
    parser.add_argument("--rounds", type=int, default=1)


def runtime(given: argparse.Namespace, store: Path, **more: Any) -> dict[str, Any]:
    """Return the fields of a `Runtime`."""
    data = os.environ.get("DISTILL_DATA", "data")
    common = {"store": str(store), "data_root": data, "device": given.device, "threads": given.threads}
    return common | {"progress": False, "min_teacher_accuracy": 0} | more


def students(given: argparse.Namespace, model: dict[str, Any], distilled: bool) -> list[dict[str, Any]]:
    """Return configs of students that differ only in their seeds."""
    data: dict[str, Any] = {"name": given.data, "held_out": 0.1}
    schedule = {"epochs": given.epochs, "batch_size": given.batch}
    config: dict[str, Any] = {"stage": "student", "data": data, "model": model, "schedule": schedule}
    if distilled:
        teacher = {"stage": "teacher", "data": data, "model": model, "schedule": schedule | {"epochs": 1}}
        config["cache"] = {"stage": "cache", "teacher": teacher, "transfer_set": data}
        config["loss"] = {"temperature": 4}
    else:
        config["loss"] = {"alpha": 0}
    return [config | {"seed": seed} for seed in range(given.students)]


def epoch_seconds(given: argparse.Namespace) -> float:
    """Return roughly how many seconds an epoch of a small student takes."""
    return 0.05 if given.data == "digits" else 1.5


def seconds(configs: list[dict[str, Any]], fields: dict[str, Any], script: Path) -> float:
    """Make artifacts in a process of its own, and return its seconds; existing students are made again."""
    shutil.rmtree(Path(fields["store"]) / "students", ignore_errors=True)
    script.write_text(CHILD, encoding="utf-8")  # in a file, which the processes of the workers can import
    started = time.perf_counter()
    subprocess.run([sys.executable, script, json.dumps({"configs": configs, "runtime": fields})], check=True)
    return time.perf_counter() - started


def main() -> None:
    """Print the seconds of both executors in each round, and the median of their ratio."""
    parser = make_parser(__doc__)
    add_arguments(parser, students=8, epochs=40)
    parser.add_argument("--jobs", type=int, help="processes of the pool; by default one per core")
    given = parse(parser, data="fashion-mnist", epochs=6, rounds=3)
    announce(15 + given.rounds * (15 + 1.5 * given.students * (epoch_seconds(given) * given.epochs + 1)))
    with tempfile.TemporaryDirectory() as folder:
        store, script = Path(folder) / "store", Path(folder) / "child.py"
        configs = students(given, {"name": "mlp", "kwargs": {"widths": given.widths}}, distilled=True)
        one = runtime(given, store, executor="inline")
        seconds([configs[0]["cache"]], one, script)
        ratios = []
        for number in range(given.rounds):
            side_by_side = runtime(given, store, executor="pool", jobs=given.jobs)
            order = [("inline", one), ("pool", side_by_side)][:: 1 if number % 2 else -1]
            took = {}
            for name, fields in order:
                before = os.times()
                took[name] = seconds(configs, fields, script)
                after = os.times()
                cpu = after.children_user + after.children_system - before.children_user - before.children_system
                print(
                    f"{name:6} {took[name]:6.1f} s, {cpu:6.1f} s of CPU, load {os.getloadavg()[0]:.1f}", flush=True
                )
            ratios.append(took["inline"] / took["pool"])
    print(f"inline / pool, median of {given.rounds}: {statistics.median(ratios):.2f}")


if __name__ == "__main__":
    main()
