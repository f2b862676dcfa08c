from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from torch import Tensor, nn

from distill.config import OptimConfig
from distill.training.optim import build_optimizer
from distill.training.resume import load, save
from tests.faults.attempts import Attempts

DTYPES = [
    torch.float32,
    torch.float64,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.uint8,
    torch.bool,
    torch.complex64,
    torch.complex128,
]


@st.composite
def tensors(draw: st.DrawFn) -> Tensor:
    shape = draw(st.lists(st.integers(0, 3), max_size=4))
    numbers = torch.arange(math.prod(shape) * 2).reshape(*shape, 2)[..., draw(st.integers(0, 1))]  # with gaps
    axes = draw(st.permutations(range(len(shape))))
    return numbers.to(draw(st.sampled_from(DTYPES))).permute(axes)


plain = st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=5)
states = st.recursive(
    plain | tensors(),
    lambda inside: (
        st.lists(inside, max_size=3)
        | st.lists(inside, max_size=3).map(tuple)
        | st.dictionaries(st.text(max_size=5) | st.integers(), inside, max_size=3)
    ),
    max_leaves=8,
)


def assert_same(first: Any, second: Any) -> None:
    assert type(first) is type(second)
    match first:
        case Tensor():
            assert first.dtype == second.dtype
            assert first.shape == second.shape
            assert torch.equal(first, second)
        case dict():
            assert list(first) == list(second)
            for name in first:
                assert_same(first[name], second[name])
        case list() | tuple():
            assert len(first) == len(second)
            for one, other in zip(first, second, strict=True):
                assert_same(one, other)
        case _:
            assert first == second


@settings(max_examples=40, deadline=None)
@given(state=st.dictionaries(st.text(max_size=5), states, max_size=4))
def test_what_is_saved_is_loaded(tmp_path_factory: pytest.TempPathFactory, state: dict[str, Any]) -> None:
    path = tmp_path_factory.getbasetemp() / "resume.safetensors"
    save(path, state)
    assert_same(load(path, "cpu"), state)


def test_numbers_that_json_has_not_come_back(tmp_path: Path) -> None:
    save(tmp_path / "r", {"infinite": -math.inf, "none": math.nan, "tensor": torch.tensor([math.nan, math.inf])})
    state = load(tmp_path / "r", "cpu")
    assert state["infinite"] == -math.inf
    assert math.isnan(state["none"])
    assert state["tensor"].tolist()[1] == math.inf


def test_the_order_in_memory_is_kept(tmp_path: Path) -> None:
    image = torch.arange(120.0).reshape(2, 3, 4, 5).to(memory_format=torch.channels_last)
    save(tmp_path / "r", {"image": image, "row": torch.arange(12.0).reshape(3, 4).t()})
    state = load(tmp_path / "r", "cpu")
    assert state["image"].stride() == image.stride()
    assert state["row"].stride() == (1, 4)


def test_one_tensor_under_two_names_stays_one_and_is_stored_once(tmp_path: Path) -> None:
    weight = torch.zeros(1000)
    save(tmp_path / "r", {"first": weight, "second": weight.detach(), "part": weight[10:20], "still": weight[:0]})
    state = load(tmp_path / "r", "cpu")
    assert state["first"].data_ptr() == state["second"].data_ptr()
    assert state["part"].shape == (10,)
    assert (tmp_path / "r").stat().st_size < 2 * weight.nbytes
    state["part"].fill_(1)
    assert not state["first"].any(), "parts of one tensor are copies"


@pytest.mark.parametrize("name", ["momentum", "adamw", "lamb", "adafactor", "madgrad", "adafactorbv", "muon"])
def test_the_state_of_an_optimiser_comes_back(tmp_path: Path, name: str) -> None:
    model = nn.Sequential(nn.Conv2d(1, 4, 3), nn.Flatten(), nn.Linear(16, 3))
    optimizer = build_optimizer(model, OptimConfig(name=name, lr=0.01))
    for _ in range(2):
        model(torch.ones(2, 1, 4, 4)).square().sum().backward()
        optimizer.step()
    save(tmp_path / "r", {"optimizer": optimizer.state_dict()})
    state = load(tmp_path / "r", "cpu")["optimizer"]
    assert set(state["state"]) == set(optimizer.state_dict()["state"]), "its keys are whole numbers"
    assert_same(state, {**optimizer.state_dict(), "state": dict(optimizer.state_dict()["state"])})
    build_optimizer(model, OptimConfig(name=name, lr=0.01)).load_state_dict(state)


@pytest.mark.parametrize("value", [object(), {1.5: 0}, {"set": {1}}, b"bytes"])
def test_what_is_not_plain_is_refused_before_a_file_is_written(tmp_path: Path, value: object) -> None:
    with pytest.raises(TypeError, match="cannot be"):
        save(tmp_path / "r", {"it": value})
    assert not any(tmp_path.iterdir())


@pytest.mark.fault("a full or read-only disk")
def test_a_former_point_outlives_a_failed_write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    save(tmp_path / "r", {"step": 1})

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(OSError, match="No space"):
        save(tmp_path / "r", {"step": 2})
    assert load(tmp_path / "r", "cpu") == {"step": 1}
    assert [path.name for path in tmp_path.iterdir()] == ["r"]


def test_people_can_read_what_is_in_it(tmp_path: Path) -> None:
    save(tmp_path / "r", {"step": 3, "rng": torch.zeros(4, dtype=torch.uint8)})
    with safe_open(tmp_path / "r", framework="pt") as file:
        form = json.loads(file.metadata()["state"])
    assert form["dict"][0] == ["step", 3]


@pytest.mark.fault("a damaged resume point or draft")
def test_any_flipped_bit_is_found(tmp_path: Path, attempts: Attempts) -> None:
    state = {"step": 3, "first": torch.arange(5.0), "second": torch.zeros(2, 3, dtype=torch.int64)}
    save(tmp_path / "r", state)
    whole = (tmp_path / "r").read_bytes()
    assert_same(load(tmp_path / "r", "cpu"), state)
    for bit in range(8 * len(whole)):
        spoilt = bytearray(whole)
        spoilt[bit // 8] ^= 1 << bit % 8
        (tmp_path / "r").write_bytes(spoilt)
        with pytest.raises(Exception):  # noqa: B017, PT011 - of json, safetensors, or the digest
            load(tmp_path / "r", "cpu")
    attempts(8 * len(whole))
