"""The command that takes weights from elsewhere, as people use it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import timm
import torch

from distill.config import DataConfig
from distill.data.sets.load import load
from tests.checkpoints import MEAN, STD, normalised, teach
from tests.cli.commands import TINY, fail, run

PREPARED = ["--mean", str(MEAN), "--std", str(STD)]


@pytest.fixture
def checkpoint(folders: Path) -> Path:
    data = load(DataConfig(), folders / "data", progress=False)
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=10, in_chans=1)
    teach(net, net.get_classifier(), normalised(data.train.images), data.train.labels)
    torch.save({"model": net.state_dict(), "epoch": 3}, folders / "t.pth")
    return folders / "t.pth"


def test_from_a_file_to_a_student(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    told = run(capsys, "adopt", str(checkpoint), "--model", "timm:test_resnet", *PREPARED)
    made = Path(told.splitlines()[-1])
    assert "as for a network trained here on these images, but for mean and std" in told
    assert "adopted" in run(capsys, "ls")
    assert run(capsys, "ls", "adopted").count("\n") == 1
    assert run(capsys, "ls", "teacher") == ""
    assert json.loads(run(capsys, "show", made.name))["data"]["proven"]
    assert "accuracy" in run(capsys, "evaluate", str(made))
    assert "none. It was adopted" in run(capsys, "evaluate", str(made), "--measures", "all")
    assert "temperature" in run(capsys, "calibrate", str(made))
    cache = run(capsys, "cache", "--teacher", str(made)).splitlines()[-1]
    assert "1 hits" in run(capsys, "plan", "cache", "--teacher", str(made))
    student = run(capsys, "student", "--cache", cache, *TINY).splitlines()[-1]
    assert "ok" in run(capsys, "verify", str(made), cache, student)
    assert "teachers" not in run(capsys, "gc"), "an adopted network is never garbage of its own"


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["adopt", "FILE"], "--model.name = None: expected the network that the weights belong to"),
        (["adopt", "--model", "timm:test_resnet"], "file = None: expected a file of weights"),
        (["adopt", "FILE", "--model", "timm:resnet18"], "missing: "),
        (["adopt", "FILE", "--model", "timm:test_resnet", "--pretrained"], "--pretrained"),
        (["adopt", "FILE", "--model", "timm:test_resnet", "--ema"], "Drop --ema"),
        (["adopt", "FILE", "--model", "timm:test_resnet", "--mean", "0.5"], "Give --mean and --std"),
        (["adopt", "FILE", "--model", "timm:test_resnet", "--data", "translation"], "images with one label each"),
        (["adopt", "nowhere.pth", "--model", "timm:test_resnet"], "Check the path"),
        (["cache", "--teacher", "FILE"], "`distill adopt FILE`"),
        (["teacher", "--pretrained"], "or train on from them: --init"),
        (["cache", "--pretrained"], "Adopt weights from elsewhere first"),
        (["adopt", "FILE", "--model", "timm:test_resnet", "--only-weights", "--classes", "a"], "looks at no class"),
        (["teacher", "--epochs", "0"], "For weights as they are: `distill adopt`"),
        (["teacher", "--init", "nowhere"], "--init = 'nowhere': expected a path or a key"),
        (["teacher", "--init", "nowhere.pth"], "--init = 'nowhere.pth': expected a file of weights"),
        (["teacher", "--init", "FILE"], "--init = "),
        (["teacher", "--init", "FILE", "FILE"], "expected a flag"),
        (["teacher", "--init", "pretrained"], "expected a network with published weights"),
        (["sweep-smoothing", "--init", "pretrained", "--smoothings", "0", "0.1"], "with published weights"),
    ],
)
def test_mistakes_are_one_line(
    words: list[str], told: str, checkpoint: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    given = [str(checkpoint) if word == "FILE" else word for word in words]
    assert told in fail(capsys, *given)
    assert not list((checkpoint.parent / "store").glob("teachers/*"))


def test_who_is_not_here_cannot_be_made_again(checkpoint: Path, capsys: pytest.CaptureFixture[str]) -> None:
    made = Path(run(capsys, "adopt", str(checkpoint), "--model", "timm:test_resnet", *PREPARED).splitlines()[-1])
    (made / "model.safetensors").write_bytes(b"")
    assert "Adopt the file of weights again" in fail(capsys, "verify", str(made), "--repair")


def test_from_a_file_to_a_tuned_student(
    checkpoint: Path, folders: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = ["--epochs", "1", "--data.limit", "100", "--device", "cpu"]
    train = ["student", "--init", str(checkpoint), "--model", "timm:test_resnet", *short]
    assert "2 to make" in run(capsys, "plan", *train)
    assert not list((folders / "store").glob("teachers/*"))
    made = Path(run(capsys, *train).splitlines()[-1])
    assert "-from-adopted-" in made.name
    assert "1 hits, 0 to make" in run(capsys, "plan", *train)
    given = next((folders / "store").glob("teachers/*"))
    assert json.loads(run(capsys, "show", made.name))["data"]["init"]["name"] == given.name
    assert "of which only the weights were adopted" in fail(capsys, "cache", "--teacher", str(given))
    assert "of which only the weights were adopted" in fail(capsys, "evaluate", str(given))
    assert "of which only the weights were adopted" in fail(capsys, "export", str(given), "--to", "x")

    again = ["teacher", "--init", str(made), "--schedule.epochs", "1", "--seed", "1", "--device", "cpu"]
    tuned = Path(run(capsys, *again).splitlines()[-1])
    settings = json.loads(run(capsys, "show", tuned.name))["config"]
    assert settings["model"]["name"] == "timm:test_resnet", "that of the network, where no flag says another"
    assert settings["data"]["limit"] == 100
    other = Path(run(capsys, "teacher", "--config", str(tuned), "--lr", "0.01", "--device", "cpu").splitlines()[-1])
    assert json.loads(run(capsys, "show", other.name))["config"]["init"] == settings["init"]
    assert "teachers/" not in run(capsys, "gc")
    assert run(capsys, "verify").count("ok") == 4
