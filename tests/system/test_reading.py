"""Test that text of people is read by the mark of its encoding, and that ambiguous JSON is refused."""

from __future__ import annotations

import codecs
import json
from collections.abc import Callable
from pathlib import Path

import pytest

from distill.cache.row_names import declared_names
from distill.config import DataConfig, ImportFlags, ModelConfig, TeacherConfig
from distill.errors import UserError
from distill.system.reading import load_json, read_lines

pytestmark = pytest.mark.fault("odd JSON and command lines")

NAMES = "train/cat/é.png\r\ntrain/Müller/ŷ.png\r\n"


@pytest.mark.fault("other encodings, closed streams")
@pytest.mark.parametrize(
    "content",
    [
        NAMES.encode(),
        NAMES.encode("utf-8-sig"),
        NAMES.encode("utf-16"),
        codecs.BOM_UTF16_BE + NAMES.encode("utf-16-be"),
        NAMES.encode("utf-32"),
    ],
)
def test_a_file_of_names_is_read_in_the_encoding_of_its_mark(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    assert read_lines(path, "names") == ["train/cat/é.png", "train/Müller/ŷ.png"]
    assert declared_names([], path) == ["cat/é.png", "Müller/ŷ.png"]


@pytest.mark.fault("other encodings, closed streams")
@pytest.mark.parametrize(
    ("content", "says"),
    [
        ("cat.png\nMüller.png".encode("latin-1"), "line 2: the byte 0xfc"),
        ("cat.png".encode("utf-16-le"), "line 1: a byte 0"),
        (codecs.BOM_UTF16_LE + b"a\0b", "line 1: the byte 0x62"),
    ],
)
def test_a_file_of_names_in_an_unknown_encoding_is_one_line_with_the_way_out(content, says, tmp_path: Path) -> None:
    path = tmp_path / "names.txt"
    path.write_bytes(content)
    with pytest.raises(UserError, match=r"^names = .*names\.txt, line .*Save it as UTF-8\.$") as raised:
        declared_names([], path)
    assert says in str(raised.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ('{"a": NaN}', "NaN"),
        ('{"a": [-Infinity]}', "-Infinity"),
        ('{"a": 1e999}', "1e999"),
        ('{"a": {"b": 1, "b": 2}}', "the key 'b' twice"),
        ('{"a": %s}' % ("1" * 5000), "an integer of 5,000 digits"),
        ('{"a": "\\ud800"}', "surrogate"),
        ('{"a": %s}' % ("[" * 900 + "]" * 900), "100 deep"),
        ('{"a": %s}' % ("[" * 100_000 + "]" * 100_000), "100 deep"),
        ("{1: 2}", "property name"),
        ('{"a": 1} x', "Extra data"),
        ("", "Expecting value"),
    ],
)
def test_json_that_programs_read_in_different_ways_is_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        load_json(text)


@pytest.mark.parametrize("value", [float("nan"), "\ud800", 10**30, object(), {"a": float("inf")}])
def test_arguments_that_no_json_file_can_hold_are_refused_before_a_key_is_taken(value: object) -> None:
    with pytest.raises(UserError, match=r"model\.kwargs = .*expected values that a JSON file can hold, and not"):
        ModelConfig(kwargs={"a": value})


def test_arguments_stay_as_they_were_given() -> None:
    assert ModelConfig(kwargs={"widths": (8, 8)}).kwargs == {"widths": (8, 8)}
    assert json.loads(ModelConfig(kwargs={"at": Path("x")}).model_dump_json())["kwargs"] == {"at": "x"}


@pytest.mark.fault("other encodings, closed streams")
@pytest.mark.parametrize(
    "make",
    [
        lambda text: DataConfig(name=f"imagefolder:{text}"),
        lambda text: TeacherConfig(data={"name": f"imagefolder:{text}"}),
        lambda text: ImportFlags(teacher=text),
        lambda text: ImportFlags(classes=("cat", text)),
    ],
)
def test_an_argument_that_is_no_text_is_refused_before_anything_is_made(make: Callable[[str], object]) -> None:
    make("Müller")
    with pytest.raises(UserError, match="PYTHONUTF8=1"):
        make("M\udcfcller")  # as Python decodes Latin-1 in a terminal of UTF-8
