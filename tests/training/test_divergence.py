"""A loss that is not finite."""

from __future__ import annotations

import pytest

from distill.errors import Diverged
from tests.made import make

pytestmark = pytest.mark.fault("numbers that are not finite, too little memory")


@pytest.mark.parametrize("epochs", [1, 2])
def test_divergence_at_any_step_is_noticed(teacher, store, runtime, epochs: int) -> None:
    """In the last update too, which no training loss follows."""
    schedule = {"epochs": epochs, "batch_size": 5000, "name": "constant"}
    hot = teacher.replace(schedule=schedule, optim={"lr": 1e30, "clip": None})
    with pytest.raises(Diverged):
        make(hot, store, runtime)
    with pytest.raises(Diverged):
        make(hot.replace(data={"held_out": 0}), store, runtime)
