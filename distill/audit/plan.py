"""Plan a run without running it: say which artifacts exist, and estimate bytes and time of every stage."""

from __future__ import annotations

import functools
import json
import math
import time
from collections import Counter
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from distill.config import (
    DATA_SETS,
    AdoptedConfig,
    AugmentConfig,
    CacheConfig,
    Config,
    DataConfig,
    ModelConfig,
    NamedTeacher,
    StageConfig,
    StudentConfig,
    TeacherConfig,
    recipe_of,
)
from distill.config.data_sets import Shape
from distill.data.sets.content import folder_path
from distill.errors import UserError
from distill.pipeline.graph import missing
from distill.pipeline.identity import identify_all
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.stages import STAGES, inputs, title
from distill.store.store import ArtifactStore
from distill.system.progress import bar
from distill.system.runtime import Runtime, free_bytes
from distill.system.units import format_bytes, format_seconds

_LISTED = 20
"""Largest number of artifacts that are listed one by one; a larger number is summed up by stage."""
_STEP_SECONDS = 6e-4
"""Seconds that a step takes beside its arithmetic, measured on small networks, where nothing else counts."""
_EFFICIENCY = 0.35
"""Share of the matrix-product rate that a training step of a small network reaches."""
_EVALUATIONS = 20
"""Largest number of times that one training evaluates the held-out images."""
_VIEWS_TIMED = 16
"""Number of views that are made to time a view program."""


def shape_of(numbers: Sequence[int]) -> Shape:
    """Make a data set's shape from six numbers: training and test images, channels, height, width and classes."""
    training, test, channels, height, width, classes = numbers
    return Shape(training, test, (channels, height, width), classes)


@dataclass(frozen=True)
class Cost:
    """Say how many bytes an artifact takes and how many seconds it needs; None without a basis for an estimate."""

    bytes: int | None
    seconds: float | None
    waits: bool = False
    """Whether the network waits for its views, which take longer than its own arithmetic."""


@dataclass(frozen=True)
class Plan:
    """Hold the plan of a run: a text that describes it, and the number of bytes that the run would write."""

    text: str
    bytes: int
    """Bytes that the new artifacts take on the disk of the store."""

    def refuse_small_disk(self, folder: Path) -> None:
        """Raise a UserError when the disk of this folder has too little room for the plan."""
        free = free_bytes(folder)
        if free < self.bytes:
            value, room = f"{folder} ({format_bytes(free)} free)", f"{format_bytes(self.bytes)} of room"
            way_out = (
                "Set `store` or DISTILL_STORE to a larger disk; `top_k` and fewer `views` make a cache smaller."
            )
            raise UserError("store", value, room, way_out)


def describe(
    configs: Iterable[StageConfig],
    store: ArtifactStore,
    runtime: Runtime | None = None,
    shape: Shape | None = None,
    tflops: float | None = None,
) -> Plan:
    """Describe which artifacts exist and which would be made, at what cost, and what the estimates are based on.

    Arguments other than `configs` are explained at `Estimate`.
    """
    configs = identify_all(list(configs), store, runtime or Runtime(store=store.root), read=False)
    estimate = Estimate(store, runtime, shape, tflops)
    todo = missing(configs, store, store.has)
    todo_keys = {key(config) for config in todo}
    hits = _hits(configs, todo_keys)
    costs = [(config, estimate.cost(config)) for config in todo]
    if len(todo) + len(hits) <= _LISTED:
        lines = [f"hit   {title(config):60}{_recipe(config)}" for config in hits]
        lines += [
            f"miss  {title(config):60} {format_bytes(cost.bytes):>10} {format_seconds(cost.seconds):>9}"
            f"{'  waits for views' if cost.waits else ''}{_recipe(config)}"
            for config, cost in costs
        ]
    else:
        lines = _by_stage(hits, costs)
    known_bytes = sum(cost.bytes or 0 for _, cost in costs)
    seconds = format_seconds(sum(cost.seconds or 0 for _, cost in costs))
    unknown = sum(cost.seconds is None for _, cost in costs)
    rest = f", and {unknown} on data whose size is not known yet" if unknown else ""
    lines.append(f"{len(hits)} hits, {len(todo)} to make: {format_bytes(known_bytes)}, about {seconds}{rest}")
    return Plan("\n".join([*estimate.assumptions(), *lines]), known_bytes)


def _recipe(config: StageConfig) -> str:
    """Name the published recipe by which a network is trained, and its epochs, to be appended to its line."""
    if not isinstance(config, TeacherConfig | StudentConfig) or not (name := recipe_of(config)):
        return ""
    return f"  recipe {name}, {config.schedule.epochs} epochs"


def _hits(configs: list[StageConfig], todo: set[str]) -> list[StageConfig]:
    """List the existing artifacts that a run would reuse: wanted ones, and inputs of those that have to be made."""
    seen: dict[str, StageConfig] = {}
    waiting = list(configs)
    while waiting:
        config = waiting.pop()
        if key(config) not in seen:
            seen[key(config)] = config
            waiting += inputs(config) if key(config) in todo else []
    return [config for name, config in seen.items() if name not in todo]


def _by_stage(hits: list[StageConfig], costs: list[tuple[StageConfig, Cost]]) -> list[str]:
    """Return a table's lines: how many artifacts of each stage exist (hit) or must be made (miss), and the cost."""
    lines = [f"{'stage':10} {'hit':>5} {'miss':>5} {'bytes':>10} {'time':>9}"]
    for stage in STAGES:
        mine = [cost for config, cost in costs if config.stage == stage]
        there = sum(config.stage == stage for config in hits)
        if mine or there:
            written = format_bytes(sum(cost.bytes or 0 for cost in mine))
            seconds = format_seconds(sum(cost.seconds or 0 for cost in mine))
            lines.append(f"{stage:10} {there:5} {len(mine):5} {written:>10} {seconds:>9}")
    return lines


class Estimate:
    """Estimate the costs of stages, from similar artifacts in the store or else from operation counts.

    Args:
        store: store whose artifacts give bytes and times.
        runtime: machine and switches; None takes the defaults.
        shape: shape of all images, which replaces that of the data set; the data set need not be on this machine.
        tflops: 10¹² operations per second that another machine reaches in training, where a multiplication and an
            addition are two operations. None takes the rate of this machine and times of similar artifacts.
    """

    def __init__(
        self,
        store: ArtifactStore,
        runtime: Runtime | None = None,
        shape: Shape | None = None,
        tflops: float | None = None,
    ):
        self._store, self._runtime = store, runtime or Runtime(store=store.root)
        self._told, self._tflops = shape, tflops
        self._shapes: dict[str, Shape | None] = {}
        self._rate: float | None = None
        self._counted: dict[tuple[str, Shape], tuple[int, float]] = {}
        self._rendered: dict[tuple[str, tuple[int, int, int]], float] = {}
        self._decoded: dict[str, str] = {}

    @functools.cached_property
    def _history(self) -> tuple[dict[str, Cost], dict[str, Shape]]:
        """Return what the artifacts in the store cost, and the shapes of their data sets."""
        costs: dict[str, Cost] = {}
        shapes: dict[str, Shape] = {}
        artifacts = self._store.all("teacher", "cache", "student")
        for artifact in bar(artifacts, "records", delay=2, disable=None, unit="record", leave=False):
            if isinstance(artifact.config, AdoptedConfig):  # it lies beside the teachers
                continue
            data, others = _what_costs(artifact.config)
            seconds = artifact.record.provenance.get("seconds")
            costs.setdefault(
                _name([data, *others]),
                Cost(
                    sum(file.bytes for file in artifact.record.files.values()),
                    seconds if isinstance(seconds, int | float) else None,
                ),
            )
            if data.limit is None and (shape := _shape_in(artifact)):
                shapes.setdefault(_name([data.name, data.kwargs]), shape)
        return costs, shapes

    def cost(self, config: StageConfig) -> Cost:
        """Estimate the cost of making one artifact, without the cost of its inputs."""
        if not isinstance(config, TeacherConfig | StudentConfig | CacheConfig):
            return Cost(1 << 20, 3.0)
        data, others = _what_costs(config)
        if self._tflops is None and (known := self._history[0].get(_name([data, *others]))):
            return known
        return self._caching(config) if isinstance(config, CacheConfig) else self._training(config)

    def assumptions(self) -> list[str]:
        """List what the estimates assume: the images' shape, seconds per augmented view, operations per second."""
        lines = [f"images       {name}: {text}" for name, text in self._decoded.items()]
        workers = self._runtime.workers_for()
        for name, seconds in self._rendered.items():
            beside = f"{workers} `workers` render beside the network" if workers else "no `workers`"
            lines.append(f"views        {seconds * 1e3:.2g} ms each on one core here ({name[0]}); {beside}")
        if self._rate is not None:
            told = "`tflops`" if self._tflops else f"{_EFFICIENCY} of a matrix product here; `tflops` tells another"
            lines.append(f"arithmetic   {self._rate / 1e12:.3g} TFLOP/s ({told}); a step is three forward passes")
        return lines

    def _training(self, config: TeacherConfig | StudentConfig) -> Cost:
        shape = self._shape(config.data)
        if shape is None:
            return Cost(None, None)
        parameters, operations = self._count(config.model, shape)
        samples = _images(config.data, shape) * config.schedule.epochs
        held_out = shape.training * config.data.held_out
        evaluated = held_out * min(config.schedule.epochs, _EVALUATIONS) + shape.test
        cache = config.cache if isinstance(config, StudentConfig) else None
        render = samples * self._view_seconds(cache.augment if cache else config.augment, shape)
        compute = (3 * samples + evaluated) * operations / self._operations_per_second()
        steps = samples / config.schedule.batch_size
        predictions = (4 * shape.classes + 8) * (shape.test + held_out)
        written = int(4 * parameters * (1 + config.snapshots) + predictions + 200_000)
        compute += steps * _STEP_SECONDS
        return Cost(written, max(compute, render), waits=render > compute)

    def _caching(self, config: CacheConfig) -> Cost:
        from distill.cache.encoding import Encoding

        shape = self._shape(config.transfer_set)
        if shape is None:
            return Cost(None, None)
        operations = sum(self._count(teacher.model, _taken(teacher, shape))[1] for teacher in config.teachers)
        samples = _images(config.transfer_set, shape) * config.views
        render = samples * self._view_seconds(config.augment, shape)
        row = Encoding(shape.classes, config.dtype, config.top_k).bytes_per_row
        compute = samples * operations / self._operations_per_second()
        return Cost(int(samples * row), max(compute, render), waits=render > compute)

    def _shape(self, data: DataConfig) -> Shape | None:
        if self._told is None and data.name in DATA_SETS:
            return DATA_SETS[data.name].shape
        name = _name([data.name, data.kwargs])
        if name not in self._shapes:
            known = self._told or self._history[1].get(name)
            self._shapes[name] = known or _folder_shape(data, self._runtime.data_root)
        shape = self._shapes[name]
        if shape is not None and data.name not in self._decoded:
            self._decoded[data.name] = f"{shape}{self._kept(data, shape)}"
        return shape

    def _kept(self, data: DataConfig, shape: Shape) -> str:
        """Say what becomes of the images of a folder, in words that follow their number."""
        from distill.data.sets.folder_arguments import folder_arguments

        if not data.folder or folder_arguments(data).stream:
            return "; decoded when they are needed" if data.folder else ""
        size = (shape.training + shape.test) * math.prod(shape.image)
        return f"; decoded once, {format_bytes(size)} in {self._runtime.data_root}/"

    def _count(self, model: ModelConfig, shape: Shape) -> tuple[int, float]:
        """Count the parameters, and the floating-point operations of the forward pass of one image."""
        name = model.model_dump_json(), shape
        if name not in self._counted:
            self._counted[name] = count(model, shape)
        return self._counted[name]

    def _view_seconds(self, augment: AugmentConfig, shape: Shape) -> float:
        """Estimate the seconds until the next view is ready; built-in augmentation is fast and counts as 0."""
        if augment.program is None:
            return 0.0
        name = f"{augment.program} {augment.kwargs}", shape.image
        if name not in self._rendered:
            self._rendered[name] = render_seconds(augment, shape.image)
        return self._rendered[name] / max(1, self._runtime.workers_for())

    def _operations_per_second(self) -> float:
        if self._rate is None:
            self._rate = self._tflops * 1e12 if self._tflops else _EFFICIENCY * _matmul_rate()
        return self._rate


def _taken(teacher: NamedTeacher, shape: Shape) -> Shape:
    """Return a shape with the images that a teacher takes and the logits that it gives."""
    if not isinstance(teacher, AdoptedConfig):
        return shape
    return replace(shape, image=teacher.preprocessing.shape, classes=teacher.outputs)


def _what_costs(config: StageConfig) -> tuple[DataConfig, list[Any]]:
    """Return the data set of a network or cache, and the other fields of its config that decide what it costs."""
    match config:
        case TeacherConfig() | StudentConfig():
            return config.data, [config.stage, config.model, config.augment, config.schedule, config.precision]
        case CacheConfig():
            models = [teacher.model for teacher in config.teachers]
            return config.transfer_set, [config.augment, config.views, config.dtype, config.top_k, *models]
    raise AssertionError(config.stage)


def _name(parts: list[Any]) -> str:
    """Write fields of a config as one JSON text, under which their cost or shape can be looked up in a dict."""
    return json.dumps(
        [each.model_dump(exclude={"content"}) if isinstance(each, Config) else each for each in parts],
        sort_keys=True,
    )


def _shape_in(artifact: Artifact) -> Shape | None:
    """Return the shape of the data set of an artifact; None if the record does not say it."""
    data = artifact.record.data
    with suppress(KeyError):
        sizes = data["sizes"]
        return shape_of([sizes["train"] + sizes["held_out"], sizes["test"], *data["shape"], len(data["classes"])])
    return None


def count(model: ModelConfig, shape: Shape) -> tuple[int, float]:
    """Count parameters and buffers, and floating-point operations of the forward pass of one image.

    A multiplication and an addition are two operations, as torch counts them. The 4.1 GFLOPs that papers give for
    ResNet-50 are 8.2 here.
    """
    import torch
    from torch.utils.flop_counter import FlopCounterMode

    from distill.models import build_model

    network = build_model(model, shape.classes, shape.image).eval()
    counter = FlopCounterMode(display=False)
    with counter, torch.inference_mode():
        network(torch.zeros(1, *shape.image))
    return sum(tensor.numel() for tensor in network.state_dict().values()), float(counter.get_total_flops())


def render_seconds(augment: AugmentConfig, image: tuple[int, int, int]) -> float:
    """Measure on random pixels how many seconds of CPU time a view program (image transform) takes per view."""
    import torch

    from distill.data.views.program import ProgramViews

    generator = torch.Generator().manual_seed(0)
    images = torch.randint(256, (_VIEWS_TIMED, *image), dtype=torch.uint8, generator=generator)
    views = ProgramViews(images, augment, seed=0)
    index = torch.arange(_VIEWS_TIMED)
    # The clock of this process, since other processes may use the core at times.
    started = time.process_time()
    views.pixels(index, 0)
    return (time.process_time() - started) / _VIEWS_TIMED


def _matmul_rate() -> float:
    """Measure the operations per second of a matrix product on this machine."""
    import torch

    side = 1024
    matrix = torch.ones(side, side)
    matrix @ matrix
    started = time.perf_counter()
    matrix @ matrix
    return 2 * side**3 / (time.perf_counter() - started)


def _folder_shape(data: DataConfig, root: Path) -> Shape | None:
    """Read the shape of a local image folder from its file names; None if the config gives no size in pixels."""
    from distill.data.sets.folder_arguments import folder_arguments
    from distill.data.sets.test_share import inventory_in_splits

    if not data.folder or not folder_path(data).exists():
        return None
    places, size = inventory_in_splits(data, root).places.values(), folder_arguments(data).size
    if size is None:
        return None
    images = Counter(place.split for place in places)
    # Beside test/ the images of val/ are held out, so they count as records count them: as training images.
    test = images["test"] or images["val"]
    classes = {place.label for place in places if place.split == "train"}
    return Shape(len(places) - test, test, (3, size, size), len(classes))


def _images(data: DataConfig, shape: Shape) -> float:
    """Return how many training images are left after the held-out split and the limit."""
    kept = shape.training * (1 - data.held_out)
    return kept if data.limit is None else min(kept, data.limit)
