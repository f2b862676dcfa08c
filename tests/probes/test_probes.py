"""The list of probes, and the union of their configs, which stays written out for type checkers."""

from __future__ import annotations

from typing import get_args

from distill.config import ProbeConfig
from distill.probes import PROBES
from distill.system.references import referenced


def test_each_config_has_a_function() -> None:
    union, _ = get_args(ProbeConfig)
    assert [config.model_fields["probe"].default for config in get_args(union)] == list(PROBES)
    assert all(callable(referenced(function)) for function in PROBES.values())
