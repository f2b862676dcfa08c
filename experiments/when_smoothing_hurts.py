"""Should I smooth my teacher? The cost of a smoothed teacher over transfer-set size, temperature and smoothing.

Müller et al. (2019) find that smoothed teachers teach worse, Shen et al. (2021) that they need not, Chandrasegaran
et al. (2022) that it depends on the temperature.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import product
from typing import Any

from distill.config import (
    AugmentConfig,
    CacheConfig,
    LossConfig,
    ModelConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.experiment import Claim, Label, Published, Scale, Table
from experiments.base import DATA_OF_FIGURES, Setting, on_views, setting_of_figures
from experiments.fig6_mutual_information import SNAPSHOTS

SHARES = (0.01, 0.03, 0.1, 0.3, 1.0)
"""Of the teacher's training images, the part that students see."""
TEMPERATURES = (1.0, 2.0, 4.0, 16.0)
SMOOTHINGS = (0.0, 0.1, 0.3, 0.6)
VIEWS = 16
"""Stored views per image of augmented students, read in turn: `patience` cannot tell them from one per epoch."""
SMALL = ModelConfig(name="mlp", kwargs={"widths": [16]})

REPRODUCES = ""
DATA = DATA_OF_FIGURES
PAPER: list[Published] = []
CLAIMS: list[Claim] = []


@dataclass(frozen=True)
class Panel:
    """One map: which points, and what is special about its networks."""

    suffix: str
    shares: tuple[float, ...]
    temperatures: tuple[float, ...]
    smoothings: tuple[float, ...]


MAIN = Panel("", SHARES, TEMPERATURES, SMOOTHINGS)
AUGMENTED = Panel(", augmented", (0.01, 0.1, 1.0), (1.0, 4.0, 16.0), (0.0, 0.1))
NARROW = Panel(", narrow", (0.01, 0.1, 1.0), (1.0, 4.0, 16.0), (0.0, 0.1, 0.6))
PANELS = (MAIN, AUGMENTED, NARROW)
_SMOKE = Panel("", (0.1, 1.0), (1.0, 4.0), (0.0, 0.1))


def _teacher(smoothing: float, panel: Panel) -> str:
    # Narrow students have the same teachers as wide ones.
    return f"teacher ε={smoothing:g}" + (panel.suffix if panel == AUGMENTED else "")


def _distilled(smoothing: float, temperature: float, share: float, panel: Panel = MAIN) -> str:
    return f"student of ε={smoothing:g}, T={temperature:g}, {share:.0%}{panel.suffix}"


def _of_labels(share: float, panel: Panel = MAIN) -> str:
    return f"student of labels, {share:.0%}{panel.suffix}"


def runs(scale: Scale, data: str) -> dict[Label, TeacherConfig | StudentConfig]:
    """Every network of the experiment under its label."""
    chosen = setting_of_figures(data, scale)
    panels = (_SMOKE,) if scale == "smoke" else PANELS
    found: dict[Label, TeacherConfig | StudentConfig] = {}
    for seed in range(chosen.seeds):
        for panel in panels:
            found |= {Label(condition, seed): run for condition, run in _panel(panel, chosen, scale, data, seed)}
    return found


def _panel(
    panel: Panel, chosen: Setting, scale: Scale, data: str, seed: int
) -> Iterator[tuple[str, TeacherConfig | StudentConfig]]:
    """The networks of one map and one seed, each with its condition."""
    images = chosen.teacher.data.replace(limit=_images(data, scale))
    teacher = chosen.teacher.replace(seed=seed, data=images, augment=AugmentConfig())
    if panel == AUGMENTED:
        # Those of Figure 6, snapshots and all, so that they are trained once.
        teacher = on_views(teacher, data).replace(snapshots=SNAPSHOTS)
    teachers = {smoothing: teacher.replace(smoothing=smoothing) for smoothing in panel.smoothings}
    for smoothing, each in teachers.items():
        yield _teacher(smoothing, panel), each
    for share in panel.shares:
        student = _student(panel, chosen, images.limit or 0, share).replace(seed=seed)
        plain = CacheConfig(teacher=teachers[0.0], transfer_set=student.data)
        yield _of_labels(share, panel), student.replace(augment=teacher.augment)
        for smoothing, temperature in product(panel.smoothings, panel.temperatures):
            cache = plain.replace(teacher=teachers[smoothing])
            if panel == AUGMENTED:
                views = min(VIEWS, student.schedule.epochs)
                cache = cache.replace(augment=teacher.augment, views=views)
            loss = LossConfig(alpha=1, temperature=temperature)
            yield _distilled(smoothing, temperature, share, panel), student.replace(cache=cache, loss=loss)


def _student(panel: Panel, chosen: Setting, all_images: int, share: float) -> StudentConfig:
    """A student of a part of the images, for as many steps as if it had all of them."""
    schedule, count = chosen.student.schedule, round(share * all_images)
    batch_size = min(schedule.batch_size, count)
    steps = schedule.epochs * (all_images // schedule.batch_size)
    schedule = schedule.replace(epochs=round(steps / (count // batch_size)), batch_size=batch_size)
    model = SMALL if panel == NARROW else chosen.student.model
    images = chosen.student.data.replace(limit=count)
    return chosen.student.replace(data=images, model=model, schedule=schedule)


def _images(data: str, scale: Scale) -> int:
    """How many training images the teacher has, and students at 100 %."""
    if data == "digits":
        return 1_000
    return 10_000 if scale in ("smoke", "quick") else 40_000


def probes(scale: Scale, data: str) -> tuple[()]:
    """None: what every network is measured by is enough."""
    return ()


def draw(table: Table) -> Mapping[str, Any]:
    """The figures of the report."""
    return {}
