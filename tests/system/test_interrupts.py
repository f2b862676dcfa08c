from __future__ import annotations

import os
import signal
import time

import pytest

from distill.system import interrupts as interrupts_module
from distill.system.interrupts import Interrupts

pytestmark = pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")


def closed_terminal_between_two_steps() -> None:
    with Interrupts() as interrupts:
        assert not interrupts.should_save(1, is_due=False)
        os.kill(os.getpid(), signal.SIGHUP)
        os.kill(os.getpid(), signal.SIGHUP)  # at once: this is the first one again
        assert interrupts.should_save(2, is_due=False)
        interrupts.raise_signal()


def test_a_closed_terminal_ends_a_training_between_two_steps() -> None:
    with pytest.raises(SystemExit) as caught:
        closed_terminal_between_two_steps()
    assert caught.value.code == 128 + signal.SIGHUP


def two_signals_within_a_step() -> None:
    with Interrupts():
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(0.03)
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0)
        raise AssertionError("the step went on")


def test_a_second_signal_does_not_wait_for_the_step(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interrupts_module, "SAME_SECONDS", 0.02)
    with pytest.raises(KeyboardInterrupt):
        two_signals_within_a_step()
