"""Configs that are changed."""

from __future__ import annotations

import pytest

from distill.config import (
    TeacherConfig,
)
from distill.errors import UserError


def test_replace_validates() -> None:
    assert TeacherConfig().with_loss(smoothing=0.1).loss.smoothing == 0.1
    with pytest.raises(UserError, match="less than 1"):
        TeacherConfig().with_loss(smoothing=2)
