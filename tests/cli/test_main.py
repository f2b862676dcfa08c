"""The command line as people meet it: help, and one line for each mistake."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import torch

from distill.cli.commands import COMMANDS
from distill.store.store import ArtifactStore
from tests.cli.commands import TINY, fail


def test_help_is_quick_and_needs_no_torch() -> None:
    code = "import sys; from distill.cli.main import main; main(['--help']); assert 'torch' not in sys.modules"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert all(f"  {command.name} " in told and command.summary in told for command in COMMANDS.values())


DEEP = '{"tree": ' + "[" * 100_000 + "]" * 100_000 + "}"


@pytest.mark.fault("odd JSON and command lines")
@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["nonsense"], "nonsense"),
        (["teacher", "--no-such-field", "1"], "--no-such-field"),
        (["teacher", "--seed", "many"], "many"),
        (["teacher", "--optim.lr", "-1"], "--optim.lr = -1.0: expected greater than 0"),
        (["teacher", "--smoothing", "1.5"], "less than 1"),
        (["teacher", "--jobs", "0"], "--jobs = 0: expected greater than or equal to 1"),
        (["reproduce", "all", "--jobs", "0"], "--jobs = 0: expected greater than or equal to 1"),
        (["teacher", "--model.name", "no-such-net"], "no-such-net"),
        (["teacher", "--model.name", "timm:resnet51"], "timm:resnet51"),
        (["teacher", "--model.name", "no.such.module:net"], "no.such.module:net"),
        (["teacher", "--model.kwargs", '{"width": 3}'], "width"),
        (["teacher", "--model.kwargs", "{"], "JSON"),
        (["teacher", "--model.name", "torchvision:resnet18"], "shape"),
        (["teacher", "--optim.name", "no-such-optimiser"], "no-such-optimiser"),
        (["teacher", "--data.name", "no-such-data"], "no-such-data"),
        (["teacher", "--data.name", "imagefolder:nowhere"], "nowhere"),
        (["teacher", "--smoothing", "0.95", "--loss.smoothing-convention", "others"], "Lower the smoothing"),
        (["teacher", "--seed", "99999999999999999999999"], "--seed = 9"),
        (["teacher", "--model.name", "torch.nn:Linear"], "torch.nn:Linear"),
        (["teacher", "--device", "cuda"], "--device auto"),
        (["teacher", "--store", "/proc/here"], "DISTILL_STORE"),
        (["student", "--exclude-classes", *"0123456789"], "a class is left"),
        (["student", "--loss.temperature", "1e30"], "--loss.temperature = 1e+30"),
        (["plan", "dark_knowledge", "--data", "no-such-data"], "no-such-data"),
        (["cache"], "--teacher"),
        (["cache", "--teacher", "nowhere"], "nowhere"),
        (["student", "--loss.alpha", "0.5"], "Give a --cache, or set --loss.alpha 0."),
        (["student", "--cache", "weights.pt"], "weights.pt"),
        (["reproduce", "no_such_experiment"], "expected all, or one of bits_of_dark_knowledge, cache_precision,"),
        (["plan", "no_such_experiment"], "expected all, or one of"),
        (["reproduce", "all", "--data", "no-such-data"], "no-such-data"),
        (["reproduce", "all", "--scale", "huge"], "huge"),
        (["reproduce"], "expected all, or one of bits_of_dark_knowledge, cache_precision,"),
        (["plan", "--scale", "smoke"], "expected all, or one of"),
        (["evaluate", "abc"], "abc"),
        (["teacher", "--loss.labels.towards", "hierarchy", "--loss.labels.kwargs", DEEP], "more than 100 deep"),
        (["teacher", "--smoothing_source", "nobody"], "distill ls"),
        (["teacher", "--smoothing-source", "nobody"], "distill ls"),
        (["teacher", "--loss.labels.hold", "0.5", "--smoothing", "2"], "less than 1"),
        (["sweep-smoothing", "--smoothings", "a", "0.1"], "--smoothings = 'a': expected a valid number."),
        (["sweep-smoothing", "--smoothings", "0.1", "0.1"], "each only once"),
        (["sweep-smoothing", "--smoothings", "0.1"], "at least 2"),
        (["sweep-smoothing", "--smoothings", "0", "1.5"], "less than 1"),
        (["sweep-smoothing", "--seeds", "0"], "--seeds"),
        (["sweep-smoothing", "--data.held-out", "0"], "--data.held-out 0.1"),
        (["sweep-smoothing", "--data.held-out", "0.0001"], "or with a larger --data.held-out"),
        (["teacher", "--optim.name", "adahessian"], "--optim.name adamw"),
        (["sweep-smoothing", "--loss.labels.per-class", *["0.1"] * 10], "--loss.labels.per-class"),
        (["sweep-smoothing", "--teacher", "x"], "`distill cache`"),
        (["sweep-smoothing", "--smoothings", "nan", "0.1"], "--smoothings = nan: expected a finite number"),
        (["teacher", "--model.kwargs", '{"widths": [NaN]}'], "NaN, which is no finite number"),
        (["teacher", "--model.kwargs", '{"widths": [8], "widths": [9]}'], "the key 'widths' twice"),
        (["teacher", "--data.name", "imagefolder:\udce9"], "PYTHONUTF8=1"),
        (["teacher", "--augment.pad", "9999999999"], "--augment.pad = 9999999999: expected less"),
        (["teacher", "--schedule.epochs", "9" * 30], "expected less than or equal to 1000000000"),
        (["teacher", "--threads", "9" * 30], "--threads = 9"),
        (["plan", "teacher", "--tflops", "nan"], "--tflops = nan: expected a positive number"),
        (["plan", "teacher", "--shape", *"000000"], "at least 1"),
        (["verify", "--samples", "0"], "--samples = 0: expected at least 1"),
    ],
)
def test_a_mistake_is_one_line(
    arguments: list[str],
    says: str,
    folders: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    (folders / "weights.pt").write_bytes(b"\x80\x04code")
    told = fail(capsys, *[str(folders / word) if word == "weights.pt" else word for word in arguments])
    assert told.startswith("error: ")
    assert says in told
    store = ArtifactStore(folders / "store")
    assert list(store.all()) == []
    drafts = [path for path in (store.root / "drafts").glob("*") if path.suffix != ".lock"]
    assert drafts == [], "nothing half-made is left"


@pytest.mark.fault("numbers that are not finite, too little memory")
def test_a_loss_that_is_not_finite_ends_in_one_line(folders: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = fail(capsys, "teacher", *TINY, "--optim.lr", "1e30", "--optim.clip", "None")
    assert "finite" in told
    assert "--optim.lr" in told
    assert list(ArtifactStore(folders / "store").all()) == []
