"""Measure what a store of many artifacts costs: `ls`, `plan` of a large graph, `gc`, `show` by key.

    python scripts/bench_store.py [FOLDER] [--full] [--artifacts 10000] [--runs 1000]

A folder that is named is filled once, and kept. Records have the configs, keys and inputs of real runs (networks
of a seed, their caches and students, an analysis of each seed, a report of ten seeds), and its files have a few
bytes. Each command is a process of its own. The table has its seconds from start to end, its seconds of a core
(which are the seconds on a quiet machine), and the most memory that it held.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from rounds import announce, make_parser, parse
from tqdm import tqdm

from distill.config import (
    AnalysisConfig,
    CacheConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    ReportConfig,
    StageConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.store.key import key
from distill.store.record import RECORD, FileEntry, Record
from distill.store.stages import STAGES, inputs
from distill.store.store import ArtifactStore

_SMOOTHINGS = (0.0, 0.1)
_TEMPERATURES = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 8.0, 12.0, 16.0, 20.0)
_PER_REPORT = 10
_PER_SEED = 2 * (2 + len(_TEMPERATURES)) + 1 + 1 / _PER_REPORT
_SHAPE = [1, 28, 28]


def analysis_of(seed: int) -> AnalysisConfig:
    """Return the analysis of one seed: two teachers, and students of each teacher at every temperature."""
    runs: list[TeacherConfig | StudentConfig] = []
    data = DataConfig(name="fashion-mnist")
    for smoothing in _SMOOTHINGS:
        teacher = TeacherConfig(data=data, model=ModelConfig(name="cnn"), seed=seed).with_loss(smoothing=smoothing)
        cache = CacheConfig(teacher=teacher, transfer_set=data)
        runs.append(teacher)
        for temperature in _TEMPERATURES:
            loss = LossConfig(temperature=temperature)
            runs.append(StudentConfig(data=data, cache=cache, loss=loss, seed=seed))
    return AnalysisConfig(runs=tuple(runs))


def report_of(first: int, seeds: int) -> ReportConfig:
    """Return a report of the analyses of some seeds."""
    analyses = tuple(analysis_of(seed) for seed in range(first, first + seeds))
    return ReportConfig(experiment="bench", source="0" * 64, scale="quick", data="fashion-mnist", analyses=analyses)


def fill(store: ArtifactStore, seeds: int) -> None:
    """Publish the reports of many seeds, and everything that they are made from."""
    for first in tqdm(range(0, seeds, _PER_REPORT), desc="filling", unit="report", leave=False):
        for config in behind(report_of(first, min(_PER_REPORT, seeds - first))):
            publish(store, config)


def behind(config: StageConfig) -> Iterator[StageConfig]:
    """Yield a config and all configs that it is made from, each once, inputs first."""
    seen: dict[str, StageConfig] = {}

    def visit(config: StageConfig) -> None:
        if key(config) not in seen:
            for upstream in inputs(config):
                visit(upstream)
            seen[key(config)] = config

    visit(config)
    yield from seen.values()


def publish(store: ArtifactStore, config: StageConfig) -> None:
    """Publish an artifact with one small file."""
    folder = store.path(config)
    folder.mkdir(parents=True)
    (folder / "model.bin").write_bytes(b"weights")
    draw = random.Random(key(config))
    sizes = {"train": 54_000, "held_out": 6_000, "test": 10_000}
    record = Record(
        key=key(config),
        version=STAGES[config.stage].version,
        config=config.model_dump(mode="json"),
        inputs={key(upstream): "0" * 64 for upstream in inputs(config)},
        files={"model.bin": FileEntry(sha256=hashlib.sha256(b"weights").hexdigest(), bytes=7)},
        data={"name": "fashion-mnist", "sizes": sizes, "shape": _SHAPE, "classes": [str(n) for n in range(10)]},
        metrics={f"{split}/accuracy": 0.9 + 0.05 * draw.random() for split in ("held_out", "test")},
        provenance={"seconds": 5 + 10 * draw.random()},
    )
    (folder / RECORD).write_bytes(record.sealed())


def planned(store: ArtifactStore, seeds: int, runs: int) -> str:
    """Return the plan of a report of `runs` runs, half of which are in the store."""
    from distill.audit import plan

    wanted = runs // len(analysis_of(0).runs) + 1
    return plan.describe([report_of(seeds - wanted // 2, wanted)], store).text


def measured(arguments: list[str]) -> tuple[float, float, float]:
    """Run a process, which must succeed, and return its seconds, seconds of a core and most MB of memory."""
    started = time.perf_counter()
    process = subprocess.Popen(arguments, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    if status:
        raise SystemExit(f"{' '.join(arguments)}: status {status}")
    in_kilobytes = 1e3 if sys.platform == "linux" else 1e6
    return time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / in_kilobytes


def main() -> None:
    """Measure a store that is named, or one of its own."""
    parser = make_parser(__doc__)
    parser.add_argument("folder", type=Path, nargs="?", help="store to fill, or to measure if it exists")
    parser.add_argument("--artifacts", type=int, default=10_000)
    parser.add_argument("--runs", type=int, default=1_000)
    parser.add_argument("--only-plan", action="store_true", help="plan in a process of this script")
    given = parse(parser, artifacts=100_000, runs=10_000)
    if not given.only_plan:
        announce(10 + (0.004 if given.folder and given.folder.exists() else 0.007) * given.artifacts)
    with tempfile.TemporaryDirectory() as folder:
        given.folder = given.folder or Path(folder) / "store"
        measure(given)


def measure(given: argparse.Namespace) -> None:
    """Fill the folder if it does not exist, and print a table."""
    store, seeds = ArtifactStore(given.folder), int(given.artifacts / _PER_SEED)
    if given.only_plan:
        print(planned(store, seeds, given.runs))
        return
    if not given.folder.exists():
        started = time.perf_counter()
        fill(store, seeds)
        print(f"filled in {time.perf_counter() - started:.0f} s")
    own = [sys.executable, __file__, str(given.folder), *(f"--{name}={getattr(given, name)}" for name in _SIZES)]
    distill = [sys.executable, "-m", "distill"]
    where = ["--store", str(given.folder)]
    some = key(analysis_of(seeds // 2).runs[0])
    asked = {
        "distill --help (start-up alone)": [*distill, "--help"],
        "distill ls": [*distill, "ls", *where],
        f"plan of {given.runs:,} runs": [*own, "--only-plan"],
        "distill gc": [*distill, "gc", *where],
        "distill show KEY": [*distill, "show", some, *where],
    }
    print(f"{'':32} {'seconds':>8} {'of a core':>10} {'MB':>6}   ({given.artifacts:,} artifacts)")
    for name, arguments in asked.items():
        seconds, of_a_core, megabytes = measured(arguments)
        print(f"{name:32} {seconds:8.2f} {of_a_core:10.2f} {megabytes:6.0f}", flush=True)


_SIZES = ("artifacts", "runs")

if __name__ == "__main__":
    main()
