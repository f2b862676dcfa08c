"""The bench of the cache at toy size: what its table says, not how fast anything is."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

import pytest
import torch

from distill.errors import UserError
from tests.scripts.script import script

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_cache.py"
TOY = "--samples 300 --rounds 2 --write-samples 16 --write-rounds 1 --threads 1 --imagenet --imagenet-samples 2500"
PROC = Path("/proc/self/status").exists()


class Row(NamedTuple):
    bytes_per_view: str
    measured: str
    ratio: str
    to: str
    asked: str


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script(SCRIPT)


@pytest.fixture(scope="module")
def table(bench: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Row]:
    folder, printed = tmp_path_factory.mktemp("bench"), io.StringIO()
    toy = TOY if PROC else TOY.partition(" --imagenet")[0]
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(printed):
        patch.setattr(sys, "argv", [str(SCRIPT), *toy.split(), "--folder", str(folder)])
        patch.setattr(bench, "WARM_UP", 0)
        # Fresh processes would import everything again; that they are fresh is a test of its own.
        patch.setattr(bench, "alone", lambda function, *arguments: function(*arguments))
        bench.main()
    assert list(folder.iterdir()) == []
    cells = [[cell.strip() for cell in line.split("|")[1:-1]] for line in printed.getvalue().splitlines()[1:]]
    assert cells[0] == ["what", "B/view", "measured", "ratio", "to", "asked"]
    rows = cells[2:]
    assert len({row[0] for row in rows}) == len(rows)
    return {name: Row(*rest) for name, *rest in rows}


def test_bytes_per_view_are_those_of_the_formats(table: dict[str, Row]) -> None:
    sizes = {name: int(row.bytes_per_view.replace(",", "")) for name, row in table.items() if row.bytes_per_view}
    for name, size in sizes.items():
        classes = 10 if name.startswith("K = 10:") else 1000
        if "dense" in name or name.startswith("ImageNet"):
            assert size == 4 + 2 * classes
        elif "torch.save" in name:
            assert size > 4 * classes
        elif "online" in name:
            assert size == 0
        else:
            own = 4 if "TinyViT" in name else 8  # TinyViT keeps a seed; ours the tail and the mean
            assert size == own + 4 * (100 if "100" in name.partition(":")[2] else 10)
    ours = [size for name, size in sizes.items() if "ours top" in name]
    theirs = [size for name, size in sizes.items() if "TinyViT" in name]
    assert set(ours) == {48, 408}
    assert set(theirs) == {44, 404}


def test_what_is_asked_stands_at_what_is_ours(table: dict[str, Row]) -> None:
    for name, row in table.items():
        asked = "0.01" if ": ours" in name else "1.05" if "writing, " in name else ""
        assert row.asked == ("1" if name == "ImageNet size: RssAnon, peak" else asked)
        assert row.measured
        assert bool(row.ratio) == bool(row.to)
        if row.asked:
            assert float(row.ratio) > 0
    assert sum("writing, " in name for name in table) == 10
    assert sum(name.endswith("student's step") for name in table) == (3 if PROC else 2)


@pytest.mark.skipif(not PROC, reason="no /proc")
def test_the_memory_is_that_of_a_process(table: dict[str, Row]) -> None:
    before, peak = (table[f"ImageNet size: RssAnon{name}"] for name in (" before opening", ", peak"))
    assert 0.01 < float(before.measured.split()[0]) <= float(peak.measured.split()[0]) < 4
    assert float(peak.ratio) == pytest.approx(float(peak.measured.split()[0]), abs=1e-3)


def test_what_is_measured_alone_has_a_process_of_its_own(bench: ModuleType) -> None:
    one, other = bench.alone(os.getpid), bench.alone(os.getpid)
    assert len({one, other, os.getpid()}) == 3


@pytest.mark.skipif(not PROC, reason="no /proc")
def test_a_small_disk_is_told_before_anything_is_measured(tmp_path: Path) -> None:
    command = [sys.executable, str(SCRIPT), "--imagenet", "--imagenet-samples", str(10**13)]
    done = subprocess.run([*command, "--folder", str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 2
    assert "Set --folder to another disk." in done.stderr
    assert "|" not in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_a_system_without_proc_is_refused(
    bench: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(bench, "STATUS", tmp_path / "status")
    with pytest.raises(UserError, match=r"Drop --imagenet\."):
        bench.refuse_imagenet(tmp_path, 10)


def test_answers_to_other_samples_are_not_timed(bench: ModuleType) -> None:
    synthetic = bench.Synthetic(10)

    def read(index: torch.Tensor) -> torch.Tensor:
        return torch.cat([piece.logits for piece in synthetic.pieces(index)])

    bench.check(bench.Format("right", 0, read, 5000), 10)
    with pytest.raises(RuntimeError, match="off by one gave the answers to other samples"):
        bench.check(bench.Format("off by one", 0, lambda index: read(index + 1), 5000), 10)


def test_a_chunk_is_what_the_student_stage_reads(bench: ModuleType) -> None:
    config = bench.make_config(16, 10)
    data = bench.make_dataset(16, 10, bench.MNIST)
    assert bench.chunk_size(10) == bench.Network(bench.STUDENT, data, config).loader._chunk
    assert bench.chunk_size(1000) * 1000 * 4 <= bench.TARGET_BYTES < (bench.chunk_size(1000) + 128) * 1000 * 4


def test_every_sample_is_read_before_any_is_read_again(bench: ModuleType) -> None:
    parts = bench.endless(bench.Format("any", 0, lambda index: index, 1000))
    for _ in range(2):
        seen = torch.cat([next(parts) for _ in range(7)])
        assert len(seen.unique()) == len(seen) == 7 * 128
