"""Measure what it is worth to let the C library keep freed memory, by the step of a convolutional teacher.

The setting belongs to a process, so each measurement is a process of its own. The two settings take turns.

    python scripts/bench_allocator.py [--rounds 3] [--threads 1]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
from functools import partial

from rounds import announce, make_parser, parse, take_turns

STEP = """
import resource, statistics, sys, time
import torch
from torch.nn.functional import cross_entropy
from distill.system.memory import keep_freed_memory
from distill.config import ModelConfig, OptimConfig
from distill.models import build_model
from distill.training.optim import build_optimizer

torch.set_num_threads(int(sys.argv[2]))
if sys.argv[1] == "kept":
    assert keep_freed_memory(), "this C library cannot be tuned"
model = build_model(ModelConfig(name="cnn"), 10, (1, 28, 28))
optimizer = build_optimizer(model, OptimConfig())
images, labels = torch.randn(128, 1, 28, 28), torch.randint(10, (128,))
times = []
for _ in range(40):
    started = time.perf_counter()
    optimizer.zero_grad()
    cross_entropy(model(images), labels).backward()
    optimizer.step()
    times.append(time.perf_counter() - started)
print(statistics.median(times[10:]), resource.getrusage(resource.RUSAGE_SELF).ru_minflt / 40)
"""
SECONDS = 9
"""Seconds of one process with these steps."""


def main() -> None:
    """Print milliseconds and page faults per step with and without the setting, and the ratio of the times."""
    parser = make_parser(__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    given = parse(parser, rounds=9)
    announce(2 * SECONDS * given.rounds)

    def measure(name: str) -> tuple[float, float]:
        command = [sys.executable, "-c", STEP, name, str(given.threads)]
        seconds, faults = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout.split()
        return float(seconds), float(faults)

    measured = take_turns({name: partial(measure, name) for name in ("kept", "default")}, given.rounds, warm_up=0)
    medians = {name: statistics.median(seconds for seconds, _ in found) for name, found in measured.items()}
    for name, found in measured.items():
        faults = statistics.median(faults for _, faults in found)
        print(f"freed memory {name:8} {1e3 * medians[name]:7.1f} ms and {faults:7.0f} page faults per step")
    print(f"default / kept: {medians['default'] / medians['kept']:.2f}")


if __name__ == "__main__":
    main()
