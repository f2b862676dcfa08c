"""Measure what smoothing costs: every loss of labels beside torch's own, forward and backward, and in a whole step.

One thread is measured in processor time, so other programs on the machine count only as far as they share its
caches. The contestants take turns in a new order every round, so that such effects fall on all of them alike. Each
ratio is the median over rounds of the ratio within a round. The step is the step of an MLP 784-800-800-10 at batch
128: network, loss, backward, clipping and optimiser, as in the trainer.

    python scripts/bench_loss.py [--full] [--rounds 30] [--steps 20]
"""

from __future__ import annotations

import random
import statistics
import time
from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from rounds import announce, make_parser, parse, take_turns
from torch import Tensor, nn

from distill.config import LabelsConfig, LossConfig, ModelConfig, OptimConfig
from distill.losses import make_loss
from distill.losses.matrices import smoothed, towards_given
from distill.models import build_model
from distill.system.memory import keep_freed_memory
from distill.training.optim import build_optimizer

SMOOTHING = 0.1
SHAPES = ((128, 10), (256, 100), (256, 1000))
TORCH, PLAIN = "torch, smoothed", "torch, hard"
ASKED = {"smoothed": 1.05, "matrix": 1.2}

Charge = Callable[[Tensor, Tensor], Tensor]


def losses(classes: int) -> dict[str, Charge]:
    """Return the contestants: name → loss as a function of (logits, labels)."""
    torch.manual_seed(0)
    rows = torch.rand(classes, classes).tolist()
    matrix = smoothed(SMOOTHING, towards_given(rows, [str(name) for name in range(classes)]))
    placed = LabelsConfig(towards="matrix", kwargs={"rows": []})
    return {
        PLAIN: F.cross_entropy,
        TORCH: lambda z, y: F.cross_entropy(z, y, label_smoothing=SMOOTHING),
        "smoothed": _ours(LabelsConfig()),
        "others": _ours(LabelsConfig(), smoothing_convention="others"),
        "maxsup": _ours(LabelsConfig(), smoothing_convention="maxsup"),
        "matrix": _ours(placed, matrix),
        "linear": _ours(LabelsConfig(schedule="linear")),
        "matrix, linear": _ours(placed.replace(schedule="linear"), matrix),
        "difficulty": _ours(LabelsConfig(by_sample="difficulty")),
        "matrix, difficulty": _ours(placed.replace(by_sample="difficulty"), matrix),
        "confidence": _ours(LabelsConfig(by_sample="confidence")),
        "penalty": _ours(LabelsConfig(confidence_penalty=0.1)),
    }


def _ours(labels: LabelsConfig, matrix: Tensor | None = None, smoothing_convention: str = "uniform") -> Charge:
    how = {"smoothing": SMOOTHING, "smoothing_convention": smoothing_convention}
    loss = make_loss(LossConfig(alpha=0, labels=labels, **how), matrix)
    return lambda z, y: loss(z, y, None, 0.5).total


def alone(charge: Charge, n: int, classes: int) -> Callable[[], None]:
    """Make a step that computes the value and the gradient of a loss on one batch of logits."""
    logits = torch.randn(n, classes, requires_grad=True)
    labels = torch.randint(classes, (n,))

    def step() -> None:
        logits.grad = None
        charge(logits, labels).backward()

    return step


def trained(charge: Charge) -> Callable[[], None]:
    """Make a step that is a whole step of training on random images."""
    model = build_model(ModelConfig(name="mlp", kwargs={"widths": [800, 800]}), 10, (1, 28, 28))
    optimizer = build_optimizer(model, OptimConfig(lr=0.01))
    images, labels = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))

    def step() -> None:
        loss = charge(model(images), labels)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()

    return step


def seconds(contestants: dict[str, Callable[[], None]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the processor seconds per step of each contestant in each round."""

    # On a CPU backward runs in the same thread, so the time of this thread holds everything.
    def measure(step: Callable[[], None]) -> float:
        started = time.thread_time()
        for _ in range(steps):
            step()
        return (time.thread_time() - started) / steps

    return take_turns({name: partial(measure, step) for name, step in contestants.items()}, rounds)


def table(title: str, times: dict[str, list[float]], unit: float, name_of_unit: str) -> None:
    """Print the median time of each contestant, and its ratios to both losses of torch."""
    print(f"{title}: {name_of_unit}, / {TORCH}, / {PLAIN}")
    for name, measured in times.items():
        ratios = [
            statistics.median(a / b for a, b in zip(measured, times[other], strict=True))
            for other in (TORCH, PLAIN)
        ]
        asked = f"   asked: at most {ASKED[name]} of {TORCH}" if name in ASKED else ""
        print(f"  {name:20} {unit * statistics.median(measured):9.1f} {ratios[0]:7.2f} {ratios[1]:7.2f}{asked}")


def main() -> None:
    """Print one table per shape of the logits, and a table of the whole step."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=30)
    parser.add_argument("--steps", type=int, default=20, help="steps of each contestant in a round")
    given = parse(parser, rounds=60)
    announce(0.12 * (1 + given.rounds) * given.steps)
    keep_freed_memory()
    torch.set_num_threads(1)
    random.seed(0)
    print(f"1 thread, torch {torch.__version__}, {given.rounds} rounds of {given.steps}")
    for n, classes in SHAPES:
        contestants = {name: alone(charge, n, classes) for name, charge in losses(classes).items()}
        table(f"loss, n = {n}, K = {classes}", seconds(contestants, given.rounds, given.steps), 1e6, "µs")
    chosen = (PLAIN, TORCH, "smoothed", "matrix")
    steps = {name: trained(charge) for name, charge in losses(10).items() if name in chosen}
    table("step, 784-800-800-10, n = 128", seconds(steps, given.rounds, max(1, given.steps // 4)), 1e6, "µs")


if __name__ == "__main__":
    main()
