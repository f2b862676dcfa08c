"""Outputs of a network find the classes of a data set, or one line says why not."""

from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import UserError
from distill.pipeline.adopted_classes import GivenClasses

KNOWN = [["tench", "shark", "ray", "hen"], ["n1", "n2", "n3", "n4"]]


@pytest.mark.parametrize(
    ("classes", "columns"),
    [
        (["n3", "n1"], (2, 0)),
        (["hen", "tench"], (3, 0)),
        (["n1", "n2", "n3", "n4"], ()),
        (["a", "b", "c", "d"], ()),
    ],
)
def test_without_a_list_the_names_of_the_library_decide(classes: list[str], columns: tuple[int, ...]) -> None:
    assert GivenClasses(()).columns(4, classes, KNOWN) == columns


def test_as_many_classes_in_another_order_are_put_in_order() -> None:
    assert GivenClasses(("d", "c", "b", "a")).columns(4, ["a", "b", "c", "d"], []) == (3, 2, 1, 0)
    assert GivenClasses(()).columns(4, ["n4", "n3", "n2", "n1"], KNOWN) == (3, 2, 1, 0)


def test_a_name_that_two_outputs_have_needs_a_number(tmp_path: Path) -> None:
    (tmp_path / "c.json").write_text('{"a": "crane"}')
    with pytest.raises(UserError, match="two outputs"):
        GivenClasses((str(tmp_path / "c.json"),)).columns(3, ["a"], [["crane", "hen", "crane"]])


@pytest.mark.parametrize(
    ("text", "suffix", "told"),
    [
        ("a\nb\na\n", "txt", "each name once"),
        ("a\nb\n", "txt", "one for each of the 4 outputs"),
        ("a\nc\nd\ne\n", "txt", "a name among the outputs"),
        ('{"a": 4, "b": 1}', "json", "a number from 0 to 3"),
        ('{"a": true, "b": 1}', "json", "the number or the name of its output"),
        ('{"a": 1}', "json", "the number or the name of its output"),
        ('{"a": 1, "b": "cat"}', "json", "the name of an output"),
        ("[]", "json", "a JSON object"),
        ('{"a": 0, "b": 0}', "json", "of its own"),
        ('{"a": 0, "a": 1}', "json", "twice"),
    ],
)
def test_wrong_lists_are_refused_in_one_line(text: str, suffix: str, told: str, tmp_path: Path) -> None:
    (tmp_path / f"c.{suffix}").write_text(text)
    with pytest.raises(UserError, match=told) as error:
        GivenClasses((str(tmp_path / f"c.{suffix}"),)).columns(4, ["a", "b"], KNOWN)
    assert "\n" not in str(error.value)


def test_other_classes_without_names_are_refused() -> None:
    with pytest.raises(UserError, match="4 outputs without names"):
        GivenClasses(()).columns(4, ["a", "b"], [])
