"""Compare the images per second of the training pipeline with a bare loop of the same network on one fixed batch.

The pipeline is what a teacher's training does in every step: order and views of the loader (crop after padding by
4, and flip), normalisation, forward, loss, backward, clipping, optimiser, schedule, and what the measures keep. The
bare loop is forward, cross-entropy, backward and the same optimiser, on a batch that is already there. Both have
the same precision, memory format and compiler. They take turns in a new order every round, and results are medians
over rounds, so that the drift of a shared machine falls on both alike. The loader makes about 500 images at a time,
so a round should have many more. On a GPU the clock is read when the device has finished, and the script counts how
often a step of the pipeline waits for the device (it should never wait).

    python scripts/bench_training.py [--full] [--model cnn] [--batch 128] [--channels-last] [--precision bfloat16]
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from rounds import announce, make_parser, parse, take_turns
from torch import nn

from distill.config import (
    AugmentConfig,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    TeacherConfig,
)
from distill.data.loader import Batch, Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.sets.load import load
from distill.data.views.views import Views
from distill.losses import FromTeacher, make_loss
from distill.models import build_model
from distill.store.record import RESUME
from distill.system.memory import keep_freed_memory
from distill.system.runtime import Runtime, default_data_root
from distill.training.optim import build_optimizer
from distill.training.recent_samples import RecentSamples
from distill.training.state import Run
from distill.training.step import take_step

AUGMENT = AugmentConfig(pad=4, flip=True)
OPTIM = OptimConfig(name="sgd", lr=0.01, weight_decay=5e-4)
MEAN, STD = (0.4914, 0.4822, 0.4465), (0.2470, 0.2435, 0.2616)
SECONDS_PER_IMAGE = {"cnn": 0.002, "resnet56_preact": 0.012}
"""Seconds that a step on two cores takes for each image of its batch."""

Step = Callable[[], object]


class Bench:
    """The two contestants of one network, pipeline and bare loop, with the data and settings that they share."""

    def __init__(self, given: argparse.Namespace):
        self.given = given
        runtime = Runtime(device=given.device)
        self.device = runtime.torch_device()
        split, self.classes, (mean, std) = _images(given)
        channels, height, width = split.images.shape[1:]
        self.shape = channels, height, width
        normalise = Normaliser(mean, std, self.device, given.channels_last)
        self.loader = Loader(Views(split, normalise, AUGMENT, seed=0), given.batch, seed=0)

    def network(self) -> tuple[nn.Module, Callable[[torch.Tensor], torch.Tensor]]:
        """Make a network on the device, and return it and the function to call: itself, or its compiled form."""
        torch.manual_seed(0)
        model = build_model(ModelConfig(name=self.given.model), self.classes, self.shape).to(self.device)
        if self.given.channels_last:
            model = model.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
        model.train()
        return model, torch.compile(model) if self.given.compile else model

    def batches(self) -> Iterator[Batch[FromTeacher | None]]:
        """Yield batches of one epoch after another, without end."""
        for epoch in itertools.count():
            yield from self.loader.epoch(epoch)

    def pipeline(self, folder: Path) -> Step:
        """Make a training step as in `distill.training.loop.fit`."""
        model, forward = self.network()
        config = TeacherConfig(
            optim=OPTIM, schedule=ScheduleConfig(name="constant", epochs=1), precision=self.given.precision
        )
        run, loss = Run(model, config, len(self.loader), folder / RESUME), make_loss(LossConfig(alpha=0))
        recent, batches = RecentSamples(self.given.batch, smoothed=False), self.batches()

        def step() -> None:
            batch = next(batches)
            recent.add(take_step(run, forward, iter((batch,)), loss))

        return step

    def bare(self) -> Step:
        """Make a training step of forward, backward and optimiser on one fixed batch."""
        model, forward = self.network()
        optimizer, batch = build_optimizer(model, OPTIM), next(self.batches())
        dtype = getattr(torch, self.given.precision)
        images, labels = batch.images.clone(memory_format=torch.preserve_format), batch.labels.clone()

        def step() -> None:
            with torch.autocast(self.device, dtype=dtype, enabled=dtype != torch.float32):
                loss = F.cross_entropy(forward(images).float(), labels)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        return step

    def wait(self) -> None:
        """Wait until the device has finished its work."""
        if self.device != "cpu":
            getattr(torch, self.device).synchronize()

    def rates(self, contestants: dict[str, Step]) -> dict[str, list[float]]:
        """Return the images per second of each contestant in each round."""

        def measure(step: Step) -> float:
            self.wait()
            started = time.perf_counter()
            for _ in range(self.given.steps):
                step()
            self.wait()
            return self.given.steps * self.given.batch / (time.perf_counter() - started)

        return take_turns({name: partial(measure, step) for name, step in contestants.items()}, self.given.rounds)

    def waits(self, step: Step) -> int:
        """Return how often the host waits for the device in as many steps as a round has."""
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            torch.cuda.set_sync_debug_mode("warn")
            try:
                for _ in range(self.given.steps):
                    step()
            finally:
                torch.cuda.set_sync_debug_mode("default")
        return sum("synchronizing" in str(warning.message) for warning in told)


def _images(given: argparse.Namespace) -> tuple[Split, int, tuple[tuple[float, ...], tuple[float, ...]]]:
    """Return training images, the number of classes, and (mean, standard deviation) per channel."""
    if given.data:
        dataset = load(DataConfig(name=given.data), default_data_root())
        split, classes, moments = dataset.train, len(dataset.classes), (dataset.mean, dataset.std)
    else:
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 256, (given.images, 3, 32, 32), dtype=torch.uint8, generator=generator)
        split = Split(pixels, torch.randint(0, 10, (given.images,), generator=generator))
        classes, moments = 10, (MEAN, STD)
    if len(split) < given.batch:
        raise SystemExit(f"--batch {given.batch}: expected at most the {len(split)} training images")
    return split, classes, moments


def _arguments() -> argparse.Namespace:
    parser = make_parser(__doc__)
    parser.add_argument("--model", default="cnn", help="name of a network: resnet56_preact, alexnet, cnn, ...")
    parser.add_argument("--device", default="auto", choices=("auto", "cpu", "cuda", "mps"))
    parser.add_argument(
        "--data", help="data set whose training images are taken; without it, random ones of 3x32x32"
    )
    parser.add_argument("--images", type=int, default=40_000, help="number of random images")
    parser.add_argument("--batch", type=int, default=128, help="images per step")
    parser.add_argument("--precision", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--channels-last", action="store_true")
    parser.add_argument("--compile", action="store_true")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=20, help="steps of each contestant in a round")
    return parse(parser, model="resnet56_preact", rounds=10, steps=50)


def main() -> None:
    """Measure both contestants, and print their images per second and the ratio."""
    given = _arguments()
    announce(2 * (1 + given.rounds) * given.steps * given.batch * SECONDS_PER_IMAGE.get(given.model, 0.01))
    keep_freed_memory()
    random.seed(0)
    bench = Bench(given)
    with tempfile.TemporaryDirectory() as folder:
        pipeline = bench.pipeline(Path(folder))
        rates = bench.rates({"pipeline": pipeline, "bare loop": bench.bare()})
    where = torch.cuda.get_device_name() if bench.device == "cuda" else f"{torch.get_num_threads()} threads"
    form = f"{given.precision}{', channels last' * given.channels_last}{', compiled' * given.compile}"
    print(f"{given.model}, batches of {given.batch}, {form}; {bench.device} ({where}), torch {torch.__version__}")
    for name, measured in rates.items():
        print(f"  {name:14} {statistics.median(measured):12,.0f} images/s")
    ratio = statistics.median(ours / bare for ours, bare in zip(rates["pipeline"], rates["bare loop"], strict=True))
    print(f"  pipeline / bare loop {ratio:.3f}")
    if bench.device == "cuda":
        print(f"  host waits for the device in {given.steps} steps: {bench.waits(pipeline)}")


if __name__ == "__main__":
    main()
