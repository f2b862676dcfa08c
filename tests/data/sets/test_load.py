import gzip
import hashlib
import pickle
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from torchvision import datasets as torchvision_datasets

from distill.config import DataConfig
from distill.data.sets import sources
from distill.data.sets.load import _load, load
from distill.data.sets.noise import noisy_labels
from distill.errors import UserError
from tests.data.sets.test_idx import idx_bytes


@pytest.fixture(autouse=True)
def _fresh(monkeypatch):
    """No memory of other tests, and no network."""
    _load.cache_clear()

    def offline(*args):
        raise sources.Unavailable("offline")

    monkeypatch.setattr(sources, "_download", offline)
    monkeypatch.setattr(sources, "_debian_package", offline)


def test_digits(tmp_path):
    data = load(DataConfig(), tmp_path)
    assert data.shape == (1, 8, 8)
    assert data.num_classes == 10
    assert len(data.train) + len(data.held_out) + len(data.test) == 1797
    assert abs(len(data.test) - 0.2 * 1797) <= 5
    assert int(data.train.images.max()) == 255
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("held_out", [0.0, 0.2])
def test_positions_lead_back_to_the_published_order(tmp_path, held_out):
    whole, part = (load(DataConfig(held_out=share), tmp_path) for share in (0.0, held_out))
    assert torch.equal(whole.positions, torch.arange(len(whole.train)))
    assert torch.equal(whole.train.images[part.positions], part.train.images)
    assert torch.equal(whole.train.labels[part.positions], part.train.labels)


def test_mean_and_std_are_those_of_the_training_split(tmp_path):
    data = load(DataConfig(), tmp_path)
    pixels = data.train.images.double() / 255
    assert data.mean == pytest.approx((float(pixels.mean()),), abs=1e-12)
    assert data.std == pytest.approx((float(pixels.std(correction=0)),), abs=1e-12)


def test_the_test_set_does_not_depend_on_the_held_out_split(tmp_path):
    one, other = (
        load(DataConfig(held_out=share, split_seed=seed), tmp_path) for share, seed in ((0.1, 0), (0.3, 5))
    )
    assert torch.equal(one.test.images, other.test.images)
    assert one.fingerprint != other.fingerprint
    assert len(load(DataConfig(held_out=0), tmp_path).held_out) == 0


def test_loads_once_per_process_whatever_the_progress_bar(tmp_path):
    assert load(DataConfig(), tmp_path) is load(DataConfig(), tmp_path, progress=False)
    first = load(DataConfig(), tmp_path)
    _load.cache_clear()
    assert load(DataConfig(), tmp_path).fingerprint == first.fingerprint


def write_mnist(folder: Path, pack, suffix: str) -> dict[str, torch.Tensor]:
    folder.mkdir(parents=True)
    written = {}
    for part, count in (("train", 50), ("t10k", 20)):
        images = torch.randint(0, 256, (count, 28, 28), dtype=torch.uint8)
        labels = (torch.arange(count) % 10).to(torch.uint8)
        for kind, array in (("images-idx3", images), ("labels-idx1", labels)):
            (folder / f"{part}-{kind}-ubyte{suffix}").write_bytes(pack(idx_bytes(array)))
        written[part] = images
    return written


@pytest.mark.parametrize(("name", "folder"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
@pytest.mark.parametrize(("pack", "suffix"), [(bytes, ""), (gzip.compress, ".gz")])
def test_mnist_files_at_hand(tmp_path, name, folder, pack, suffix):
    written = write_mnist(tmp_path / folder, pack, suffix)
    data = load(DataConfig(name=name, held_out=0.2), tmp_path)
    assert (len(data.train), len(data.held_out), len(data.test)) == (40, 10, 20)
    assert torch.equal(data.test.images[:, 0], written["t10k"])
    assert data.num_classes == 10


def test_labels_that_do_not_fit_are_refused(tmp_path):
    write_mnist(tmp_path / "MNIST/raw", bytes, "")
    path = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(torch.zeros(49, dtype=torch.uint8)))
    with pytest.raises(UserError, match="one label for each of the 50 images"):
        load(DataConfig(name="mnist"), tmp_path)
    path.write_bytes(idx_bytes(torch.full((50,), 10, dtype=torch.uint8)))
    with pytest.raises(UserError, match="labels 0 to 9, not 10"):
        load(DataConfig(name="mnist"), tmp_path)


def test_missing_files_list_the_ways_out(tmp_path):
    with pytest.raises(UserError, match=r"offline.*MNIST/raw.*DISTILL_DATA.*digits"):
        load(DataConfig(name="mnist"), tmp_path)


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


@pytest.mark.parametrize("name", ["imagenet", "", "imagefolder", "imagefolder:"])
def test_an_unknown_name_lists_the_known_ones(tmp_path, name):
    with pytest.raises(UserError, match=r"digits, fashion-mnist.*imagefolder:PATH or package\.module:function"):
        load(DataConfig(name=name), tmp_path)


def test_arguments_of_a_set_that_takes_none_are_refused(tmp_path):
    with pytest.raises(UserError, match=r"data\.kwargs"):
        load(DataConfig(kwargs={"size": 8}), tmp_path)


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
"""


@pytest.fixture
def plugin(tmp_path, monkeypatch):
    (tmp_path / "my_sets.py").write_text(PLUGIN)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr(sys, "path", list(sys.path))
    yield "my_sets"
    sys.modules.pop("my_sets", None)


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
        ("four_values", "It returned 4 values"),
        ("missing", "It has: "),
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


def test_a_limit_draws_from_what_is_left_to_train_on(tmp_path: Path) -> None:
    whole = load(DataConfig(name="digits", held_out=0.2), tmp_path)
    part = load(DataConfig(name="digits", held_out=0.2, limit=300), tmp_path)
    assert abs(len(part.train) - 300) <= 5
    assert set(part.positions.tolist()) < set(whole.positions.tolist())
    counts = part.train.labels.bincount()
    assert int(counts.max() - counts.min()) <= 2, "stratified"
    for split in ("held_out", "test"):
        assert torch.equal(getattr(part, split).images, getattr(whole, split).images)
    rows = torch.isin(whole.positions, part.positions)
    assert torch.equal(whole.train.images[rows], part.train.images)
    all_of_them = load(DataConfig(name="digits", held_out=0.2, limit=len(whole.train)), tmp_path)
    assert torch.equal(all_of_them.positions, whole.positions)
    with pytest.raises(UserError, match=r"data\.limit"):
        load(DataConfig(name="digits", held_out=0.2, limit=2000), tmp_path)


NOISY = DataConfig(held_out=0.2, label_noise=0.4)


def test_wrong_labels_are_those_of_training_and_held_out_images_only(tmp_path: Path) -> None:
    clean, noisy = (load(config, tmp_path) for config in (DataConfig(held_out=0.2), NOISY))
    for split in ("train", "held_out", "test"):
        assert torch.equal(getattr(noisy, split).images, getattr(clean, split).images)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    index = {"train": clean.positions, "held_out": torch.arange(len(clean.held_out))}
    for counter, (split, rows) in enumerate(index.items()):
        labels = getattr(clean, split).labels
        expected = noisy_labels(labels, rows, 0.4, "symmetric", 10, seed=0, counter=counter)
        assert torch.equal(getattr(noisy, split).labels, expected)
        assert 0.3 < float((expected != labels).double().mean()) < 0.5
    assert (noisy.mean, noisy.std, noisy.classes) == (clean.mean, clean.std, clean.classes)
    assert torch.equal(load(DataConfig(held_out=0.2), tmp_path).train.labels, clean.train.labels), "left alone"


def test_an_image_keeps_its_label_whatever_the_limit(tmp_path: Path) -> None:
    whole, part = (load(NOISY.replace(limit=limit), tmp_path) for limit in (None, 300))
    rows = torch.isin(whole.positions, part.positions)
    assert torch.equal(whole.train.labels[rows], part.train.labels)
    assert torch.equal(whole.held_out.labels, part.held_out.labels)


def test_other_labels_are_another_data_set(tmp_path: Path) -> None:
    same = NOISY.replace(), NOISY.replace(limit=None)
    others = (
        NOISY.replace(label_noise=0.0),
        NOISY.replace(label_noise=0.2),
        NOISY.replace(noise="pair"),
        NOISY.replace(noise_seed=1),
        NOISY.replace(split_seed=1),
    )
    prints = [load(config, tmp_path).fingerprint for config in (NOISY, *others)]
    assert len(set(prints)) == len(prints)
    assert {load(config, tmp_path).fingerprint for config in same} == {prints[0]}
    assert load(DataConfig(noise="pair", noise_seed=3), tmp_path) is load(DataConfig(), tmp_path), "nothing wrong"


def test_data_whose_labels_cannot_be_wrong_are_refused(tmp_path: Path, plugin: str) -> None:
    (tmp_path / "my_sets.py").write_text(PLUGIN + ONE_CLASS)
    for function, expected in {
        "per_position": "0 for .*a label per position",
        "one_class": "0 with one class",
    }.items():
        config = DataConfig(name=f"{plugin}:{function}", label_noise=0.4)
        with pytest.raises(
            UserError, match=rf"^data\.label_noise = 0\.4.*{expected}.*Drop --data\.label-noise"
        ) as raised:
            load(config, tmp_path)
        assert "\n" not in str(raised.value)
        assert len(load(config.replace(label_noise=0.0), tmp_path).train)


ONE_CLASS = """
def one_class():
    return images(), torch.zeros(12, dtype=torch.int64), images(6), torch.zeros(6, dtype=torch.int64), ["a"]
"""


def test_all_labels_of_two_classes_can_be_wrong(tmp_path: Path, plugin: str) -> None:
    (tmp_path / "my_sets.py").write_text(PLUGIN + TWO_CLASSES)
    config = DataConfig(name=f"{plugin}:two_classes", held_out=0.25)
    clean, noisy = load(config, tmp_path), load(config.replace(label_noise=1.0), tmp_path)
    assert torch.equal(noisy.train.labels, 1 - clean.train.labels)
    assert torch.equal(noisy.held_out.labels, 1 - clean.held_out.labels)


TWO_CLASSES = """
def two_classes():
    return images(), torch.arange(12) % 2, images(6), torch.arange(6) % 2, ["a", "b"]
"""


def test_without_held_out_images_there_are_no_labels_to_be_wrong(tmp_path: Path) -> None:
    data = load(NOISY.replace(held_out=0.0), tmp_path)
    assert len(data.held_out.labels) == 0
    assert len(data.train) == len(data.positions)


def test_labels_of_an_image_folder_can_be_wrong(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "cow", "dog")):
        for part, count in (("train", 20), ("test", 4)):
            folder = tmp_path / "pets" / part / name
            folder.mkdir(parents=True)
            for i in range(count):
                Image.fromarray(np.full((4, 4, 3), 20 * number + i, np.uint8)).save(folder / f"{i:02}.png")
    config = DataConfig(name=f"imagefolder:{tmp_path / 'pets'}", held_out=0.2)
    clean = load(config, tmp_path / "root", progress=False)
    noisy = load(config.replace(label_noise=1.0, noise="pair"), tmp_path / "root", progress=False)
    for split in ("train", "held_out"):
        assert torch.equal(getattr(noisy, split).labels, (getattr(clean, split).labels + 1) % 3)
    assert torch.equal(noisy.test.labels, clean.test.labels)
    part = load(config.replace(label_noise=0.5, limit=24), tmp_path / "root", progress=False)
    whole = load(config.replace(label_noise=0.5), tmp_path / "root", progress=False)
    assert torch.equal(whole.train.labels[torch.isin(whole.positions, part.positions)], part.train.labels)
