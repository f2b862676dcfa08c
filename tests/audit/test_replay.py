"""Check that replay makes pixels and logits of a cache again, and finds what differs."""

from __future__ import annotations

import shutil

import numpy as np
import pytest
import torch

from distill.audit.replay import replay
from distill.cache import LogitCache
from distill.cli.main import main
from distill.config import (
    CacheConfig,
)
from distill.errors import UserError
from tests.cache.caches import drew_otherwise, findings, reordered
from tests.made import make

pytestmark = pytest.mark.fault("images, labels or code that changed")


def refuse(*_: object) -> None:
    raise UserError("data", "gone", "images", "Fetch them.")


def test_replay_makes_pixels_and_logits_again(opened: LogitCache, store, runtime) -> None:
    found = list(replay(store.find(opened.config), store, runtime, 40))
    assert [(finding.what, finding.ok) for finding in found] == [
        ("images", True),
        ("rows", True),
        ("pixels", True),
        ("logits", True),
    ]
    assert "40 of 40 views" in found[2].text
    assert "40 views asked again" in found[3].text


def test_replay_finds_what_no_longer_fits(
    opened: LogitCache, store, runtime, dataset, monkeypatch: pytest.MonkeyPatch
) -> None:
    artifact = store.find(opened.config)
    with monkeypatch.context() as patch:
        patch.setattr("distill.audit.replay.load", lambda *_: reordered(dataset))
        assert findings(artifact, store, runtime) == {"images": False}
    with monkeypatch.context() as patch:
        patch.setattr("distill.data.views.crops.counter_hash", drew_otherwise)
        found = findings(artifact, store, runtime)
        assert found == {"images": True, "rows": True, "pixels": False, "logits": False}
    with monkeypatch.context() as patch:
        rows = LogitCache.rows

        def moved(self: LogitCache, index: torch.Tensor, view: int = 0) -> np.ndarray:
            own = rows(self, index, view).copy()
            own["logits"] += np.float16(0.1)
            return own

        patch.setattr(LogitCache, "rows", moved)
        assert findings(artifact, store, runtime)["rows"] is False
    with monkeypatch.context() as patch:
        # As if it had been trained anew.
        patch.setattr("distill.audit.replay.weights_file", lambda teacher, snapshot: "metrics.jsonl")
        assert findings(artifact, store, runtime)["logits"] is None
    shutil.rmtree(store.path(opened.config.teacher))
    assert findings(artifact, store, runtime) == {"images": True, "rows": True, "pixels": True, "logits": None}
    monkeypatch.setattr("distill.audit.replay.load", refuse)
    assert findings(artifact, store, runtime) == {"images": None}


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
def test_a_cache_of_a_gpu_is_replayed_on_both(shifted: CacheConfig, store, runtime) -> None:
    on_gpu = runtime.model_copy(update={"device": "cuda"})
    artifact = make(shifted, store, on_gpu)
    assert all(findings(artifact, store, on_gpu).values())
    assert all(findings(artifact, store, runtime).values())


def test_verify_says_so_and_exits_with_1(opened: LogitCache, store, runtime, dataset, monkeypatch, capsys) -> None:
    command = ["verify", str(opened.path), "--store", str(store.root), "--device", "cpu", "--samples", "20"]
    main(command)
    assert "ok       pixels: 20 of 20 views" in capsys.readouterr().out
    monkeypatch.setattr("distill.audit.replay.load", lambda *_: reordered(dataset))
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    told = capsys.readouterr().out
    assert "FAILED   images: data.order" in told
    assert "1 damaged or stale: make" in told
    monkeypatch.setattr("distill.audit.replay.load", refuse)
    with pytest.raises(SystemExit) as stop:
        main(command)
    assert stop.value.code == 1
    told = capsys.readouterr().out
    assert "unproven images: data = 'gone'" in told
    assert "delete" not in told
    with pytest.raises(SystemExit) as stop:
        main([*command[:-1], "0"])
    assert stop.value.code == 2
