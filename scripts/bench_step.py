"""Measure what a distillation step costs: against plain cross-entropy, an online teacher, and a matmul.

All three ratios are measured in one run. The contestants take turns in a new order every round, so that the drift
of a shared machine falls on all of them alike; results are medians over rounds. Networks are as in Müller et al.
2019: teacher MLP 784-1200-1200-10, student 784-800-800-10, batch 128 (256 for the training of the teacher).

    python scripts/bench_step.py [--full] [--rounds 20] [--steps 20]
"""

from __future__ import annotations

import itertools
import random
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from typing import Any

import torch
from rounds import announce, make_parser, parse, take_turns
from torch import nn

from distill.config import AugmentConfig, LossConfig, ModelConfig, OptimConfig
from distill.data.loader import Batch, Join, Loader
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.views.views import Views
from distill.losses import FromTeacher, cross_entropy, kl_distillation, make_loss, prepare
from distill.models import build_model
from distill.system.memory import keep_freed_memory
from distill.training.optim import build_optimizer

SHAPE, CLASSES, SAMPLES = (1, 28, 28), 10, 4096
TEACHER = ModelConfig(name="mlp", kwargs={"widths": [1200, 1200]})
STUDENT = ModelConfig(name="mlp", kwargs={"widths": [800, 800]})
OPTIM = OptimConfig(lr=0.01)


class Steps:
    """The endless training of one network on random images, fed by `distill.data.loader`."""

    def __init__(self, model: nn.Module, batch_size: int, join: Join[FromTeacher] | None = None):
        self.model, self.optimizer = model, build_optimizer(model, OPTIM)
        self.parameters = list(model.parameters())
        images = torch.randint(256, (SAMPLES, *SHAPE), generator=torch.Generator().manual_seed(0)).byte()
        labels = torch.arange(SAMPLES) % CLASSES
        views = Views(Split(images, labels), Normaliser((0.5,), (0.3,)), AugmentConfig(), seed=0)
        self.loader = Loader(views, batch_size, seed=0)
        self.batches = self._endless(join)

    def _endless(self, join: Join[FromTeacher] | None) -> Iterator[Batch[FromTeacher | None]]:
        for epoch in itertools.count():
            yield from self.loader.epoch(epoch, join=join)

    def descend(self, loss: torch.Tensor) -> None:
        """Take one step of gradient descent, with clipping as in the trainer."""
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optimizer.step()


def plain(batch_size: int = 128, model: ModelConfig = STUDENT) -> Callable[[], None]:
    """Make a step of cross-entropy with labels, which is the least that a student costs."""
    steps = Steps(build_model(model, CLASSES, SHAPE), batch_size)
    loss = make_loss(LossConfig(alpha=0))

    def step() -> None:
        batch = next(steps.batches)
        steps.descend(loss(steps.model(batch.images), batch.labels, None).total)

    return step


def cached(alpha: float) -> Callable[[], None]:
    """Make a step that distils from a cache in float16, as in the student stage."""
    cache, config = torch.randn(SAMPLES, CLASSES).half(), LossConfig(alpha=alpha, temperature=4)
    loss = make_loss(config)

    def join(index: torch.Tensor, _view: int, batch_size: int) -> Sequence[Any]:
        return prepare(config, cache.index_select(0, index), batch_size)

    steps = Steps(build_model(STUDENT, CLASSES, SHAPE), 128, join)

    def step() -> None:
        batch = next(steps.batches)
        steps.descend(loss(steps.model(batch.images), batch.labels, batch.teacher).total)

    return step


def unfused(alpha: float) -> Callable[[], None]:
    """Make a step that distils with plain autograd operations, batch by batch: what the fused loss replaces."""
    steps = Steps(build_model(STUDENT, CLASSES, SHAPE), 128)
    cache = torch.randn(SAMPLES, CLASSES).half()

    def step() -> None:
        batch = next(steps.batches)
        logits, rows = steps.model(batch.images), cache.index_select(0, batch.index)
        soft = kl_distillation(logits, rows, 4.0)
        steps.descend((1 - alpha) * cross_entropy(logits, batch.labels) + alpha * soft)

    return step


def online(alpha: float) -> Callable[[], None]:
    """Make a step of timm's distillation task, in which the teacher runs in every step."""
    from timm.task import LogitDistillationTask

    student = build_model(STUDENT, CLASSES, SHAPE)
    teacher = build_model(TEACHER, CLASSES, SHAPE).eval()
    # timm reads from these the normalisation that each network needs; here both need the same.
    for model in (student, teacher):
        vars(model).update(num_classes=CLASSES, in_chans=1, pretrained_cfg={"mean": (0.5,), "std": (0.5,)})
    task = LogitDistillationTask(
        student_model=student,
        teacher_model=teacher,
        criterion=nn.CrossEntropyLoss(),
        loss_type="kl",
        distill_loss_weight=alpha,
        task_loss_weight=1 - alpha,
        temperature=4.0,
        verbose=False,
    )
    steps = Steps(student, 128)

    def step() -> None:
        batch = next(steps.batches)
        steps.descend(task(batch.images, batch.labels)["loss"])

    return step


def matmul() -> Callable[[], None]:
    """Make a step that is a float32 matrix product of side 2048, for the rate that the machine can reach."""
    a, b = torch.randn(2048, 2048), torch.randn(2048, 2048)
    return lambda: (torch.mm(a, b), None)[1]


def seconds(contestants: dict[str, Callable[[], None]], rounds: int, steps: int) -> dict[str, list[float]]:
    """Return the seconds per step of each contestant in each round."""

    def measure(name: str) -> float:
        step, count = contestants[name], 1 if name == "matmul 2048" else steps
        started = time.perf_counter()
        for _ in range(count):
            step()
        return (time.perf_counter() - started) / count

    return take_turns({name: partial(measure, name) for name in contestants}, rounds)


def ratio(times: dict[str, list[float]], one: str, other: str) -> float:
    """Return the median over rounds of the ratio of two contestants within a round."""
    return statistics.median(a / b for a, b in zip(times[one], times[other], strict=True))


def operations(widths: tuple[int, ...], training: bool) -> float:
    """Return the floating-point operations per sample of an MLP; training needs no gradient of the images."""
    products = [a * b for a, b in itertools.pairwise(widths)]
    return 2.0 * (3 * sum(products) - products[0] if training else sum(products))


def main() -> None:
    """Print the three ratios beside the values that are asked for."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--steps", type=int, default=20, help="steps of each contestant in a round")
    given = parse(parser, rounds=40)
    announce(0.1 * (1 + given.rounds) * given.steps)
    keep_freed_memory()
    random.seed(0)
    torch.manual_seed(0)
    contestants = {
        "cross-entropy": plain(),
        "cached, alpha 1": cached(1.0),
        "cached, alpha 0.5": cached(0.5),
        "cached, not fused": unfused(0.5),
        "timm, online teacher": online(0.5),
        "teacher training": plain(256, TEACHER),
        "matmul 2048": matmul(),
    }
    times = seconds(contestants, given.rounds, given.steps)
    print(f"{torch.get_num_threads()} threads, torch {torch.__version__}, {given.rounds} rounds")
    for name, measured in times.items():
        print(f"  {name:22} {1e3 * statistics.median(measured):8.3f} ms per step")
    print("distilling from the cache / cross-entropy (asked: at most 1.03)")
    for name in ("cached, alpha 1", "cached, alpha 0.5", "cached, not fused"):
        print(f"  {name:22} {ratio(times, name, 'cross-entropy'):.3f}")
    student, teacher = (784, 800, 800, 10), (784, 1200, 1200, 10)
    allowed = 1 + operations(teacher, False) / operations(student, True)
    reached = ratio(times, "timm, online teacher", "cached, alpha 0.5")
    print("timm's online distillation / distilling from the cache (asked: 0.9 of what the counts allow)")
    print(f"  reached {reached:.2f}, allowed {allowed:.2f}: {reached / allowed:.2f} of it")
    share = ratio(times, "matmul 2048", "teacher training") * 256 * operations(teacher, True) / (2 * 2048**3)
    print("rate of teacher training / rate of a 2048³ matmul (asked: at least 0.6)")
    print(f"  {share:.2f}")


if __name__ == "__main__":
    main()
