"""Train two teachers, cache their logits, train students at three temperatures, and plot the students' accuracy.

python scripts/example.py [STORE]     # half a minute; a second run finds everything and only plots
"""

import sys

import matplotlib.pyplot as plt

from distill import CacheConfig, LogitCache, LossConfig, ModelConfig, StudentConfig, TeacherConfig, run

store = sys.argv[1] if len(sys.argv) > 1 else "checkpoints"
temperatures = 1, 4, 16
large, small = ModelConfig(name="mlp", kwargs={"widths": [256]}), ModelConfig(name="mlp", kwargs={"widths": [16]})
for smoothing in (0.0, 0.1):
    cache = CacheConfig(teacher=TeacherConfig(model=large, loss=LossConfig(alpha=0, smoothing=smoothing)))
    logits = LogitCache.open(run(cache, store).path).logits([0, 1, 2])
    print(f"smoothing {smoothing}: standard deviation of its logits, of three images: {logits.std(1).mean():.2f}")
    losses = [LossConfig(temperature=temperature) for temperature in temperatures]
    students = [run(StudentConfig(cache=cache, model=small, loss=loss), store) for loss in losses]
    accuracy = [student.record.metrics["test/accuracy"] for student in students]
    plt.plot(temperatures, accuracy, "o-", label=f"teacher with smoothing {smoothing}")
plt.xlabel("temperature")
plt.ylabel("test accuracy of the student")
plt.legend()
plt.savefig("example.svg")
