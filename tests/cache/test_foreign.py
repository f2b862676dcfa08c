import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import save_file

from distill.cache.foreign import ArrayFile, ForeignArrays, log_floor
from distill.errors import UserError
from tests.faults.refusals import few_open_files

VALUES = ("logits", "probabilities", "log-probabilities")


def softmax(z: np.ndarray) -> np.ndarray:
    """Compute a softmax the slow way, in float64."""
    e = np.exp(z - z.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def draw(rows: int = 20, classes: int = 6, seed: int = 0, views: int | None = None) -> np.ndarray:
    shape = (rows, classes) if views is None else (rows, views, classes)
    return np.random.default_rng(seed).normal(0, 4, shape)


def save(path, array: np.ndarray):
    if path.suffix == ".npy":
        np.save(path, array)
    elif path.suffix == ".npz":
        np.savez_compressed(path, array)
    else:
        save_file({"anything": torch.from_numpy(array)}, str(path))
    return path


def every(source, view: int = 0) -> np.ndarray:
    return source.rows(np.arange(source.shape[0]), view).double().numpy()


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_all_formats_give_the_same_rows_in_any_order(tmp_path, dtype):
    array = draw().astype(dtype)
    index = np.array([3, 0, 19, 3])
    for suffix in (".npy", ".npz", ".safetensors"):
        source = ForeignArrays([save(tmp_path / f"a{suffix}", array)])
        assert source.shape == (20, 1, 6)
        logits = source.rows(index, 0)
        assert logits.dtype == torch.float32
        assert np.array_equal(logits.numpy(), array[index].astype(np.float32))


def test_bfloat16_is_read_from_safetensors(tmp_path):
    array = torch.from_numpy(draw()).bfloat16()
    # Of two tensors, the one named logits; the other shifts its bytes.
    save_file({"a": torch.zeros(3), "logits": array}, str(tmp_path / "a.safetensors"))
    assert torch.equal(ForeignArrays([tmp_path / "a.safetensors"]).rows(np.arange(20), 0), array.float())


def test_views_and_byte_orders(tmp_path):
    array = draw(views=3)
    np.save(tmp_path / "a.npy", np.asfortranarray(array.astype(">f4")))
    source = ForeignArrays([tmp_path / "a.npy"])
    assert source.shape == (20, 3, 6)
    for view in range(3):
        assert np.array_equal(every(source, view), array[:, view].astype(np.float32))


@given(st.integers(2, 4), st.integers(2, 7), st.integers(0, 99), st.sampled_from(VALUES))
def test_mean_of_probabilities_is_that_of_numpy(tmp_path_factory, teachers, classes, seed, values):
    folder = tmp_path_factory.mktemp("means")
    logits = [draw(classes=classes, seed=seed + 1000 * i) + 50 * i for i in range(teachers)]
    stored = {
        "logits": logits,
        "probabilities": [softmax(z) for z in logits],
        "log-probabilities": [np.log(softmax(z)) for z in logits],
    }[values]
    files = [save(folder / f"{i}.npy", array) for i, array in enumerate(stored)]
    mean = sum(softmax(z) for z in logits) / teachers
    got = every(ForeignArrays(files, values, "probabilities"))
    np.testing.assert_allclose(got, np.log(mean), atol=2e-6, rtol=1e-6)


@given(st.integers(2, 4), st.integers(0, 99))
def test_mean_of_logits_ignores_the_shift_of_a_row(tmp_path_factory, teachers, seed):
    folder = tmp_path_factory.mktemp("means")
    logits = [draw(seed=seed + 1000 * i) for i in range(teachers)]
    shifts = np.random.default_rng(seed).normal(0, 1e4, (teachers, 20, 1))
    files = [save(folder / f"{i}.npy", z + shifts[i]) for i, z in enumerate(logits)]
    got = softmax(every(ForeignArrays(files, "logits", "logits")))
    np.testing.assert_allclose(got, softmax(sum(logits) / teachers), atol=1e-6)


def test_a_probability_that_became_zero_gets_the_largest_that_could(tmp_path):
    rows = np.array([[1, 2.0**-26], [1, 2.0**-24]]).astype(np.float16)
    assert rows[0, 1] == 0
    got = every(ForeignArrays([save(tmp_path / "a.npy", rows)], "probabilities"))
    np.testing.assert_allclose(got[:, 1], [-25 * math.log(2), -24 * math.log(2)], rtol=1e-6)
    assert log_floor("float64") == pytest.approx(math.log(5e-324) - math.log(2))


@given(st.integers(1, 3), st.integers(0, 99), st.sampled_from(VALUES[1:]), st.floats(0.1, 20))
def test_softened_probabilities_give_the_logits_back(tmp_path_factory, teachers, seed, values, temperature):
    """The oracle softens known logits; what is read differs by a constant per row; a mean is one at T = 1."""
    folder = tmp_path_factory.mktemp("softened")
    logits = [draw(seed=seed + 1000 * i) for i in range(teachers)]
    stored = [softmax(z / temperature) for z in logits]
    stored = [np.log(p) for p in stored] if values == "log-probabilities" else stored
    files = [save(folder / f"{i}.npy", array) for i, array in enumerate(stored)]
    got = every(ForeignArrays(files, values, "probabilities", temperature))
    np.testing.assert_allclose(softmax(got), sum(map(softmax, logits)) / teachers, atol=1e-5)
    if teachers == 1:
        differences = got - logits[0]
        np.testing.assert_allclose(differences, differences[:, :1].repeat(6, 1), atol=1e-4)


@pytest.mark.fault("logits that a small type loses")
@pytest.mark.parametrize("held", VALUES)
@pytest.mark.parametrize("said", VALUES)
@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_values_that_are_something_else_are_refused(tmp_path, held, said, dtype):
    logits = draw()
    arrays = {"logits": logits, "probabilities": softmax(logits), "log-probabilities": np.log(softmax(logits))}
    path = save(tmp_path / "a.npy", arrays[held].astype(dtype))
    if said == held or (said, held) == ("logits", "log-probabilities"):
        got = softmax(every(ForeignArrays([path], said)))
        np.testing.assert_allclose(got, softmax(logits), atol=1e-2)
    else:
        with pytest.raises(UserError, match=rf"^values = '{said}'.*looks like {held}.*`values={held}`"):
            ForeignArrays([path], said)


@pytest.mark.fault("numbers that are not finite, too little memory")
@pytest.mark.parametrize("values", ["probabilities", "log-probabilities"])
def test_one_bad_row_beyond_the_sample_is_found_when_it_is_read(tmp_path, values):
    rows = softmax(draw(rows=3000))
    rows[1] *= 2
    if values == "log-probabilities":
        rows = np.log(rows)
    source = ForeignArrays([save(tmp_path / "a.npy", rows)], values)
    source.rows(np.array([0, 2]), 0)
    with pytest.raises(UserError, match="row 1, view 0"):
        source.rows(np.array([0, 1]), 0)


@pytest.mark.fault("numbers that are not finite, too little memory")
@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_numbers_that_are_not_finite_are_refused(tmp_path, bad):
    array = draw()
    array[7, 2] = bad
    with pytest.raises(UserError, match="inf or nan in row 7"):
        every(ForeignArrays([save(tmp_path / "a.npy", array)]))


@pytest.mark.fault("logits that a small type loses")
def test_a_logit_beyond_float32_is_refused(tmp_path):
    with pytest.raises(UserError, match="fit float32"):
        every(ForeignArrays([save(tmp_path / "a.npy", draw() * 1e200)]))


@pytest.mark.fault("more shards than files may be open")
@pytest.mark.parametrize("suffix", [".npy", ".npz", ".safetensors"])
def test_more_teachers_than_files_may_be_open(tmp_path, suffix):
    arrays = [draw(seed=seed) for seed in range(40)]
    paths = [save(tmp_path / f"{seed}{suffix}", array) for seed, array in enumerate(arrays)]
    with few_open_files(32):
        source = ForeignArrays(paths)
        found = [np.exp(every(source)) for _ in range(2)]
    right = np.mean([softmax(array) for array in arrays], axis=0)
    np.testing.assert_allclose(found, [right, right], rtol=1e-5)


def test_arrays_of_several_shapes_are_refused(tmp_path):
    files = [save(tmp_path / "a.npy", draw()), save(tmp_path / "b.npy", draw(classes=5))]
    with pytest.raises(UserError, match=r"b\.npy of shape \[20, 1, 5\].*a\.npy, \[20, 1, 6\]"):
        ForeignArrays(files)


def _two(path):
    np.savez(path, a=draw(), b=draw())


def _pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def _truncated(path):
    save(path, draw())
    path.write_bytes(path.read_bytes()[:-100])


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize(
    ("name", "write", "message"),
    [
        ("a.npz", _two, "arrays a, b.*one named logits"),
        ("a.npy", _pickled, "a whole .npy file"),
        ("a.npy", _truncated, "a whole .npy file"),
        ("a.npz", _truncated, "a whole .npz file"),
        ("a.safetensors", _truncated, "a whole .safetensors file"),
        ("a.npy", lambda path: path.write_bytes(b""), "a whole .npy file"),
        ("a.npz", lambda path: path.write_bytes(b"x"), "a whole .npz file"),
        ("a.safetensors", lambda path: path.write_bytes(b"x"), "a whole .safetensors file"),
        ("a.npy", lambda path: save(path.with_suffix(".npz"), draw()).rename(path), "a whole .npy file"),
        ("a.npz", lambda path: save(path.with_suffix(".npy"), draw()).rename(path), "a whole .npz file"),
        ("a.npy", lambda path: save(path, np.arange(20).reshape(4, 5)), "of type int64"),
        ("a.safetensors", lambda path: save(path, np.arange(20).reshape(4, 5)), "of type I64"),
        ("a.npy", lambda path: save(path, np.zeros(5)), r"shape \[5\]"),
        ("a.npy", lambda path: save(path, np.zeros((0, 5))), r"shape \[0, 5\]"),
        ("a.safetensors", lambda path: save(path, np.zeros((0, 5))), r"shape \[0, 5\]"),
        ("a.pt", lambda path: torch.save(torch.zeros(3, 5), path), "an existing .npy, .npz, .safetensors"),
        ("missing.npy", lambda path: None, "an existing .npy, .npz, .safetensors"),
    ],
)
def test_files_of_another_kind_are_refused_in_one_line(tmp_path, name, write, message):
    write(tmp_path / name)
    with pytest.raises(UserError, match=message) as caught:
        ForeignArrays([tmp_path / name])
    assert "\n" not in str(caught.value)
    assert "delete it" not in str(caught.value), "it is the user's"


def test_two_arrays_of_which_one_is_named_logits(tmp_path):
    array = draw()
    np.savez(tmp_path / "a.npz", logits=array, labels=np.arange(20))
    assert np.array_equal(every(ForeignArrays([tmp_path / "a.npz"])), array.astype(np.float32))


@pytest.mark.parametrize("suffix", [".npy", ".safetensors"])
def test_files_are_mapped_and_not_read(tmp_path, suffix):
    assert isinstance(ArrayFile(save(tmp_path / f"a{suffix}", draw())).array, np.memmap)


@pytest.mark.fault("bombs and numbers without an end")
def test_an_npz_larger_than_its_file_can_be_is_refused(tmp_path, monkeypatch):
    monkeypatch.setattr("distill.cache.foreign.NPZ_BYTES", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", logits=np.zeros((1 << 14, 100), np.float32))
    with pytest.raises(UserError, match=r"numpy\.save"):
        ArrayFile(tmp_path / "a.npz")
