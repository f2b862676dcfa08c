"""Fixtures that tests of probes share."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from distill.config import TeacherConfig
from distill.store.artifact import Artifact


@pytest.fixture
def trained(teacher: TeacherConfig, make: Callable[[TeacherConfig], Artifact]) -> Callable[..., Artifact]:
    """Train a network; without a config the small teacher."""
    return lambda config=teacher: make(config)
