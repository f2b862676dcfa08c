"""Files in torchvision's MNIST layout, raw or gzipped: the experiment on MNIST runs on them as they are."""

from __future__ import annotations

import gzip
import tracemalloc

import pytest
import torch
from torchvision import datasets as torchvision_datasets

from distill.config import DataConfig, ModelConfig, ScheduleConfig, StudentConfig
from distill.data.sets import fetch, mnist
from distill.data.sets.load import load
from distill.data.sets.mnist import read_idx
from distill.errors import UserError
from distill.pipeline.graph import ensure
from distill.reports.experiment import Label
from distill.store.key import key
from distill.store.store import ArtifactStore
from distill.system.runtime import Runtime
from distill.training.network import load_predictions
from experiments import mnist_distillation
from tests.data.sets.mnist_files import idx_bytes, write_mnist
from tests.memory import forget_data_sets

FORMS = [(bytes, ""), (gzip.compress, ".gz")]


@pytest.fixture(autouse=True)
def _at_hand_alone(monkeypatch):
    """No memory of other tests, and nothing is fetched."""
    forget_data_sets()
    monkeypatch.setattr(fetch, "download", lambda *_: pytest.fail("files at hand are not fetched"))


@pytest.mark.parametrize(("name", "place"), [("mnist", "MNIST/raw"), ("fashion-mnist", "FashionMNIST/raw")])
@pytest.mark.parametrize(("pack", "suffix"), FORMS)
def test_rows_are_those_of_the_files(tmp_path, pack, suffix, name, place):
    written = write_mnist(tmp_path, pack, suffix, place=place)
    data = load(DataConfig(name=name, held_out=0), tmp_path)
    assert data.num_classes == 10
    assert data.classes == tuple(getattr(torchvision_datasets, place.split("/")[0]).classes)
    assert (len(data.train), len(data.held_out), len(data.test)) == (600, 0, 100)
    assert torch.equal(data.train.images[:, 0], written["train-images"])
    assert torch.equal(data.train.labels, written["train-labels"].long())
    assert torch.equal(data.test.images[:, 0], written["t10k-images"])
    assert torch.equal(data.test.labels, written["t10k-labels"].long())


@pytest.mark.fault("hostile archives, weights, arrays and records")
def test_labels_that_do_not_fit_are_refused(tmp_path):
    write_mnist(tmp_path, bytes, "", train=50, test=20)
    path = tmp_path / "MNIST/raw/train-labels-idx1-ubyte"
    path.write_bytes(idx_bytes(torch.zeros(49, dtype=torch.uint8)))
    with pytest.raises(UserError, match="one label for each of the 50 images"):
        load(DataConfig(name="mnist"), tmp_path)
    path.write_bytes(idx_bytes(torch.full((50,), 10, dtype=torch.uint8)))
    with pytest.raises(UserError, match="labels 0 to 9, not 10"):
        load(DataConfig(name="mnist"), tmp_path)


def test_the_layout_is_torchvisions(tmp_path):
    """torchvision itself reads the same pixels from the same place."""
    written = write_mnist(tmp_path, bytes, "")
    theirs = torchvision_datasets.MNIST(str(tmp_path), train=False, download=False)
    assert torch.equal(theirs.data, written["t10k-images"])
    assert torch.equal(theirs.data, load(DataConfig(name="mnist"), tmp_path).test.images[:, 0])


def test_raw_and_gzipped_files_are_one_data_set(tmp_path):
    fingerprints = []
    for pack, suffix in FORMS:
        write_mnist(tmp_path / f"root{suffix}", pack, suffix)
        fingerprints.append(load(DataConfig(name="mnist", held_out=0), tmp_path / f"root{suffix}").fingerprint)
    assert fingerprints[0] == fingerprints[1]


@pytest.mark.parametrize(("pack", "suffix"), FORMS)
def test_the_experiment_runs_on_them_without_a_held_out_split(runtime: Runtime, pack, suffix):
    write_mnist(runtime.data_root, pack, suffix)
    student = mnist_distillation.runs("paper", "mnist")[Label(mnist_distillation.OF_SMOOTHED, 0)]
    assert isinstance(student, StudentConfig)
    assert student.cache is not None
    (teacher,) = student.cache.teachers
    assert student.data == teacher.data == DataConfig(name="mnist", held_out=0)
    brief = {
        "model": ModelConfig(kwargs={**teacher.model.kwargs, "widths": [64, 64]}),
        "schedule": ScheduleConfig(name="linear", epochs=4, batch_size=50),
    }
    teacher = teacher.replace(**brief)
    student = student.replace(**brief, cache=student.cache.replace(teacher=teacher))
    in_process = runtime.model_copy(update={"jobs": 1})
    made = ensure([teacher, student], ArtifactStore(runtime.store), in_process)
    for config in (teacher, student):
        network = made[key(config)]
        assert not isinstance(network, str)
        logits, labels = load_predictions(network, "held_out")
        assert (tuple(logits.shape), len(labels)) == ((0, 10), 0)
        assert not [name for name in network.record.metrics if name.startswith("held_out")]
        assert network.record.metrics["test/accuracy"] > 0.5


@pytest.mark.parametrize("pack", [bytes, gzip.compress])
@pytest.mark.parametrize("shape", [(5,), (2, 3, 4)])
def test_reads_raw_and_gzip(tmp_path, pack, shape):
    array = torch.randint(0, 256, shape, dtype=torch.uint8)
    (tmp_path / "file").write_bytes(pack(idx_bytes(array)))
    assert torch.equal(read_idx(tmp_path / "file"), array)


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize("pack", [bytes, gzip.compress])
def test_a_truncated_file_is_named_with_its_size(tmp_path, pack):
    data = pack(idx_bytes(torch.randint(0, 256, (100, 28, 28), dtype=torch.uint8)))
    path = tmp_path / "train-images-idx3-ubyte"
    path.write_bytes(data[:50_000])
    with pytest.raises(UserError, match=r"train-images-idx3-ubyte \(50,000 bytes\).*78,416 bytes"):
        read_idx(path)


@pytest.mark.fault("hostile archives, weights, arrays and records")
@pytest.mark.parametrize(
    "data", [b"", b"<html>not found</html>", b"\x00\x00\x0d\x01\x00\x00\x00\x00", b"\x00\x00\x08\x09"]
)
def test_what_is_not_idx_is_refused(tmp_path, data):
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match="an idx file of unsigned bytes"):
        read_idx(tmp_path / "file")


@pytest.mark.fault("bombs and numbers without an end")
def test_a_bomb_is_refused_before_it_is_unpacked(tmp_path, monkeypatch):
    monkeypatch.setattr(mnist, "FREE_BYTES", 1 << 20)
    data = idx_bytes(torch.zeros(1 << 15, 28, 28, dtype=torch.uint8))
    (tmp_path / "file").write_bytes(packed := gzip.compress(data))
    tracemalloc.start()
    with pytest.raises(UserError, match=r"at most [\d,]+ bytes inside"):
        read_idx(tmp_path / "file")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < len(data) / 4
    assert 200 * len(packed) < len(data)


@pytest.mark.fault("hostile archives, weights, arrays and records")
def test_a_damaged_gzip_is_refused(tmp_path):
    data = bytearray(gzip.compress(idx_bytes(torch.arange(200, dtype=torch.uint8))))
    data[-8:] = bytes(8)
    (tmp_path / "file").write_bytes(data)
    with pytest.raises(UserError, match="an intact gzip file"):
        read_idx(tmp_path / "file")
