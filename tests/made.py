"""Makes one artifact, interrupts its training, and compares the weights of two."""

from __future__ import annotations

import os
import signal

import pytest
import torch
from safetensors.torch import load_file

from distill.config import StageConfig
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS
from distill.training.state import Run


def make(config: StageConfig, store: ArtifactStore, runtime: Runtime) -> Artifact:
    """The artifact of a config, with all that it needs."""
    made = ensure([config], store, runtime)[key(config)]
    assert isinstance(made, Artifact)
    return made


def interrupt(monkeypatch: pytest.MonkeyPatch, stop_at: int) -> list[int]:
    """Send SIGINT in one of the steps that follow, and return a list to which each step adds its number."""
    update, steps = Run.update, list[int]()

    def interrupting(run: Run) -> None:
        steps.append(run.step)
        if len(steps) == stop_at:
            os.kill(os.getpid(), signal.SIGINT)
        update(run)

    monkeypatch.setattr(Run, "update", interrupting)
    return steps


def weights(artifact: Artifact) -> dict[str, torch.Tensor]:
    """Name → tensor of a trained network."""
    return load_file(str(artifact.path / WEIGHTS))


def assert_same_bits(one: Artifact, other: Artifact) -> None:
    """Both have the same weights, to the last bit."""
    for name, tensor in weights(one).items():
        assert torch.equal(tensor, weights(other)[name]), name
