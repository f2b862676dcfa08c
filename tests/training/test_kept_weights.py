"""Weights that are kept along training: which, and that keeping them changes nothing."""

from __future__ import annotations

import pytest
import torch
from safetensors.torch import load_file

from distill.audit.replay import replay
from distill.cache import LogitCache
from distill.config import CacheConfig
from distill.errors import UserError
from distill.models import build_model
from distill.training.kept_weights import snapshot_file
from distill.training.network import load_network, snapshot_steps
from distill.training.seeds import reproducible
from distill.training.state import Run
from tests.made import assert_same_bits, make, weights


def test_the_first_are_the_initial_weights_and_the_last_the_final_ones(teacher, store, runtime) -> None:
    made = make(teacher.replace(snapshots=3), store, runtime)
    steps = snapshot_steps(made)
    total = 2 * (len_of_training(made) // 64)
    assert steps == [round(part * total / 3) for part in range(4)]
    with reproducible(teacher.seed):
        initial = build_model(teacher.model, 10, (1, 8, 8))
    for name, tensor in initial.state_dict().items():
        assert torch.equal(load_network(made, step=0).state_dict()[name], tensor)
    final = load_network(made).state_dict()
    for name, tensor in load_network(made, step=total).state_dict().items():
        assert torch.equal(final[name], tensor)
    middle = load_network(made, step=steps[1]).state_dict()
    assert not all(torch.equal(final[name], tensor) for name, tensor in middle.items())
    assert made.problems() == []


def len_of_training(made) -> int:
    return made.record.data["sizes"]["train"]


def test_keeping_them_changes_no_bit(teacher, store, runtime) -> None:
    assert_same_bits(make(teacher, store, runtime), make(teacher.replace(snapshots=5), store, runtime))


def test_more_than_there_are_steps_keeps_every_step(teacher, store, runtime) -> None:
    made = make(teacher.replace(snapshots=10_000), store, runtime)
    assert snapshot_steps(made) == list(range(2 * (len_of_training(made) // 64) + 1))


@pytest.mark.fault("SIGTERM, SIGHUP or Ctrl-C, once or twice")
def test_an_interrupted_run_keeps_the_same(teacher, store, runtime, tmp_path, monkeypatch) -> None:
    config = teacher.replace(snapshots=4, ema=0.9)
    whole = make(config, store, runtime)
    update, calls = Run.update, iter(range(10_000))

    def interrupting(self, *arguments):
        if next(calls) == 21:
            raise KeyboardInterrupt
        return update(self, *arguments)

    elsewhere = runtime.model_copy(update={"store": tmp_path / "other", "checkpoint_seconds": 1e-9})
    other = type(store)(elsewhere.store)
    monkeypatch.setattr(Run, "update", interrupting)
    with pytest.raises(KeyboardInterrupt):
        make(config, other, elsewhere)
    resumed = make(config, other, elsewhere)
    assert snapshot_steps(resumed) == snapshot_steps(whole)
    for step in snapshot_steps(whole):
        name = snapshot_file(step)
        for key, tensor in load_file(str(whole.file(name))).items():
            assert torch.equal(load_file(str(resumed.file(name)))[key], tensor)
    assert weights(whole).keys() == weights(resumed).keys()


def test_a_snapshot_that_is_not_there_is_refused(teacher, store, runtime) -> None:
    made = make(teacher, store, runtime)
    assert snapshot_steps(made) == []
    with pytest.raises(UserError, match="`snapshots`"):
        load_network(made, step=0)


def test_a_cache_of_a_snapshot_holds_what_the_network_said_then(teacher, store, runtime) -> None:
    config = CacheConfig(teacher=teacher.replace(snapshots=2), transfer_set=teacher.data, dtype="float32")
    early, late = (make(config.replace(snapshot=part), store, runtime) for part in (0, 2))
    final = make(config, store, runtime)
    everything = torch.arange(len(LogitCache(final)))
    logits = {cache.path: LogitCache(cache).logits(everything) for cache in (early, late, final)}
    assert torch.equal(logits[late.path], logits[final.path])
    assert not torch.allclose(logits[early.path], logits[final.path])
    for cache in (early, late):
        assert all(finding.ok for finding in replay(cache, store, runtime, 16))


@pytest.mark.parametrize(("kept", "wanted"), [(0, 0), (2, 3)])
def test_a_cache_of_a_snapshot_that_is_not_kept_is_refused(teacher, kept, wanted) -> None:
    with pytest.raises(UserError, match="--snapshots N"):
        CacheConfig(teacher=teacher.replace(snapshots=kept), transfer_set=teacher.data, snapshot=wanted)
