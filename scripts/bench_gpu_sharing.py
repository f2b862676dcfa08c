"""Time sixteen small students on one GPU: one after another, in several processes at once, and as one program.

`ensure` makes the students of the pipeline, inline and in a pool. The one program is a bare loop, which exists in
this script only. It stacks the weights of all students (torch.func), and one vmap makes their steps, each with its
own order of images, and with clipping and momentum as in the pipeline. It has no views, measures or records, so its
speed is an upper bound of what batching students could bring. Each measurement is a process of its own, from its
start to its end.

    python scripts/bench_gpu_sharing.py --full [--model mlp alexnet] [--jobs 2 4 8 16] [--students 16] [--epochs 20]

Without `--full` four students of a small data set show that it works.
"""

from __future__ import annotations

import argparse
import statistics
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from typing import Any

import torch
from bench_executors import add_arguments, epoch_seconds, runtime, seconds, students
from rounds import announce, make_parser, parse, take_turns
from torch.func import functional_call, grad, stack_module_state, vmap

from distill.config import DataConfig, ModelConfig
from distill.data.sets.load import load
from distill.models import build_model
from distill.system.runtime import Runtime, default_data_root

_LR, _MOMENTUM, _CLIP = 0.1, 0.9, 1.0


def batched(given: argparse.Namespace, model: dict[str, Any]) -> None:
    """Train all students as one program, with the data on the device."""
    device = Runtime(device=given.device).torch_device()
    dataset = load(DataConfig(name=given.data, held_out=0.1), default_data_root())
    channels, height, width = dataset.train.images.shape[1:]
    networks = []
    for seed in range(given.students):
        torch.manual_seed(seed)
        networks.append(
            build_model(ModelConfig(**model), len(dataset.classes), (channels, height, width)).to(device)
        )
    params, buffers = stack_module_state(networks)
    every = torch.arange(len(dataset.train))
    images, labels = dataset.train.pixels(every).to(device), dataset.train.labels.to(device)
    images = (images.float() / 255 - images.float().mean() / 255) / (images.float().std() / 255)
    speed = {name: torch.zeros_like(value) for name, value in params.items()}

    def loss(params: dict[str, Any], buffers: dict[str, Any], x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        return torch.nn.functional.cross_entropy(functional_call(networks[0], (params, buffers), (x,)), y)

    gradients = vmap(grad(loss), randomness="different")
    steps = len(labels) // given.batch

    @torch.no_grad()
    def step(index: torch.Tensor) -> None:
        found = gradients(params, buffers, images[index], labels[index])
        squares = torch.stack([value.flatten(1).square().sum(1) for value in found.values()]).sum(0)
        factor = (_CLIP / squares.sqrt()).clamp(max=1)
        for name, value in found.items():
            scale = factor.view(-1, *[1] * (value.dim() - 1))
            speed[name].mul_(_MOMENTUM).add_(value * scale)
            params[name].sub_(speed[name], alpha=_LR)

    for _ in range(given.epochs):
        order = torch.stack([torch.randperm(len(labels), device=device) for _ in networks])
        for index in order[:, : steps * given.batch].split(given.batch, 1):
            step(index)
    if device != "cpu":
        getattr(torch, device).synchronize()


def measure(given: argparse.Namespace, name: str, folder: Path) -> dict[str, list[float]]:
    """Time each way to train the students in every round, and return way → seconds."""
    configs = students(given, _model(given, name), distilled=False)

    def ensured(**how: Any) -> float:
        return seconds(configs, runtime(given, folder / "store", **how), folder / "child.py")

    def batched_alone() -> float:
        started = time.perf_counter()
        subprocess.run([sys.executable, *sys.argv, "--only-batched", name], check=True)
        return time.perf_counter() - started

    ways = {"inline": partial(ensured, executor="inline"), "batched": batched_alone}
    ways |= {f"pool of {jobs}": partial(ensured, executor="pool", jobs=jobs) for jobs in given.jobs}
    return take_turns(ways, given.rounds, warm_up=0, what=name)


def _model(given: argparse.Namespace, name: str) -> dict[str, Any]:
    return {"name": name, "kwargs": {"widths": given.widths} if name == "mlp" else {}}


def main() -> None:
    """Print the median seconds of each way to train the students, and its speed relative to one after another."""
    parser = make_parser(__doc__)
    add_arguments(parser, students=4, epochs=20)
    parser.add_argument("--model", nargs="+", default=["mlp"])
    parser.add_argument("--jobs", type=int, nargs="+", default=[2])
    parser.add_argument("--only-batched", metavar="MODEL", help="train that one batched, and measure nothing")
    full = {"data": "fashion-mnist", "students": 16, "rounds": 3}
    given = parse(parser, **full, model=["mlp", "alexnet"], jobs=[2, 4, 8, 16])
    if given.only_batched:
        batched(given, _model(given, given.only_batched))
        return
    ways = len(given.model) * (2 + len(given.jobs))
    announce(given.rounds * ways * (10 + given.students * (epoch_seconds(given) * given.epochs + 1)))
    for name in given.model:
        with tempfile.TemporaryDirectory() as folder:
            found = measure(given, name, Path(folder))
        for way, took in found.items():
            ratio = statistics.median(a / b for a, b in zip(found["inline"], took, strict=True))
            median = statistics.median(took)
            print(f"{name:8} {given.students} students  {way:11} {median:7.1f} s   {ratio:.2f} x", flush=True)


if __name__ == "__main__":
    main()
