"""The smallest network and the shortest training that tests use."""

from __future__ import annotations

from distill.config import ModelConfig, ScheduleConfig

TINY = ModelConfig(name="mlp", kwargs={"widths": [16]})
SHORT = ScheduleConfig(epochs=2, batch_size=64)
