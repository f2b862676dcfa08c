"""CIFAR's files, which are pickles: read where their checksums are torchvision's, and never opened elsewhere."""

import hashlib
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from torchvision import datasets as torchvision_datasets

from distill.config import DataConfig
from distill.data.sets.load import load
from distill.errors import UserError

pytestmark = pytest.mark.usefixtures("fresh")


def write_cifar100(root: Path, monkeypatch) -> np.ndarray:
    """Three small files in CIFAR-100's format, whose checksums take the place of torchvision's."""
    folder = root / "cifar-100-python"
    folder.mkdir()
    pixels = np.random.default_rng(0).integers(0, 256, (30, 3 * 32 * 32), dtype=np.uint8)
    labels = [i % 3 for i in range(30)]
    contents = {
        "train": {"data": pixels[:20], "fine_labels": labels[:20]},
        "test": {"data": pixels[20:], "fine_labels": labels[20:]},
        "meta": {"fine_label_names": ["apple", "bear", "crab"]},
    }
    md5 = {}
    for name, content in contents.items():
        (folder / name).write_bytes(pickle.dumps(content))
        md5[name] = hashlib.md5((folder / name).read_bytes()).hexdigest()
    source = torchvision_datasets.CIFAR100
    monkeypatch.setattr(source, "train_list", [["train", md5["train"]]])
    monkeypatch.setattr(source, "test_list", [["test", md5["test"]]])
    monkeypatch.setattr(source, "meta", {**source.meta, "md5": md5["meta"]})
    return pixels


def test_cifar_files_at_hand(tmp_path, monkeypatch):
    pixels = write_cifar100(tmp_path, monkeypatch)
    data = load(DataConfig(name="cifar100", held_out=0), tmp_path)
    assert data.classes == ("apple", "bear", "crab")
    assert torch.equal(data.train.images, torch.from_numpy(pixels[:20]).view(-1, 3, 32, 32))
    assert torch.equal(data.test.labels, torch.arange(20, 30) % 3)


def test_a_changed_cifar_file_is_named_and_never_opened(tmp_path, monkeypatch):
    write_cifar100(tmp_path, monkeypatch)
    path = tmp_path / "cifar-100-python" / "train"
    path.write_bytes(path.read_bytes()[:1000])
    monkeypatch.setattr(pickle, "load", lambda *args, **kwargs: pytest.fail("opened"))
    with pytest.raises(UserError, match=r"train \(1,000 bytes\).*md5"):
        load(DataConfig(name="cifar100"), tmp_path)
