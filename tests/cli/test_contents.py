"""The command, where files or code have changed since it was run before."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest
from PIL import Image

pytestmark = pytest.mark.fault("images, labels or code that changed")

MACHINE = ["--device", "cpu", "--threads", "1", "--no-progress", "--executor", "inline"]
MACHINE += ["--store", "store", "--data-root", "data", "--min-teacher-accuracy", "0"]
TRAIN = ["--schedule.epochs", "3", "--schedule.batch-size", "8", "--optim.lr", "0.05"]
NET = """from torch import nn
def net(num_classes, in_shape):
    return nn.Sequential(nn.Flatten(), nn.Linear(64, 16), nn.ReLU(), nn.Linear(16, num_classes))
"""


@pytest.fixture(autouse=True)
def _project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    draw("a"), draw("b")


def draw(name: str) -> None:
    for split in ("train", "test"):
        folder = Path("f", split, name)
        folder.mkdir(parents=True)
        for number in range(12):
            dark = 60 * "abc".index(name)
            pixels = np.random.default_rng(number).integers(dark, dark + 40, (6, 6, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(folder / f"{number}.png")


class Command(NamedTuple):
    """`distill` in a process of its own for each call, since a process imports a module once."""

    python: list[str]

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        argv = [*self.python, "-m", "distill", *words, *MACHINE]
        return subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)

    def path_of(self, *words: str) -> str:
        """The artifact that a command makes or finds."""
        done = self.run(*words)
        assert not done.returncode, done.stderr
        return done.stdout.splitlines()[-1]


@pytest.fixture
def distill(python: list[str]) -> Command:
    return Command(python)


def test_an_edited_network_is_noticed(distill: Command) -> None:
    Path("mine.py").write_text(NET)
    words = ("teacher", "--model.name", "mine:net", *TRAIN)
    old = distill.path_of(*words)
    assert distill.path_of(*words) == old
    Path("mine.py").write_text(NET.replace("ReLU", "GELU"))
    refused = distill.run("cache", "--teacher", old, "--trust")
    assert refused.returncode == 2
    assert "'mine:net': expected what it was" in refused.stderr
    assert refused.stderr.count("\n") == 1
    verified = distill.run("verify", old, "--trust")
    assert verified.returncode == 1
    assert "FAILED   mine:net: has other content than the record" in verified.stdout
    assert distill.path_of(*words) != old


def test_other_images_and_labels_are_noticed(distill: Command) -> None:
    words = ("teacher", "--data.name", "imagefolder:f", *TRAIN)
    teacher = distill.path_of(*words)
    cache = distill.path_of("cache", "--teacher", teacher)
    assert "ok       decoded copy" in distill.run("verify", cache).stdout
    labels = next(Path("data/decoded").glob("*/labels.npy"))
    np.save(labels, 1 - np.load(labels))
    for each in (distill.run("verify", cache), distill.run("verify", teacher)):
        assert each.returncode == 1
        assert "FAILED   decoded copy" in each.stdout
    refused = distill.run("student", "--cache", cache, *TRAIN)
    assert refused.returncode == 2
    assert "labels.npy = 'changed'" in refused.stderr
    draw("c")
    assert "FAILED   imagefolder:f" in distill.run("verify", teacher).stdout
    assert "'imagefolder:f': expected what it was" in distill.run("student", "--cache", cache, *TRAIN).stderr
    again = distill.path_of(*words)
    assert again != teacher
    assert json.loads(Path(again, "record.json").read_text())["data"]["classes"] == ["a", "b", "c"]


def test_a_digest_is_no_flag_and_stays_with_its_name(distill: Command) -> None:
    assert "content" not in distill.run("cache", "--help").stdout
    teacher = distill.path_of("teacher", "--data.name", "imagefolder:f", *TRAIN)
    Path("f").rename("g")
    cache = distill.path_of("cache", "--teacher", teacher, "--transfer-set.name", "imagefolder:g")
    assert json.loads(Path(cache, "record.json").read_text())["config"]["transfer_set"]["content"]


def test_a_sweep_that_is_there_needs_no_images(distill: Command) -> None:
    words = ["sweep-smoothing", "--data.name", "imagefolder:f", "--smoothings", "0", "0.1", "--seeds", "1"]
    words += ["--data.held-out", "0.5", "--schedule.epochs", "30", "--schedule.batch-size", "8"]
    made = distill.run(*words)
    assert not made.returncode, made.stderr
    Path("f").rename("g")
    again = distill.run(*words)
    assert again.stdout == made.stdout
    assert "imagefolder:f is not checked, since it is not here: sweeps/" in again.stderr
