"""Hold what the examples share: their command line, and the two numbers that each prints at its end."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import nn
from torch.utils.data import DataLoader

from distill.cache import CachedDataset
from distill.errors import UserError

_AGREEMENT_BATCHES, _BATCH = 40, 256


class Evaluation(NamedTuple):
    """Say how well a student does."""

    accuracy: float
    """On the held-out images; nan where the data set was split without any."""
    agreement: float
    """Share of the transfer set (view 0, at most 10,240 samples) where its top-1 answer is the teacher's."""

    def __str__(self) -> str:
        return f"held-out accuracy {self.accuracy:.3f}, agreement with the teacher {self.agreement:.3f}"


@torch.no_grad()
def evaluate(model: nn.Module, dataset: CachedDataset) -> Evaluation:
    """Measure accuracy on the held-out images, and agreement with the teacher, of a model on any device."""
    model.eval()
    device = next(model.parameters()).device

    def answers(images: torch.Tensor) -> torch.Tensor:
        return model(images.to(device)).argmax(1).cpu()

    held_out = DataLoader(dataset.held_out, batch_size=_BATCH)
    right = [answers(image) == label for image, label in held_out]
    transfer = islice(dataset.batches(_BATCH, epoch=0, drop_last=False), _AGREEMENT_BATCHES)
    same = [answers(batch.images) == batch.teacher.argmax(1).cpu() for batch in transfer]
    return Evaluation(_mean(right), _mean(same))


def _mean(parts: list[torch.Tensor]) -> float:
    return torch.cat(parts).float().mean().item() if parts else float("nan")


def parser(description: str | None) -> argparse.ArgumentParser:
    """Make the parser of the options that all examples have.

    Args:
        description: docstring of the example.
    """
    found = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter, allow_abbrev=False
    )
    found.add_argument("cache", metavar="CACHE", type=Path, help="folder that `distill cache` printed")
    found.add_argument("--data-root", type=Path, help="where the images lie (DISTILL_DATA, else data/)")
    found.add_argument("--epochs", type=int, default=10)
    found.add_argument("--temperature", type=float, default=4.0)
    found.add_argument("--batch-size", type=int, default=64)
    found.add_argument("--lr", type=float, default=2e-3, help="peak learning rate of AdamW")
    found.add_argument("--workers", type=int, default=2, help="processes that make views; 0 makes them in this one")
    found.add_argument("--seed", type=int, default=0, help="of initial weights and order")
    return found


def run(main: Callable[[], object]) -> None:
    """Run an example; a mistake of the user is one line and exit code 2."""
    try:
        main()
    except UserError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from error
