"""What a check-up says of a teacher: sentences with their basis, and none where nothing was measured."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from distill.audit.checkup import Checkup, check_up
from distill.audit.checkup_subject import Subject
from distill.config import (
    CacheConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.metrics.dark_knowledge import equivalent_smoothing
from distill.pipeline.graph import run
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime


def _subject(classes: int, gap: float, spread: float, images: int = 600) -> Subject:
    generator = torch.Generator().manual_seed(1)
    labels = torch.arange(images) % classes
    logits = 0.3 * spread * torch.randn(images, classes, generator=generator)
    logits[torch.arange(images), labels] += gap + spread * torch.randn(images, generator=generator)
    names = tuple(f"class {index}" for index in range(classes))
    return Subject("logits.npy", "logits.npy", "600 rows", logits, labels, names, None, None)


def _of(tmp_path: Path, subject: Subject) -> Checkup:
    return check_up(subject, ArtifactStore(tmp_path), Runtime(store=tmp_path))


def _said(made: Checkup, topic: str) -> str:
    return "\n".join(each.text for each in made.findings if each.topic == topic)


def test_a_hard_teacher_starts_at_the_gamma_of_recorded_students(tmp_path: Path) -> None:
    subject = _subject(10, gap=14, spread=3)
    made = _of(tmp_path, subject)
    start = made.numbers["start_temperature"]
    assert "not smoothed" in _said(made, "Smoothing")
    assert equivalent_smoothing(subject.logits, subject.labels, start) == pytest.approx(0.139, abs=2e-3)
    assert "Chandrasegaran" not in str(made.findings)


def test_a_smoothed_teacher_starts_low(tmp_path: Path) -> None:
    made = _of(tmp_path, _subject(10, gap=4.5, spread=0.3))
    assert made.numbers["smoothing"]["verdict"] == "smoothed"
    assert made.numbers["start_temperature"] == 1
    assert "Chandrasegaran" in str(made.findings)


def test_of_what_is_unknown_no_temperature_is_told(tmp_path: Path) -> None:
    made = _of(tmp_path, _subject(10, gap=5, spread=2.5))
    assert "unknown" in _said(made, "Smoothing")
    assert not _said(made, "Temperature")


def test_two_classes_have_one_wrong_logit_which_does_not_vary(tmp_path: Path) -> None:
    made = _of(tmp_path, _subject(2, gap=2.9, spread=0.3))
    assert "knowledge" not in made.numbers
    assert "mixed labels" in _said(made, "Smoothing")


def test_many_classes_have_truncated_caches_and_fewer_bytes(tmp_path: Path) -> None:
    made = _of(tmp_path, _subject(200, gap=8, spread=0.3))
    bytes_by_k = {row["top_k"]: row["bytes_per_image"] for row in made.numbers["cache"]["rows"]}
    assert bytes_by_k == {None: 404, 5: 28, 10: 48, 50: 208, 100: 408}


def test_students_in_the_store_count_first(tmp_path: Path) -> None:
    tiny = {
        "model": ModelConfig(kwargs={"widths": [8]}),
        "schedule": ScheduleConfig(epochs=1),
        "data": DataConfig(limit=200),
    }
    teacher = TeacherConfig(**{**tiny, "schedule": ScheduleConfig(epochs=8)})
    store, runtime = ArtifactStore(tmp_path), Runtime(store=tmp_path, device="cpu", min_teacher_accuracy=0)
    cache = CacheConfig(teacher=teacher, transfer_set=teacher.data)
    for temperature in (2.0, 5.0):
        loss = LossConfig(alpha=1, temperature=temperature)
        run(StudentConfig(**tiny, cache=cache, loss=loss), runtime=runtime)
    artifact = run(teacher, runtime=runtime)
    hard = _subject(10, gap=14, spread=3)
    made = check_up(Subject(*list(vars(hard).values())[:6], 200, artifact), store, runtime)
    assert made.numbers["start_temperature"] in (2.0, 5.0)
    first = next(each for each in made.findings if each.topic == "Temperature")
    assert "students in the store" in first.text
    assert "2 in all" in first.basis
    assert "one pass takes about" in _said(made, "Cache")
