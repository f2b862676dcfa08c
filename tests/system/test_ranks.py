"""Without torchrun there is one rank, and nothing of torch is needed; `test_step_distributed` has two."""

from __future__ import annotations

import subprocess
import sys

import pytest

from distill.errors import UserError
from distill.system import ranks
from distill.system.runtime import cores


def test_alone_all_is_trivial_and_torch_is_not_imported() -> None:
    code = """
import sys
from distill.system import ranks
with ranks.end_together():
    ranks.join(), ranks.barrier(), ranks.mute_others()
    assert (ranks.rank(), ranks.world(), ranks.is_first()) == (0, 1, True)
    assert (ranks.broadcast(3), ranks.gather(3), ranks.on_first(lambda: 3)) == (3, [3], 3)
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", code], check=True)


def test_an_error_of_the_first_is_one_of_all(monkeypatch) -> None:
    """On another rank, which hears of it."""
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "1")
    monkeypatch.setattr(ranks, "broadcast", lambda _: (None, UserError("data", 1, "two", "Look.")))
    with pytest.raises(UserError, match="expected two"):
        ranks.on_first(lambda: pytest.fail("this rank has no part in it"))


def test_the_ranks_of_a_machine_share_its_cores(monkeypatch) -> None:
    alone = cores()
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "2")
    assert cores() == max(1, alone // 2)
