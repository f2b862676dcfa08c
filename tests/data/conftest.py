from __future__ import annotations

import pytest

from distill.data import loader as loader_module
from distill.data.views import views as views_module


@pytest.fixture(params=["whole", "by chunk", "float"])
def memory(request, monkeypatch):
    """The three ways in which a set is kept, chosen by its size."""
    monkeypatch.setattr(loader_module, "CHUNK_BYTES", 40_000)
    monkeypatch.setattr(views_module, "NORMALISED_BYTES", 1 << 30 if request.param == "float" else 0)
    monkeypatch.setattr(views_module, "RESIDENT_BYTES", -1 if request.param == "by chunk" else 1 << 30)
