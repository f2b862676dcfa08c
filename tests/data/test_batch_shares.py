"""A batch in parts and over ranks: every sample once, and the gradient of the whole."""

from __future__ import annotations

import pytest
import torch
from hypothesis import assume, given
from hypothesis import strategies as st

from distill.config import DataConfig, LossConfig, ModelConfig, ScheduleConfig, StudentConfig, TeacherConfig
from distill.data.batch_shares import Shares
from distill.errors import UserError
from distill.pipeline.graph import ensure
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.training.network import load_network
from distill.training.state import _refuse_shares
from distill.training.tracking import read_metrics

DATA = DataConfig(limit=600, held_out=0.1)
SCHEDULE = ScheduleConfig(epochs=3, batch_size=60)
CNN = ModelConfig(name="cnn", kwargs={"widths": [8], "hidden": 16})
TOKENS = {
    "data": DataConfig(name="tests.data.copies:copies"),
    "model": ModelConfig(name="tests.data.copies:copyist"),
}


@given(parts=st.integers(1, 6), world=st.integers(1, 5), rows=st.integers(1, 4), steps=st.integers(1, 4))
def test_the_ranks_have_each_sample_once_and_each_part_is_a_slice_of_the_batch(parts, world, rows, steps) -> None:
    pieces = parts if parts % world == 0 else parts * world
    batch = pieces * rows
    order = torch.randperm(steps * batch)
    found = {}
    for rank in range(world):
        shares = Shares(parts, rank, world)
        assert shares.piece(batch) == rows
        cut = shares.of(order, batch).view(steps, shares.steps, rows)
        found |= {shares.number(piece): cut[:, piece] for piece in range(shares.steps)}
    assert sorted(found) == list(range(pieces))  # each draws its own dropout
    together = torch.stack([found[number] for number in range(pieces)], 1).view(steps, -1)
    assert torch.equal(together, order.view(steps, batch))


@given(parts=st.integers(1, 6), world=st.integers(1, 5), batch=st.integers(1, 60))
def test_a_batch_that_cannot_be_cut_is_refused(parts, world, batch) -> None:
    shares = Shares(parts, 0, world)
    assume(batch % (shares.steps * world))
    with pytest.raises(UserError, match=r"schedule\.batch_size"):
        shares.piece(batch)


def test_the_number_of_parts_divides_the_batch() -> None:
    with pytest.raises(UserError, match=r"schedule\.parts = 3: expected a divisor of the batch size, 64"):
        ScheduleConfig(batch_size=64, parts=3)


def test_one_part_leaves_keys_as_they_were() -> None:
    config = TeacherConfig()
    assert key(config) == key(config.replace(schedule=config.schedule.replace(parts=1)))
    assert key(config) != key(config.replace(schedule=config.schedule.replace(parts=2)))


def test_samples_that_are_compared_are_not_shared() -> None:
    student = StudentConfig(cache=None, loss=LossConfig(alpha=0))
    _refuse_shares(student, Shares(1, 0, 2), "cpu")
    loss = LossConfig(alpha=0.5, soft="dist", temperature=1)
    compared = student.model_copy(update={"loss": loss})
    _refuse_shares(compared, Shares(2, 0, 2), "cpu")
    with pytest.raises(UserError, match=r"--schedule\.parts 2"):
        _refuse_shares(compared, Shares(1, 0, 2), "cpu")
    with pytest.raises(UserError, match="cpu or cuda under torchrun"):
        _refuse_shares(student, Shares(1, 0, 2), "mps")


def trained(config: TeacherConfig, store, runtime) -> Artifact:
    made = ensure([config], store, runtime)[key(config)]
    assert isinstance(made, Artifact)
    return made


@pytest.mark.parametrize(
    "fields",
    [
        {"data": DATA, "model": ModelConfig(kwargs={"widths": [16]}), "loss": LossConfig(alpha=0, smoothing=0.1)},
        {"data": DATA, "model": ModelConfig(kwargs={"widths": [16]}), "augment": {"mixup": 0.4}},
        TOKENS,
    ],
    ids=["labels", "mixed labels", "tokens, of which some do not count"],
)
def test_parts_add_up_to_the_batch(fields, store, runtime) -> None:
    whole, parted = (
        trained(TeacherConfig(**fields, schedule=SCHEDULE.replace(parts=parts)), store, runtime) for parts in (1, 5)
    )
    for one, other in zip(read_metrics(whole.path), read_metrics(parted.path), strict=True):
        losses = {name: value for name, value in one.items() if name.startswith("loss/")}
        assert {name: other[name] for name in losses} == pytest.approx(losses, rel=1e-5)
        assert other["train/accuracy"] == pytest.approx(one["train/accuracy"], abs=1e-6)
    for one, other in zip(load_network(whole).parameters(), load_network(parted).parameters(), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-4, atol=1e-5)


def test_batch_norm_sees_a_part_at_a_time(store, runtime) -> None:
    config = TeacherConfig(data=DATA, model=CNN, schedule=SCHEDULE)
    whole, parted = (
        load_network(trained(config.replace(schedule=SCHEDULE.replace(parts=parts)), store, runtime))
        for parts in (1, 2)
    )
    counts = [int(net.state_dict()["stages.2.num_batches_tracked"]) for net in (whole, parted)]
    assert counts == [30, 60]
    assert not torch.allclose(*(net.state_dict()["stages.0.weight"] for net in (whole, parted)), atol=1e-4)
