"""What tests of data sets share: a process without memory and network, and a user's module of data sets."""

import sys

import pytest

from distill.data.sets import fetch
from distill.data.sets.at_hand import Unavailable
from distill.system import trust
from tests.memory import forget_data_sets, forget_names

PLUGIN = """
import torch

def images(n=12, dtype="uint8", size=4):
    return torch.zeros(n, 3, size, size, dtype=getattr(torch, dtype))

def good(n=12):
    return images(n), torch.arange(n) % 3, images(6), torch.arange(6) % 3, ["a", "b", "c"]

def float_images():
    return images(12, "float32"), torch.arange(12) % 3, images(6), torch.arange(6) % 3, ["a", "b", "c"]

def too_many_labels():
    return images(), torch.arange(11), images(6), torch.arange(6) % 3, ["a", "b", "c"]

def label_out_of_range():
    return images(), torch.arange(12), images(6), torch.arange(6) % 3, ["a", "b", "c"]

def two_shapes():
    return images(), torch.arange(12) % 3, images(6, size=5), torch.arange(6) % 3, ["a", "b", "c"]

def no_utf8():
    names = ["a", "b", "caf\\udce9"]
    return images(), torch.arange(12) % 3, images(6), torch.arange(6) % 3, names

def number_of_classes():
    return images(), torch.arange(12) % 3, images(6), torch.arange(6) % 3, 3

def per_position(first=(0, 2, -100), second=(1, 2, -100), n=12):
    labels = torch.tensor([first] * (n - 1) + [second])
    return images(n), labels, images(6), labels[:6], ["a", "b", "c"]

def negative_position():
    return per_position(second=(1, 2, -1))

def position_out_of_range():
    return per_position(second=(1, 3, -100))

def nothing_counts():
    return per_position(second=(-100, -100, -100))

def two_lengths():
    short = torch.arange(12).view(6, 2) % 3
    return *per_position()[:2], images(6), short, ["a", "b", "c"]

def no_positions():
    return images(), torch.zeros(12, 0, dtype=torch.int64), images(6), torch.arange(6) % 3, ["a", "b", "c"]

def one_ignored_label():
    return images(), torch.arange(12) % 3 - 100, images(6), torch.arange(6) % 3, ["a", "b", "c"]

def four_values():
    return images(), torch.arange(12) % 3, images(6), torch.arange(6) % 3

def fails():
    return {}["a"]

def one_class():
    return images(), torch.zeros(12, dtype=torch.int64), images(6), torch.zeros(6, dtype=torch.int64), ["a"]

def two_classes():
    return images(), torch.arange(12) % 2, images(6), torch.arange(6) % 2, ["a", "b"]
"""


@pytest.fixture
def fresh(monkeypatch):
    """No memory of other tests, and no network."""
    forget_data_sets()

    def offline(*args):
        raise Unavailable("offline")

    monkeypatch.setattr(fetch, "download", offline)
    monkeypatch.setattr(fetch, "unpack_package", offline)


@pytest.fixture
def plugin(tmp_path, monkeypatch, fresh):
    (tmp_path / "my_sets.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    forget_names(monkeypatch)
    trust.trust_everything()
    yield "my_sets"
    sys.modules.pop("my_sets", None)
