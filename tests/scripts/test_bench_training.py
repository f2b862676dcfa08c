"""The bench of training at toy size: what it compares and prints, not how fast anything is."""

from __future__ import annotations

import re
import sys
from argparse import Namespace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from tests.scripts.script import script

SCRIPT = Path(__file__).parents[2] / "scripts" / "bench_training.py"
TOY = "--model cnn --images 64 --batch 16 --rounds 2 --steps 2"


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    return script(SCRIPT)


def arguments(bench: ModuleType, monkeypatch: pytest.MonkeyPatch, *more: str) -> Namespace:
    monkeypatch.setattr(sys, "argv", ["bench_training.py", *TOY.split(), *more])
    return bench._arguments()


@pytest.mark.parametrize("precision", ["float32", "bfloat16"])
def test_prints_both_rates_and_their_ratio(bench, monkeypatch, capsys, precision: str) -> None:
    arguments(bench, monkeypatch, "--device", "cpu", "--channels-last", "--precision", precision)
    bench.main()
    told = capsys.readouterr().out
    assert f"cnn, batches of 16, {precision}, channels last; cpu" in told
    assert len(re.findall(r"(pipeline|bare loop) +[\d,]+ images/s", told)) == 2
    assert float(told.split("pipeline / bare loop")[1]) > 0


def test_both_train_the_same_net(bench, monkeypatch, tmp_path: Path) -> None:
    made = bench.Bench(arguments(bench, monkeypatch, "--device", "cpu", "--channels-last"))
    trained = []
    network = made.network
    monkeypatch.setattr(made, "network", lambda: trained.append(network()) or trained[-1])
    steps = made.pipeline(tmp_path), made.bare()
    first, second = (model.state_dict() for model, _ in trained)
    assert all(torch.equal(first[name], second[name]) for name in first)
    before = {name: value.clone() for name, value in first.items()}
    for step, (model, _) in zip(steps, trained, strict=True):
        step()
        assert all(not torch.equal(before[name], value) for name, value in model.named_parameters())


def test_a_batch_larger_than_the_set_is_refused(bench, monkeypatch) -> None:
    with pytest.raises(SystemExit, match="at most the 64 training images"):
        bench.Bench(arguments(bench, monkeypatch, "--device", "cpu", "--batch", "65"))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("model", ["cnn", "alexnet", "resnet56_preact"])
def test_no_step_waits_for_the_gpu(bench, monkeypatch, tmp_path: Path, model: str) -> None:
    more = "--device", "cuda", "--channels-last", "--precision", "bfloat16", "--model", model, "--images", "2048"
    made = bench.Bench(arguments(bench, monkeypatch, *more, "--steps", "300"))  # more than two epochs
    step = made.pipeline(tmp_path)
    for _ in range(3):  # constants and the set go to the device at first
        step()
    assert made.waits(step) == 0
