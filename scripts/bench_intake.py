"""Measure how long it takes to adopt 100 MB of weights, from command to artifact, beside timm's own loading.

Each measurement is a process of its own, and they take turns. timm builds the network, reads the file and asks the
network about the test images of digits. `distill adopt` does that too, hashes the file, asks about the held-out
and 1,024 training images, writes the weights once more, hashes them, and publishes the artifact. Each form of file
is compared with timm's loading of the same file.

    python scripts/bench_intake.py [--full] [--rounds 2]
"""

from __future__ import annotations

import shutil
import statistics
import sys
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

import timm
import torch
from bench_store import measured
from rounds import announce, make_parser, parse, take_turns
from safetensors.torch import save_model

NETWORK = "resnet50"
"""It has 94 MB of weights for the ten classes of digits."""
LOADED = """
import pathlib, sys, timm, torch
from distill.config import DataConfig
from distill.data.sets.load import load
network = timm.create_model(sys.argv[1], num_classes=10, in_chans=1, checkpoint_path=sys.argv[2]).eval()
images = load(DataConfig(), pathlib.Path(sys.argv[3]), progress=False).test.images
with torch.inference_mode():
    network(images.float() / 255)
"""


def save(folder: Path) -> list[Path]:
    """Save a network in the forms that people use: a checkpoint of torch, and safetensors."""
    torch.manual_seed(0)
    network = timm.create_model(NETWORK, num_classes=10, in_chans=1)
    state = network.state_dict()
    torch.save({"state_dict": {f"module.{name}": each for name, each in state.items()}}, folder / "nested.pth")
    save_model(network, str(folder / "model.safetensors"))
    return sorted(folder.iterdir())


def adopted(file: Path, root: Path) -> tuple[float, float, float]:
    """Adopt a file into a new store, and return the seconds, the seconds of a core and the MB of memory."""
    store = root / "store"
    shutil.rmtree(store, ignore_errors=True)
    words = ["-m", "distill", "adopt", str(file), "--model", f"timm:{NETWORK}", "--device", "cpu"]
    words += ["--min-teacher-accuracy", "0", "--accept-class-order"]
    words += ["--store", str(store), "--data-root", str(root)]
    return measured([sys.executable, *words])


def main() -> None:
    """Adopt each file and load it with timm in turns, and print a table."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=2)
    given = parse(parser, rounds=15)
    announce(10 + 35 * given.rounds)
    with tempfile.TemporaryDirectory(prefix="bench-intake-") as folder:
        root = Path(folder)
        (root / "files").mkdir()
        files = save(root / "files")
        sizes = {file.name: file.stat().st_size / 1e6 for file in files}
        contestants: dict[str, Callable[[], tuple[float, ...]]] = {}
        for file in files:
            loads = [sys.executable, "-c", LOADED, NETWORK, str(file), str(root)]
            contestants[f"timm {file.name}"] = partial(measured, loads)
            contestants[f"adopt {file.name}"] = partial(adopted, file, root)
        found = take_turns(contestants, given.rounds, warm_up=0)
    print(f"{'':20} {'MB':>6} {'timm':>8} {'adopt':>8} {'ratio':>7} {'of a core':>10} {'most MB':>9}")
    for name, size in sizes.items():
        of_timm, ours = ([each[0] for each in found[f"{who} {name}"]] for who in ("timm", "adopt"))
        ratio = statistics.median(mine / theirs for mine, theirs in zip(ours, of_timm, strict=True))
        cores = [statistics.median(each[1] for each in found[f"{who} {name}"]) for who in ("timm", "adopt")]
        most = statistics.median(each[2] for each in found[f"adopt {name}"])
        seconds = f"{statistics.median(of_timm):7.2f}s {statistics.median(ours):7.2f}s {ratio:7.2f}"
        print(f"{name:20} {size:6.0f} {seconds} {cores[1] / cores[0]:10.2f} {most:9.0f}")


if __name__ == "__main__":
    main()
