"""Say first how long a bench takes, let its contestants take turns, and show the progress."""

from __future__ import annotations

import argparse
import random
import sys
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

from tqdm import tqdm

from distill.system.units import format_seconds

T = TypeVar("T")


def make_parser(text: str | None) -> argparse.ArgumentParser:
    """Make the parser of a bench, whose help is the text of its file."""
    return argparse.ArgumentParser(description=text, formatter_class=argparse.RawDescriptionHelpFormatter)


def parse(parser: argparse.ArgumentParser, **full: Any) -> argparse.Namespace:
    """Parse the command line, where `--full` changes the defaults to those of the long form."""
    words = " ".join(f"--{name.replace('_', '-')} {value}" for name, value in full.items())
    parser.add_argument("--full", action="store_true", help=f"the long form; its defaults are {words}")
    if "--full" in sys.argv[1:]:
        parser.set_defaults(**full)
    return parser.parse_args()


def announce(seconds: float) -> None:
    """Say how long the bench will take, before it measures anything."""
    print(f"takes about {format_seconds(seconds)} on two quiet cores", file=sys.stderr, flush=True)


def take_turns(
    contestants: Mapping[str, Callable[[], T]], rounds: int, warm_up: int = 1, what: str = "turns"
) -> dict[str, list[T]]:
    """Measure every contestant once a round, in a new order every round, and return what each measured.

    Args:
        contestants: name → function that returns a measurement.
        rounds: number of rounds that count.
        warm_up: number of rounds before them, whose measurements are dropped.
        what: title of the progress bar.
    """
    found: dict[str, list[T]] = {name: [] for name in contestants}
    order = list(contestants)
    with tqdm(total=(warm_up + rounds) * len(order), desc=what, unit="turn", mininterval=0.5, leave=False) as bar:
        for number in range(-warm_up, rounds):
            random.shuffle(order)
            for name in order:
                measured = contestants[name]()
                bar.update()
                if number >= 0:
                    found[name].append(measured)
    return found
