"""What a run would do: hit or miss, bytes and rough time of every stage, without running any."""

from __future__ import annotations

import math
import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from distill.artifact import FOLDERS, Artifact, inputs, key, title
from distill.cache.encoding import Encoding
from distill.config import CacheConfig, DataConfig, ModelConfig, StageConfig, StudentConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline import missing
from distill.runtime import free_bytes
from distill.store import ArtifactStore

_LISTED = 20
"""More artefacts than this are summed up by stage."""
_STEP_SECONDS = 6e-4
"""What a step costs beside its arithmetic: measured on small nets, where it is all that counts."""
_EFFICIENCY = 0.35
"""Share of the matmul rate that a training step of a small net reaches."""


@dataclass(frozen=True)
class Shape:
    """Size of a data set."""

    training: int
    test: int
    image: tuple[int, int, int]
    classes: int


_BUILT_IN = {
    "digits": Shape(1437, 360, (1, 8, 8), 10),
    "mnist": Shape(60_000, 10_000, (1, 28, 28), 10),
    "fashion-mnist": Shape(60_000, 10_000, (1, 28, 28), 10),
    "cifar10": Shape(50_000, 10_000, (3, 32, 32), 10),
    "cifar100": Shape(50_000, 10_000, (3, 32, 32), 100),
    "translation": Shape(4000, 1200, (1, 2, 13), 190),
}


@dataclass(frozen=True)
class Cost:
    """Bytes to write and seconds to take; None where nothing is known to estimate from."""

    bytes: int | None
    seconds: float | None


@dataclass(frozen=True)
class Plan:
    """What would be made."""

    text: str
    """A table, for people."""
    bytes: int
    """Room that it takes on the disk."""

    def refuse_small_disk(self, folder: Path) -> None:
        """Raise a UserError when the disk of this folder has not that much room."""
        free = free_bytes(folder)
        if free < self.bytes:
            way_out = (
                "Set --store or DISTILL_STORE to a larger disk; a cache is smaller with --top-k or fewer views."
            )
            raise UserError("store", f"{folder} ({_bytes(free)} free)", f"{_bytes(self.bytes)} of room", way_out)


def describe(configs: Iterable[StageConfig], store: ArtifactStore) -> Plan:
    """A table of what is there and what would be made."""
    configs = list(configs)
    todo = missing(configs, store)
    todo_keys = {key(config) for config in todo}
    hits = [config for config in _closure(configs, todo_keys) if key(config) not in todo_keys]
    estimate = Estimate(store)
    costs = [(config, estimate.cost(config)) for config in todo]
    if len(todo) + len(hits) <= _LISTED:
        lines = [f"hit   {title(config):60}" for config in hits]
        lines += [f"miss  {title(config):60} {_bytes(c.bytes):>10} {_time(c.seconds):>9}" for config, c in costs]
    else:
        lines = _by_stage(hits, costs)
    known_bytes = sum(cost.bytes or 0 for _, cost in costs)
    seconds = sum(cost.seconds or 0 for _, cost in costs)
    unknown = sum(cost.seconds is None for _, cost in costs)
    rest = f", and {unknown} on data whose size is not known yet" if unknown else ""
    lines.append(f"{len(hits)} hits, {len(todo)} to make: {_bytes(known_bytes)}, about {_time(seconds)}{rest}")
    return Plan("\n".join(lines), known_bytes)


def _closure(configs: list[StageConfig], todo: set[str]) -> list[StageConfig]:
    found: dict[str, StageConfig] = {}
    waiting = list(configs)
    while waiting:
        config = waiting.pop()
        if key(config) not in found:
            found[key(config)] = config
            # What is upstream of a hit is not looked at, as when it runs.
            waiting += inputs(config) if key(config) in todo else []
    return list(found.values())


def _by_stage(hits: list[StageConfig], costs: list[tuple[StageConfig, Cost]]) -> list[str]:
    lines = [f"{'stage':10} {'hit':>5} {'miss':>5} {'bytes':>10} {'time':>9}"]
    for stage in FOLDERS:
        mine = [cost for config, cost in costs if config.stage == stage]
        there = sum(config.stage == stage for config in hits)
        if mine or there:
            written = sum(cost.bytes or 0 for cost in mine)
            seconds = sum(cost.seconds or 0 for cost in mine)
            lines.append(f"{stage:10} {there:5} {len(mine):5} {_bytes(written):>10} {_time(seconds):>9}")
    return lines


class Estimate:
    """Costs of stages: from like artefacts that were made here, else from operation counts."""

    def __init__(self, store: ArtifactStore):
        self._made = list(store.all())
        self._rate: float | None = None

    def cost(self, config: StageConfig) -> Cost:
        """Rough cost of making one artefact, its inputs apart."""
        if like := self._like(config):
            written = sum(entry.bytes for entry in like.record.files.values())
            return Cost(written, like.record.provenance["seconds"])
        match config:
            case TeacherConfig() | StudentConfig():
                return self._training(config)
            case CacheConfig():
                return self._caching(config)
            case _:
                return Cost(1 << 20, 3.0)

    def _like(self, config: StageConfig) -> Artifact | None:
        return next((made for made in self._made if _kind(made.config) == _kind(config)), None)

    def _training(self, config: TeacherConfig | StudentConfig) -> Cost:
        shape = self._shape(config.data)
        if shape is None:
            return Cost(None, None)
        parameters, operations = _count(config.model, shape)
        samples = _images(config.data, shape) * config.schedule.epochs
        steps = samples / config.schedule.batch_size
        predictions = 4 * shape.classes * (shape.test + shape.training * config.data.held_out)
        seconds = steps * _STEP_SECONDS + samples * 3 * operations / self._matmul_rate()
        return Cost(int(4 * parameters + predictions + 200_000), seconds)

    def _caching(self, config: CacheConfig) -> Cost:
        shape = self._shape(config.transfer_set)
        if shape is None:
            return Cost(None, None)
        operations = sum(_count(teacher.model, shape)[1] for teacher in config.teachers)
        samples = _images(config.transfer_set, shape) * config.views
        row = Encoding(shape.classes, config.dtype, config.top_k).bytes_per_row
        return Cost(int(samples * row), samples * operations / self._matmul_rate())

    def _shape(self, data: DataConfig) -> Shape | None:
        if data.name in _BUILT_IN:
            return _BUILT_IN[data.name]
        for made in self._made:
            known = made.record.data
            if known.get("name") == data.name:
                training = known["sizes"]["train"] + known["sizes"]["held_out"]
                image = tuple(known["shape"])
                return Shape(training, known["sizes"]["test"], image, len(known["classes"]))
        return None

    def _matmul_rate(self) -> float:
        """Operations per second that a step can count on, from one matrix product made now."""
        if self._rate is None:
            import torch

            side = 1024
            matrix = torch.ones(side, side)
            matrix @ matrix
            started = time.perf_counter()
            matrix @ matrix
            self._rate = _EFFICIENCY * 2 * side**3 / (time.perf_counter() - started)
        return self._rate


def _images(data: DataConfig, shape: Shape) -> float:
    """How many images are left to train on."""
    kept = shape.training * (1 - data.held_out)
    return kept if data.limit is None else min(kept, data.limit)


def _kind(config: StageConfig) -> tuple[object, ...]:
    """What makes two artefacts alike in cost."""
    match config:
        case TeacherConfig() | StudentConfig():
            return (
                config.stage,
                config.data,
                config.model,
                config.augment,
                config.schedule,
                config.precision,
            )
        case CacheConfig():
            models = tuple(teacher.model for teacher in config.teachers)
            return (
                config.stage,
                config.transfer_set,
                models,
                config.augment,
                config.views,
                config.dtype,
                config.top_k,
            )
        case _:
            return (config.stage, key(config))


def _count(model: ModelConfig, shape: Shape) -> tuple[int, float]:
    """Parameters, and floating-point operations of the forward pass of one image."""
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from distill.models import build_model

    network = build_model(model, shape.classes, shape.image).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros(1, *shape.image))
    return sum(parameter.numel() for parameter in network.parameters()), float(counter.get_total_flops())


def _bytes(count: int | None) -> str:
    if count is None:
        return "?"
    if count < 1000:
        return f"{count} B"
    power = min(int(math.log(count, 1000)), 4)
    return f"{count / 1000**power:.3g} {' kMGT'[power]}B"


def _time(seconds: float | None) -> str:
    if seconds is None:
        return "?"
    if seconds < 90:
        return f"{seconds:.2g} s" if seconds < 10 else f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"
