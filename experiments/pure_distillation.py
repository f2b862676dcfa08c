"""Build students of soft targets alone, of a teacher of hard labels and of a smoothed one, at temperatures.

What Shen et al. (2021) and Chandrasegaran et al. (2022) have in common; each asks its own question of it.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, NamedTuple

from distill.config import (
    AugmentConfig,
    CacheConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.reports.experiment import Runs, Scale
from experiments.base import is_published, setting_of_figures
from experiments.conditions import distilled, labelled, named, smoothed
from experiments.conditions import student_of as of_any_kind

SMOOTHINGS = (0.0, 0.1)
KINDS = ("narrow", "wide")
"""Kinds of students: narrow is smaller than the teacher, wide is of its kind (ResNet-18 and ResNet-50)."""


class Networks(NamedTuple):
    """A teacher and its students by name; the wide student is of the teacher's kind."""

    teacher: TeacherConfig
    students: dict[str, StudentConfig]
    seeds: int


def student_of(kind: str, smoothing: float, temperature: float) -> str:
    """Name a distilled student by its kind, its teacher's smoothing and the temperature."""
    return f"{kind} {of_any_kind(smoothing, temperature)}"


def of_labels(kind: str) -> str:
    """Name a student of labels by its kind."""
    return f"{kind} student of labels"


def networks(data: str, scale: Scale) -> Networks:
    """Return the networks for a data set and scale.

    On Fashion-MNIST the teachers of the figures of Müller et al.; on other images, at quick, convolutional networks
    on 10,000 of them as they are. At paper scale a folder of one's own is taken for ImageNet or CUB (`_residual`).
    """
    if scale == "paper" and data.startswith("imagefolder:"):
        return _residual(data)
    chosen = setting_of_figures(data, scale)
    teacher, student = chosen.teacher, chosen.student
    if is_published(data, scale):
        return Networks(teacher, {"narrow": student, "wide": student.replace(model=teacher.model)}, chosen.seeds)
    teacher = teacher.replace(augment=AugmentConfig())
    if scale == "quick" and data not in ("digits", "mnist", "fashion-mnist"):
        images, schedule = DataConfig(name=data, held_out=0.2, limit=10_000), ScheduleConfig(epochs=10)
        teacher = teacher.replace(data=images, optim=OptimConfig(lr=0.05), schedule=schedule)
        student = student.replace(data=images, schedule=schedule)
    wide = student.model.replace(kwargs={"widths": [128, 128]})
    if data != "digits" and scale != "smoke":
        wide = ModelConfig(name="cnn", kwargs={"widths": [16, 32]})
    return Networks(teacher, {"narrow": student, "wide": student.replace(model=wide)}, chosen.seeds)


_SIDE = 224
_CROPS: dict[str, Any] = {"input_size": _SIDE, "is_training": True, "color_jitter": None, "normalize": False}
"""Arguments for crops and flips alone: timm's defaults would change colours too."""


def _residual(data: str) -> Networks:
    """Return ResNet-50 and its students on a folder of images, with 16 stored views each.

    As Chandrasegaran et al. (2022; their code where their README says otherwise): SGD with momentum 0.9, weight
    decay 1e-4, batches of 256, rate 0.1; teachers 90 epochs with a tenth of the rate every 30, students 200 epochs
    with a tenth every 80; random crops of 8 to 100 % of the area, resized to 224, and flips (timm's
    `create_transform`, which is both in one factory). What departs from theirs: pixels come from images decoded
    once, shorter side 224 and the square in their middle, so that crops are of that square and the test images have
    no border cropped away (usual: 256, then 224); students read 16 views in turn, not a new one per epoch, for the
    logits are cached (of ImageNet 40 GB a teacher, and 190 GB of decoded pixels); weight decay spares norms and
    biases; batches of 256 in all, theirs per GPU; bfloat16; 2 % of the training images are held out.
    """
    images = DataConfig(name=data, held_out=0.02, kwargs={"size": _SIDE})
    optim = OptimConfig(lr=0.1, weight_decay=1e-4, clip=None)
    every: dict[str, Any] = {"data": images, "optim": optim, "precision": "bfloat16"}
    teacher = TeacherConfig(
        **every,
        augment=AugmentConfig(program="timm.data:create_transform", kwargs=_CROPS),
        model=ModelConfig(name="torchvision:resnet50"),
        schedule=ScheduleConfig(name="step", epochs=90, batch_size=256, decay_epochs=(30, 60)),
    )
    student = StudentConfig(
        **every,
        model=ModelConfig(name="torchvision:resnet18"),
        schedule=ScheduleConfig(name="step", epochs=200, batch_size=256, decay_epochs=(80, 160)),
        loss=LossConfig(alpha=0),
    )
    return Networks(teacher, {"narrow": student, "wide": student.replace(model=teacher.model)}, 3)


def runs_at(scale: Scale, data: str, temperatures: Sequence[float], of_labels_too: bool) -> Runs:
    """Build teachers and students of each at each temperature, under their labels; the loss is T² times KL."""
    chosen = networks(data, scale)
    built: Runs = {}
    for seed in range(chosen.seeds):
        taught = smoothed(chosen.teacher.replace(seed=seed), SMOOTHINGS)
        built |= labelled(named(taught), seed)
        for kind, student in chosen.students.items():
            student = student.replace(seed=seed)
            if of_labels_too:
                built |= labelled({of_labels(kind): student.replace(augment=chosen.teacher.augment)}, seed)
            caches = {smoothing: _cache(teacher, student) for smoothing, teacher in taught.items()}
            built |= labelled(distilled(student, caches, temperatures, partial(student_of, kind)), seed)
    return built


def _cache(teacher: TeacherConfig, student: StudentConfig) -> CacheConfig:
    """Store the images as they are, or in 16 views if the teacher was trained on augmented ones."""
    plain = CacheConfig(teacher=teacher, transfer_set=student.data)
    if teacher.augment == AugmentConfig():
        return plain
    return plain.replace(augment=teacher.augment, views=min(16, student.schedule.epochs))
