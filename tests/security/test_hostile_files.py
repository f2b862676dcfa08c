"""JSON, safetensors, npy and records that somebody made up: one line, in bounded time and memory."""

from __future__ import annotations

import io
import json
import os
import struct
import time
import tracemalloc
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from distill.cache.foreign import ArrayFile
from distill.config import ModelConfig, TeacherConfig
from distill.errors import UserError, printable
from distill.store.key import key
from distill.store.record import Record
from distill.system.reading import map_array, parse_json, read_json, read_tensors
from distill.training.network import WEIGHTS, load_network, load_predictions
from tests.security.sent import DATA, TINY, line_of, published

pytestmark = pytest.mark.fault("hostile archives, weights, arrays and records")

FUZZ = {"deadline": None, "suppress_health_check": list(HealthCheck)}


NOT_JSON = {
    "deep": b"[" * 5000 + b"]" * 5000,
    "deep and unfinished": b'{"a":' * 100_000,
    "too deep for us": b"[" * 101 + b"]" * 101,
    "a long integer": b"1" * 100_000,
    "infinite": b"1e999",
    "NaN": b"NaN",
    "Infinity": b"[-Infinity]",
    "a key twice": b'{"a": 1, "a": 2}',
    "half a pair": b'"\\ud800"',
    "half a pair in capitals": b'["\\uDFFF"]',
    "half a pair in bytes": b'"\xed\xa0\x80"',
    "no text": b"\xff",
    "UTF-16": '{"a": 1}'.encode("utf-16"),
    "empty": b"",
    "two": b"1 2",
}


@pytest.mark.parametrize("what", NOT_JSON)
def test_json_that_is_none_of_ours_is_one_line(tmp_path, what):
    (tmp_path / "a.json").write_bytes(NOT_JSON[what])
    started = time.monotonic()
    with pytest.raises(UserError) as error:
        read_json(tmp_path / "a.json")
    assert time.monotonic() - started < 2
    assert str(tmp_path) in line_of(error.value)


def test_json_of_ours_is_read_as_it_was_written(tmp_path):
    value = {"a": [1, -(2**63), 1.5e300, None, True, "ü\U0001f600\\ud"], "deep": json.loads("[" * 98 + "]" * 98)}
    for ascii_only in (True, False):
        (tmp_path / "a.json").write_text(json.dumps(value, ensure_ascii=ascii_only))
        assert read_json(tmp_path / "a.json") == value
    assert str(parse_json("[NaN, Infinity]", "here", finite=False)) == "[nan, inf]"


def test_size_and_kind_of_a_file_are_looked_at_before_it_is_read(tmp_path):
    (tmp_path / "large.json").touch()
    os.truncate(tmp_path / "large.json", 1 << 40)
    os.mkfifo(tmp_path / "pipe.json")
    (tmp_path / "zero.json").symlink_to("/dev/zero")
    tracemalloc.start()
    for name in ("large", "pipe", "zero"):
        with pytest.raises(UserError, match=r"at most|no regular file"):
            read_json(tmp_path / f"{name}.json")
    assert tracemalloc.get_traced_memory()[1] < 1 << 20
    tracemalloc.stop()


@settings(max_examples=60, derandomize=True, **FUZZ)
@given(
    st.recursive(
        st.none()
        | st.booleans()
        | st.integers(-(2**63), 2**63)
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(),
        lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
        max_leaves=20,
    )
)
def test_whatever_json_says_comes_back(value):
    try:
        text = json.dumps(value, ensure_ascii=False)
        text.encode()
    except UnicodeEncodeError:
        return
    assert parse_json(text, "here") == value
    assert parse_json(json.dumps(value).encode(), "here") == value


@given(st.text())
def test_what_is_printed_is_printable(text):
    seen = text.replace("\u00a0", " ").replace("\u202f", " ")  # no-break spaces, which a terminal shows
    assert printable(seen).isprintable()
    assert seen.isprintable() == (printable(text) == text)


def safetensors(header: bytes | dict[str, Any], data: bytes = b"", length: int | None = None) -> bytes:
    header = header if isinstance(header, bytes) else json.dumps(header).encode()
    return struct.pack("<Q", len(header) if length is None else length) + header + data


def entry(dtype: str, shape: list[int], first: int, last: int) -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": [first, last]}


BAD_TENSORS = {
    "empty": b"",
    "a header of 2^60 bytes": safetensors(b"{}", length=1 << 60),
    "a header longer than the file": safetensors(b"{}", length=100),
    "no JSON": safetensors(b"{nonsense"),
    "a deep header": safetensors(b'{"logits":' + b"[" * 100_000),
    "a huge shape": safetensors({"logits": entry("F32", [1 << 40, 1 << 40], 0, 8)}, bytes(8)),
    "a shape below zero": safetensors({"logits": entry("F32", [-1, 2], 0, 8)}, bytes(8)),
    "beyond the end": safetensors({"logits": entry("F32", [1, 2], 1 << 40, (1 << 40) + 8)}, bytes(8)),
    "overlapping": safetensors({"logits": entry("F32", [1, 2], 0, 8), "labels": entry("I64", [1], 0, 8)}, bytes(8)),
    "a type that is none": safetensors({"logits": entry("NaN", [1, 2], 0, 8)}, bytes(8)),
    "another type": safetensors(
        {"logits": entry("F64", [1, 1], 0, 8), "labels": entry("I64", [1], 8, 16)}, bytes(16)
    ),
    "other axes": safetensors({"logits": entry("F32", [2], 0, 8), "labels": entry("I64", [1], 8, 16)}, bytes(16)),
    "another number": safetensors(
        {"logits": entry("F32", [2, 1], 0, 8), "labels": entry("I64", [1], 8, 16)}, bytes(16)
    ),
    "one missing": safetensors({"logits": entry("F32", [1, 2], 0, 8)}, bytes(8)),
}


@pytest.mark.parametrize("what", BAD_TENSORS)
def test_safetensors_that_are_not_what_is_wanted_are_one_line(tmp_path, store, what):
    path = tmp_path / "a.safetensors"
    path.write_bytes(BAD_TENSORS[what])
    with pytest.raises(UserError) as error:
        read_tensors(path, {"logits": "F32 n k", "labels": "I64 n"})
    assert str(path) in line_of(error.value)
    network = published(store, model_safetensors=BAD_TENSORS[what], predictions_safetensors=BAD_TENSORS[what])
    for load in (load_network, lambda network: load_predictions(network, "test")):
        with pytest.raises(UserError) as error:
            load(network)
        line_of(error.value)


def test_labels_of_classes_that_are_none_are_refused(tmp_path, store):
    for label in (-1, 2, 1 << 60):
        tensors = {"test.logits": torch.zeros(1, 2), "test.labels": torch.tensor([label])}
        save_file(tensors, tmp_path / "a")
        config = TINY.replace(seed=label % 1000)
        with pytest.raises(UserError, match="classes 0 to 1"):
            load_predictions(
                published(store, config, predictions_safetensors=(tmp_path / "a").read_bytes()), "test"
            )


@pytest.mark.parametrize(
    ("widths", "data"),
    [
        ([1 << 30], DATA),
        ([8], {"classes": ["a"], "shape": [1, 10**9, 10**9]}),
        ([8], {}),
    ],
)
def test_a_network_that_its_weights_cannot_fill_is_not_built(tmp_path, store, widths, data):
    save_file({"0.weight": torch.zeros(2)}, tmp_path / "a")
    config = TeacherConfig(model=ModelConfig(kwargs={"widths": widths}))
    with store.draft(config) as draft:
        (draft / WEIGHTS).write_bytes((tmp_path / "a").read_bytes())
        fields = {"key": key(config), "version": 1, "config": config.model_dump(mode="json"), "inputs": {}}
        record = Record(**fields, files=store.describe_files(draft), data=data)
        network = store.publish(config, draft, record)
    before = torch.get_rng_state()
    with pytest.raises(UserError, match=r"at most the|classes, shape|can be built"):
        load_network(network)
    assert torch.equal(before, torch.get_rng_state())


def npy(header: bytes, data: bytes = b"", version: int = 1, length: int | None = None) -> bytes:
    size = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + size.to_bytes(2 if version == 1 else 4, "little") + header + data


def described(descr: str, shape: str, fortran: bool = False) -> bytes:
    return f"{{'descr': {descr}, 'fortran_order': {fortran}, 'shape': {shape}, }}\n".encode()


BAD_ARRAYS = {
    "empty": b"",
    "a header of gigabytes": npy(b"", version=2, length=(1 << 32) - 1),
    "a header longer than the file": npy(b"", length=100),
    "another version": npy(described("'<f4'", "(1, 2)"), bytes(8), version=9),
    "a huge shape": npy(described("'<f4'", "(1 << 40, 2)".replace("1 << 40", str(1 << 40))), bytes(8)),
    "a shape that overflows": npy(described("'<f4'", f"({1 << 62}, {1 << 62})"), bytes(8)),
    "a shape of digits": npy(described("'<f4'", f"({'9' * 5000}, 1)"), bytes(8)),
    "a shape below zero": npy(described("'<f4'", "(-1, 2)"), bytes(8)),
    "a hundred axes": npy(described("'<f4'", str((1,) * 100)), bytes(4)),
    "Python objects": npy(described("'|O'", "(1, 2)"), bytes(16)),
    "Python objects inside": npy(described("[('a', '|O')]", "(1, 2)"), bytes(16)),
    "a deep header": npy(b"(" * 9000),
    "a deep list": npy(b"[" * 9000),
    "code": npy(b"__import__('os').system('true')\n"),
    "no type": npy(described("'<f99999999999'", "(1, 2)"), bytes(8)),
    "a record": npy(described("[('a', '<f4')]", "(1, 2)"), bytes(8)),
    "Fortran order": npy(described("'<f4'", "(1, 2)", fortran=True), bytes(8)),
    "another order of bytes": npy(described("'>f4'", "(1, 2)"), bytes(8)),
    "more than declared": npy(described("'<f4'", "(1, 2)"), bytes(9)),
    "less than declared": npy(described("'<f4'", "(1, 2)"), bytes(7)),
}
_TAKEN = ("Fortran order", "another order of bytes", "more than declared")
"""What an imported array may be."""


@pytest.mark.parametrize("what", BAD_ARRAYS)
@pytest.mark.filterwarnings("ignore:Reading `.npy`")
def test_npy_that_is_not_what_is_wanted_is_one_line(tmp_path, what):
    path = tmp_path / "a.npy"
    path.write_bytes(BAD_ARRAYS[what])
    with pytest.raises(UserError) as error:
        map_array(path, np.dtype("<f4"), (1, 2))
    assert str(path) in line_of(error.value)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("logits.npy", BAD_ARRAYS[what])
    for imported in (path, tmp_path / "a.npz"):
        if what not in _TAKEN:
            with pytest.raises(UserError) as error:
                ArrayFile(imported)
            line_of(error.value)


@settings(max_examples=60, derandomize=True, **FUZZ)
@given(data=st.data())
def test_mutated_files_are_refused_or_read(tmp_path, attempts, data):
    fuzz(tmp_path, data)
    attempts()


@pytest.mark.slow
@settings(max_examples=5000, **FUZZ)
@given(data=st.data())
def test_many_mutated_files_are_refused_or_read(tmp_path, attempts, data):
    fuzz(tmp_path, data)
    attempts()


def fuzz(tmp_path: Path, data: st.DataObject) -> None:
    buffer = io.BytesIO()
    np.save(buffer, np.zeros((3, 4), np.float32))
    zipped = io.BytesIO()
    np.savez(zipped, logits=np.zeros((3, 4), np.float32))
    tensors = safetensors({"logits": entry("F32", [1, 2], 0, 8), "labels": entry("I64", [1], 8, 16)}, bytes(16))
    whole, read = data.draw(
        st.sampled_from([
            (buffer.getvalue(), lambda path: map_array(path, np.dtype("<f4"), (3, 4))),
            (buffer.getvalue(), lambda path: ArrayFile(path.rename(path.with_suffix(".npy")))),
            (zipped.getvalue(), lambda path: ArrayFile(path.rename(path.with_suffix(".npz")))),
            (tensors, lambda path: ArrayFile(path.rename(path.with_suffix(".safetensors")))),
            (tensors, lambda path: read_tensors(path, {"logits": "F32 n k", "labels": "I64 n"})),
            (TINY.model_dump_json().encode(), read_json),
        ])
    )  # fmt: skip
    for at, new, drop in data.draw(
        st.lists(st.tuples(st.integers(0, len(whole)), st.binary(max_size=8), st.integers(0, 8)))
    ):
        whole = whole[:at] + new + whole[at + drop :]
    path = tmp_path / "a"
    path.write_bytes(whole)
    started, line = time.monotonic(), ""
    try:
        read(path)
    except UserError as error:
        line = str(error)
    assert line.isprintable()
    assert time.monotonic() - started < 5
