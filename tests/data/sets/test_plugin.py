"""Data sets of a user's own function, and what is refused of what it returns."""

import pytest

from distill.config import DataConfig
from distill.data.sets.load import load
from distill.errors import UserError


def test_plugin(tmp_path, plugin):
    data = load(DataConfig(name=f"{plugin}:good", kwargs={"n": 30}, held_out=0.1), tmp_path)
    assert (len(data.train), len(data.held_out), len(data.test)) == (27, 3, 6)
    assert data.classes == ("a", "b", "c")
    assert data.std == (1.0, 1.0, 1.0)


@pytest.mark.parametrize(
    ("function", "message"),
    [
        ("float_images", r"uint8 tensor.*float32 \[12, 3, 4, 4\]"),
        ("too_many_labels", r"integer tensor \[12\].*int64 \[11\]"),
        ("label_out_of_range", r"numbers 0 to 2, for 3 class names.*0 to 11"),
        ("two_shapes", "images of one shape"),
        ("number_of_classes", "class_names as a tuple"),
        ("negative_position", r"numbers 0 to 2, for 3 class names, or -100\. .*-1 to 2"),
        ("position_out_of_range", r"numbers 0 to 2, for 3 class names, or -100\. .*0 to 3"),
        ("nothing_counts", r"a label in each row that is not -100\. .*only -100 in row 11"),
        ("two_lengths", r"labels of one shape\. .*train \[12, 3\], test \[6, 2\]"),
        ("no_positions", r"integer tensor \[12\], or \[12, positions\]\. .*int64 \[12, 0\]"),
        ("one_ignored_label", r"numbers 0 to 2, for 3 class names\. .*-100 to -98"),
        ("no_utf8", r"class names in UTF-8.*caf\\+udce9"),
        ("four_values", "It returned 4 values"),
        ("missing", "It has: "),
        ("fails", r"It failed: KeyError: .* \(.*my_sets\.py, line \d+\)\."),
    ],
)
def test_what_a_plugin_returns_is_checked(tmp_path, plugin, function, message):
    with pytest.raises(UserError, match=message):
        load(DataConfig(name=f"{plugin}:{function}"), tmp_path)


def test_a_plugin_with_a_label_per_position(tmp_path, plugin):
    data = load(DataConfig(name=f"{plugin}:per_position", held_out=0.25), tmp_path)
    assert (len(data.train), len(data.held_out), len(data.test)) == (9, 3, 6)
    assert data.train.labels.shape == (9, 3)
    assert data.label_shape == (3,)
    assert (data.mean, data.std) == ((0.0,) * 3, (1 / 255,) * 3)
    other = load(
        DataConfig(name=f"{plugin}:per_position", kwargs={"second": [1, 1, -100]}, held_out=0.25), tmp_path
    )
    assert data.fingerprint != other.fingerprint


def test_arguments_of_a_plugin_are_checked(tmp_path, plugin):
    with pytest.raises(UserError, match="size"):
        load(DataConfig(name=f"{plugin}:good", kwargs={"size": 3}), tmp_path)
