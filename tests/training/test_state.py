"""A run that is interrupted goes on as if it had not been; a batch in parts is the batch."""

from __future__ import annotations

import json
import os
import random
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from distill.config import (
    DataConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.data.batch_share import BatchShare
from distill.data.sets.load import load
from distill.errors import UserError
from distill.models import build_model
from distill.pipeline.run import run_stage
from distill.store.record import RESUME
from distill.store.store import ArtifactStore
from distill.training.network import load_network
from distill.training.recent_samples import RecentSamples
from distill.training.state import Run
from distill.training.step_distributed import refuse_shares
from distill.training.tracking import read_metrics
from tests.data import copies
from tests.made import assert_same_bits, interrupt, make

DATA = DataConfig(limit=600, held_out=0.1)
SCHEDULE = ScheduleConfig(epochs=3, batch_size=60)
CNN = ModelConfig(name="cnn", kwargs={"widths": [8], "hidden": 16})
TOKENS = {
    "data": DataConfig(name=copies.copies),
    "model": copies.MODEL,
}
HARD_TO_RESUME = {
    "model": {"name": "mlp", "kwargs": {"widths": [16], "dropout": 0.3}},
    "schedule": {"epochs": 6, "batch_size": 100, "warmup_epochs": 1},
    "augment": {"pad": 1},
    "ema": 0.9,
    "data": {"held_out": 0.15},
}


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.parametrize("stop_at", [1, 12, 13, 40])
def test_interrupted_is_uninterrupted_bit_for_bit(stop_at, store, runtime, tmp_path, monkeypatch) -> None:
    """Dropout, EMA, warm-up, momentum and views, interrupted at and between epochs."""
    config = TeacherConfig(**HARD_TO_RESUME)
    whole = make(config, ArtifactStore(tmp_path / "whole"), runtime)

    steps = interrupt(monkeypatch, stop_at)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    assert store.find(config) is None
    resumed = make(config, store, runtime)
    assert_same_bits(whole, resumed)
    assert steps == list(range(len(steps))), "no step is done twice, none is skipped"
    logged = [json.loads(line)["step"] for line in (resumed.path / "metrics.jsonl").read_text().splitlines()]
    assert logged == sorted(set(logged))


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.parametrize("balanced", [False, True])
def test_a_distilled_student_resumes_too(student, store, runtime, tmp_path, monkeypatch, balanced) -> None:
    if balanced:
        loss = student.loss.replace(alpha=0.5, class_weights=tuple(range(1, 11)))
        student = student.replace(data=student.data.replace(balanced=True), loss=loss)
    whole = make(student, ArtifactStore(tmp_path / "whole"), runtime)
    make(student.cache, store, runtime)

    monkeypatch.setattr(Run, "seconds_since_save", lambda self: float("inf"))
    update = Run.update

    def dying(self, *arguments):
        if self.step == 25:
            raise RuntimeError("the process is killed")
        return update(self, *arguments)

    monkeypatch.setattr(Run, "update", dying)
    with pytest.raises(RuntimeError):
        make(student, store, runtime)
    monkeypatch.setattr(Run, "update", update)
    assert_same_bits(whole, make(student, store, runtime))


def test_a_resumed_run_takes_the_threads_it_began_with(teacher, store, runtime) -> None:
    before = torch.get_num_threads()
    try:
        with store.draft(teacher) as draft:
            torch.set_num_threads(2)
            model = load_model_for(teacher)
            data = load(teacher.data, runtime.data_root).fingerprint
            Run(model, teacher, 19, draft / RESUME, data).save(RecentSamples(64, smoothed=False))
        torch.set_num_threads(1)
        run_stage(teacher, store, runtime)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def load_model_for(config: TeacherConfig) -> nn.Module:
    return build_model(config.model, 10, (1, 8, 8))


@pytest.mark.fault("code in files")
@pytest.mark.parametrize("state", [{"step": os.system}, {"step": 3}])
def test_a_resume_point_that_holds_code_or_is_not_ours_is_refused(teacher, store, runtime, state) -> None:
    with store.draft(teacher) as draft:
        torch.save(state, draft / RESUME)
    with pytest.raises(UserError, match="Delete this file"):
        make(teacher, store, runtime)
    assert store.find(teacher) is None


class Drawing(nn.Module):
    """A network that draws from all generators of a process, and counts in a buffer that no state dict has."""

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.head = nn.Linear(64, num_classes)
        self.register_buffer("calls", torch.zeros(()), persistent=False)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        if self.training:
            self.calls += 1
        noise = random.random() + np.random.random() + torch.rand(())  # noqa: NPY002
        return self.head(images.flatten(1)) * (1 + 0.1 * noise) / (1 + self.calls)


def drawing(num_classes: int, in_shape: tuple[int, int, int]) -> nn.Module:
    return Drawing(num_classes)


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
@pytest.mark.parametrize("ema", [None, 0.9])
def test_every_generator_and_buffer_of_a_network_goes_on(store, runtime, tmp_path, monkeypatch, ema) -> None:
    config = TeacherConfig(model={"name": drawing}, schedule={"epochs": 3, "batch_size": 200}, data=DATA, ema=ema)
    lenient = runtime.model_copy(update={"min_teacher_accuracy": 0.0})
    whole = make(config, ArtifactStore(tmp_path / "whole"), lenient)
    interrupt(monkeypatch, 5)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, lenient)
    random.seed(1)
    np.random.seed(1)  # noqa: NPY002
    assert_same_bits(whole, make(config, store, lenient))


def interrupted(config: TeacherConfig, store: ArtifactStore, runtime, monkeypatch) -> Path:
    """Interrupt a training in its third epoch, and return its folder."""
    interrupt(monkeypatch, 25)
    with pytest.raises(KeyboardInterrupt):
        make(config, store, runtime)
    monkeypatch.undo()
    (path,) = store.root.glob(f"drafts/*/{RESUME}")
    return path.parent


@pytest.mark.fault("a damaged resume point or draft")
@pytest.mark.parametrize("name", [RESUME, "metrics.jsonl", "snapshots/00000000.safetensors"])
def test_a_run_does_not_go_on_with_a_changed_file(
    teacher, store, runtime, monkeypatch, name, count, attempts
) -> None:
    config = teacher.replace(snapshots=2)
    path = interrupted(config, store, runtime, monkeypatch) / name
    whole = path.read_bytes()
    draw, trials = random.Random(name), count(1, 100)
    for _ in range(trials):
        spoilt = bytearray(whole)
        spoilt[draw.randrange(len(whole))] ^= 1 << draw.randrange(8)
        path.write_bytes(spoilt)
        with pytest.raises(UserError, match="Delete"):
            make(config, store, runtime)
    attempts(trials)
    if name.startswith("snapshots/"):
        path.write_bytes(whole + b"more")
        with pytest.raises(UserError, match="missing or changed"):
            make(config, store, runtime)
    path.unlink()
    if name != RESUME:
        with pytest.raises(UserError, match="missing or changed"):
            make(config, store, runtime)
    path.write_bytes(whole)
    make(config, store, runtime)


@pytest.mark.fault("images, labels or code that changed")
def test_a_run_does_not_go_on_with_other_images(teacher, store, runtime, monkeypatch) -> None:
    interrupted(teacher, store, runtime, monkeypatch)
    other = replace(load(teacher.data, runtime.data_root), fingerprint="0" * 64)
    monkeypatch.setattr("distill.stages.teacher.load", lambda *_: other)
    with pytest.raises(UserError, match="the images of the interrupted run"):
        make(teacher, store, runtime)


def test_samples_that_are_compared_are_not_shared() -> None:
    student = StudentConfig(cache=None, loss=LossConfig(alpha=0))
    refuse_shares(student, BatchShare(1, 0, 2), "cpu")
    loss = LossConfig(alpha=0.5, soft="dist", temperature=1)
    compared = student.model_copy(update={"loss": loss})
    refuse_shares(compared, BatchShare(2, 0, 2), "cpu")
    with pytest.raises(UserError, match=r"schedule\.parts=2"):
        refuse_shares(compared, BatchShare(1, 0, 2), "cpu")
    weighted = student.with_loss(class_weights="balanced")
    refuse_shares(weighted, BatchShare(2, 0, 2), "cpu")
    with pytest.raises(UserError, match=r"loss\.class_weights = .*schedule\.parts=2"):
        refuse_shares(weighted, BatchShare(1, 0, 2), "cpu")
    with pytest.raises(UserError, match="cpu or cuda under torchrun"):
        refuse_shares(student, BatchShare(1, 0, 2), "mps")


@pytest.mark.parametrize(
    "fields",
    [
        {"data": DATA, "model": ModelConfig(kwargs={"widths": [16]}), "loss": LossConfig(alpha=0, smoothing=0.1)},
        {"data": DATA, "model": ModelConfig(kwargs={"widths": [16]}), "augment": {"mixup": 0.4}},
        TOKENS,
    ],
    ids=["labels", "mixed labels", "tokens, of which some do not count"],
)
def test_parts_add_up_to_the_batch(fields, store, runtime) -> None:
    whole, parted = (
        make(TeacherConfig(**fields, schedule=SCHEDULE.replace(parts=parts)), store, runtime) for parts in (1, 5)
    )
    for one, other in zip(read_metrics(whole.path), read_metrics(parted.path), strict=True):
        losses = {name: value for name, value in one.items() if name.startswith("loss/")}
        assert {name: other[name] for name in losses} == pytest.approx(losses, rel=1e-5)
        assert other["train/accuracy"] == pytest.approx(one["train/accuracy"], abs=1e-6)
    for one, other in zip(load_network(whole).parameters(), load_network(parted).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_a_part_at_a_time(store, runtime) -> None:
    config = TeacherConfig(data=DATA, model=CNN, schedule=SCHEDULE)
    whole, parted = (
        load_network(make(config.replace(schedule=SCHEDULE.replace(parts=parts)), store, runtime))
        for parts in (1, 2)
    )
    counts = [int(net.state_dict()["stages.2.num_batches_tracked"]) for net in (whole, parted)]
    assert counts == [30, 60]
    assert not torch.allclose(*(net.state_dict()["stages.0.weight"] for net in (whole, parted)), atol=1e-4)
