"""Test that shards are written whole or not at all, taken up after a kill, and checked when first read."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from distill.cache import shards
from distill.cache.encoding import Encoding
from distill.cache.shards import SHARDS, Layout, Piece, Shard, ShardReader, write_shards
from tests.faults.refusals import few_open_files


def exact(shard: Shard, classes: int = 5) -> torch.Tensor:
    """Return logits that tell their place: no two rows are alike."""
    index = torch.arange(shard.first, shard.last, dtype=torch.float32)
    return index[:, None] * 0.01 + torch.arange(classes) + 100 * shard.view


def answers(shard: Shard) -> Iterator[Piece]:
    for part in exact(shard).split(100):
        yield Piece(part, torch.full((len(part),), 4))


@pytest.fixture
def layout(monkeypatch: pytest.MonkeyPatch) -> Layout:
    monkeypatch.setattr(shards, "MOST_ROWS", 256)
    return Layout(samples=1000, views=3, encoding=Encoding(5, "float32"))


def asked_for(folder: Path, layout: Layout) -> list[Shard]:
    """Write or go on with a cache, and return the shards that the teacher is asked for."""
    asked: list[Shard] = []

    def noted(shard: Shard) -> Iterator[Piece]:
        asked.append(shard)
        yield from answers(shard)

    write_shards(folder, layout, noted)
    return asked


def tree(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_shards_cover_every_row_once(layout: Layout) -> None:
    rows = [(shard.view, row) for shard in layout.shards() for row in range(shard.first, shard.last)]
    assert sorted(rows) == [(view, row) for view in range(3) for row in range(1000)]
    assert len({shard.name for shard in layout.shards()}) == 3 * layout.shards_per_view == 12


def test_shards_of_many_classes_hold_64_mib_at_most() -> None:
    wide = Layout(1_281_167, 1, Encoding(21_841))
    assert wide.rows_per_shard == 2048
    assert Layout(1_281_167, 1, Encoding(1000)).rows_per_shard * 2004 <= 64 << 20
    assert Layout(50_000, 1, Encoding(10)).shards_per_view == 1
    assert wide.bytes == 1_281_167 * (4 + 21_841 * 2)


def test_one_process_goes_on_with_what_a_rank_of_two_wrote(layout: Layout, tmp_path: Path, monkeypatch) -> None:
    for name in ("broken", "whole"):
        (tmp_path / name).mkdir()

    def died(_: object) -> list[object]:
        raise RuntimeError("Connection closed by peer")

    with monkeypatch.context() as two:
        two.setattr("distill.system.ranks.rank", lambda: 1)
        two.setattr("distill.system.ranks.world", lambda: 2)
        two.setattr("distill.system.ranks.on_first", lambda make: make())
        two.setattr("distill.system.ranks.gather", died)
        with pytest.raises(RuntimeError, match="peer"):
            write_shards(tmp_path / "broken", layout, answers)
    every = list(layout.shards())
    assert sorted(tree(tmp_path / "broken" / "logits")) == sorted(Path(shard.name).name for shard in every[1::2])
    assert asked_for(tmp_path / "broken", layout) == every[0::2]
    write_shards(tmp_path / "whole", layout, answers)
    assert tree(tmp_path / "broken") == tree(tmp_path / "whole")


def test_what_is_read_is_what_was_written(layout: Layout, tmp_path: Path) -> None:
    metrics = write_shards(tmp_path, layout, answers)
    assert metrics == {"transfer/accuracy": 1.0, "rounding_error": 0.0}
    reader = ShardReader(lambda name: tmp_path / name, layout)
    index = np.random.default_rng(0).permutation(1000)[:300]
    for view in range(3):
        whole = exact(Shard(view, 0, 1000)).numpy()
        assert np.array_equal(reader.rows(index, view)["logits"], whole[index])
        assert np.array_equal(reader.view(view)["logits"], whole)


def test_the_measures_are_over_all_shards(layout: Layout, tmp_path: Path) -> None:
    def mostly_wrong(shard: Shard) -> Iterator[Piece]:
        for piece in answers(shard):
            yield piece if shard.view == 1 else piece._replace(labels=torch.zeros_like(piece.labels))

    assert write_shards(tmp_path, layout, mostly_wrong)["transfer/accuracy"] == pytest.approx(1 / 3)


def test_a_second_call_asks_nobody(layout: Layout, tmp_path: Path) -> None:
    first = write_shards(tmp_path, layout, answers)
    before = tree(tmp_path)
    assert write_shards(tmp_path, layout, lambda shard: pytest.fail(f"{shard} is there")) == first
    assert tree(tmp_path) == before


def test_after_an_interruption_only_what_is_missing_is_made(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    (tmp_path / "resumed").mkdir()
    first = write_shards(tmp_path / "whole", layout, answers)

    def interrupted(shard: Shard) -> Iterator[Piece]:
        if shard == Shard(1, 256, 512):
            raise KeyboardInterrupt
        yield from answers(shard)

    with pytest.raises(KeyboardInterrupt):
        write_shards(tmp_path / "resumed", layout, interrupted)
    assert asked_for(tmp_path / "resumed", layout) == list(layout.shards())[5:]
    assert write_shards(tmp_path / "resumed", layout, answers) == first
    assert tree(tmp_path / "resumed") == tree(tmp_path / "whole")


@pytest.mark.fault("a damaged file in a store")
@pytest.mark.parametrize("damage", ["truncate", "flip", "remove", "forget"])
def test_a_damaged_shard_is_made_again(layout: Layout, tmp_path: Path, damage: str) -> None:
    write_shards(tmp_path, layout, answers)
    before = tree(tmp_path)
    shard = list(layout.shards())[7]
    path = tmp_path / shard.name
    data = bytearray(path.read_bytes())
    if damage == "truncate":
        path.write_bytes(data[:-3])
    elif damage == "flip":
        data[-1] ^= 1
        path.write_bytes(data)
    elif damage == "remove":
        path.unlink()
    else:
        known = json.loads((tmp_path / SHARDS).read_text())
        del known[shard.name]
        (tmp_path / SHARDS).write_text(json.dumps(known))
    os.utime(tmp_path, (0, 0))
    assert asked_for(tmp_path, layout) == [shard]
    assert tree(tmp_path) == before


WRITER = """
import sys, time
from pathlib import Path
import torch
from distill.cache import shards
from distill.cache.encoding import Encoding
shards.MOST_ROWS = 256
def answers(shard):
    time.sleep(0.05)
    index = torch.arange(shard.first, shard.last, dtype=torch.float32)
    logits = index[:, None] * 0.01 + torch.arange(5) + 100 * shard.view
    yield shards.Piece(logits, torch.full((len(logits),), 4))
print("ready", flush=True)
shards.write_shards(Path(sys.argv[1]), shards.Layout(1000, 3, Encoding(5, "float32")), answers)
"""


def stamped(folder: Path) -> int:
    return len(list((folder / "stamps").glob("*.json")))


@pytest.mark.fault("SIGKILL at a random moment")
def test_a_kill_at_any_moment_loses_no_finished_shard(layout: Layout, tmp_path: Path) -> None:
    (tmp_path / "whole").mkdir()
    write_shards(tmp_path / "whole", layout, answers)
    folder = tmp_path / "killed"
    folder.mkdir()
    seen = 0
    for moment in (0, 0.005, 0.02):
        process = subprocess.Popen([sys.executable, "-c", WRITER, str(folder)], stdout=subprocess.PIPE, text=True)
        assert process.stdout is not None
        process.stdout.readline()
        while stamped(folder) < seen + 2:
            time.sleep(0.001)
        time.sleep(moment)
        process.send_signal(signal.SIGKILL)
        process.wait()
        process.stdout.close()
        seen = stamped(folder)
    assert 0 < seen < 12
    assert len(asked_for(folder, layout)) == 12 - seen
    assert tree(folder) == tree(tmp_path / "whole")


@pytest.mark.fault("a full or read-only disk")
def test_a_full_disk_leaves_no_half_shard(layout: Layout, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space left"):
            write_shards(tmp_path, layout, answers)
    assert tree(tmp_path) == {}
    write_shards(tmp_path, layout, answers)


def test_too_few_answers_are_a_bug_that_is_told(layout: Layout, tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="100 answers for the 256 samples"):
        write_shards(tmp_path, layout, lambda shard: [next(answers(shard))])


def test_only_shards_that_are_touched_are_opened(layout: Layout, tmp_path: Path) -> None:
    write_shards(tmp_path, layout, answers)
    opened: list[str] = []

    def noted(name: str) -> Path:
        opened.append(name)
        return tmp_path / name

    reader = ShardReader(noted, layout)
    assert opened == []
    reader.rows(np.array([3, 700, 5]), 2)
    reader.rows(np.array([4]), 2)
    assert opened == [Shard(2, 0, 256).name, Shard(2, 512, 768).name]


@pytest.mark.fault("more shards than files may be open")
def test_more_shards_than_files_may_be_open(layout: Layout, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(shards, "MOST_ROWS", 40)
    index = np.random.default_rng(0).permutation(1000)
    with few_open_files(32):
        write_shards(tmp_path, layout, answers)
        reader = ShardReader(lambda name: tmp_path / name, layout)
        for view in (0, 1, 2, 0):
            whole = exact(Shard(view, 0, 1000)).numpy()
            assert np.array_equal(reader.rows(index, view)["logits"], whole[index])
            assert np.array_equal(reader.view(view)["logits"], whole)
        assert write_shards(tmp_path, layout, answers, still_right=whole_in(reader)) != {}


def whole_in(reader: ShardReader) -> Callable[[Shard], bool]:
    """Return a function that reads a whole shard, as an interrupted writer does."""
    return lambda shard: len(reader.rows(np.arange(shard.first, shard.last), shard.view)) > 0


def test_a_mapped_shard_outlives_its_file(layout: Layout, tmp_path: Path) -> None:
    write_shards(tmp_path, layout, answers)
    reader = ShardReader(lambda name: tmp_path / name, layout)
    before = reader.view(1)
    for path in (tmp_path / "logits").iterdir():
        path.unlink()
    assert np.array_equal(reader.view(1), before)


def test_many_classes(tmp_path) -> None:
    for classes, top_k in ((1000, None), (21_841, None), (21_841, 100)):
        layout = Layout(3000, 1, Encoding(classes, "float16", top_k))
        exact = torch.randn(3000, classes, generator=torch.Generator().manual_seed(0))

        def answers(shard: Shard, exact: torch.Tensor = exact) -> list[Piece]:
            return [Piece(exact[shard.first : shard.last], torch.zeros(shard.last - shard.first, dtype=torch.long))]

        folder = tmp_path / f"{classes}-{top_k}"
        folder.mkdir()
        write_shards(folder, layout, answers)
        reader = ShardReader(lambda name, folder=folder: folder / name, layout)
        index = torch.tensor([2999, 0, 2048, 7])
        found = layout.encoding.decode(reader.rows(index.numpy(), 0)).float()
        kept = exact[index].topk(top_k or classes).indices
        torch.testing.assert_close(found.gather(1, kept), exact[index].gather(1, kept), atol=2e-3, rtol=1e-3)
