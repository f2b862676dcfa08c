"""Where images lie on the plane through three templates, and what the Embedding Projector is given."""

import math

import numpy as np
import pytest
import torch
from google.protobuf import text_format
from PIL import Image
from tensorboard.plugins.projector.projector_config_pb2 import ProjectorConfig
from torch import nn

from distill.config import DataConfig, ModelConfig, PenultimateProbe
from distill.data.normaliser import Normaliser
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics import geometry
from distill.models.last_layer import with_one
from distill.pipeline.graph import ensure
from distill.probes import probe
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.training.network import load_network, load_predictions

ONE = PenultimateProbe(triples=((0, 1, 2),), per_class=12)
MEASURES = ("compactness", "scatter", "imbalance", "irregularity", "class_distance")
SPLITS = ("train", "held_out")


def stripes(shape, n=60, classes=3, missing=None):
    """Images whose brightness tells their class."""
    labels = torch.arange(n) % classes
    generator = torch.Generator().manual_seed(0)
    noise = torch.randint(0, 40, (n, *shape), generator=generator)
    images = (noise + 80 * labels.view(-1, 1, 1, 1)).to(torch.uint8)
    kept = labels != missing if missing is not None else torch.ones(n).bool()
    return images[kept], labels[kept], images, labels, ["dark", "grey", "bright", "none"][: max(classes, 3)]


@pytest.fixture
def trained(teacher, store, runtime):
    def train(data=None) -> Artifact:
        config = teacher.replace(data=data) if data else teacher
        made = ensure([config], store, runtime)[key(config)]
        assert isinstance(made, Artifact)
        return made

    return train


def plugin(held_out=0.3, **kwargs) -> DataConfig:
    return DataConfig(name=stripes, kwargs=kwargs, held_out=held_out)


def test_measures_are_those_of_the_first_images_of_each_class(trained, runtime, tmp_path):
    network = trained()
    found = probe(ONE, network, runtime, tmp_path)
    assert found.values.keys() == {f"{measure}_{split}" for measure in MEASURES for split in SPLITS}
    assert found.curves["plane_classes"] == [0, 1, 2]

    dataset = load(network.config.data, runtime.data_root)
    model, normalise = load_network(network), Normaliser(dataset.mean, dataset.std)
    corners = torch.cat([model.head.weight, model.head.bias[:, None]], 1).detach()[:3]
    plane = geometry.plane_through(corners)
    at = geometry.project(plane, corners)
    assert found.curves["plane_template_x"] == pytest.approx(at[:, 0].tolist())
    assert found.curves["plane_template_y"] == pytest.approx(at[:, 1].tolist(), abs=1e-6)
    for name, split in zip(SPLITS, (dataset.train, dataset.held_out), strict=True):
        rows = [i for cls in range(3) for i in [i for i, label in enumerate(split.labels) if label == cls][:12]]
        with torch.no_grad():
            features = model.body(normalise(split.images[rows]))
        labels = split.labels[rows]
        points = geometry.project(plane, with_one(features))
        for axis in (0, 1):
            drawn = found.curves[f"plane_{name}_{'xy'[axis]}"]
            assert drawn == pytest.approx(points[:, axis].tolist(), rel=1e-4, abs=1e-4)
        assert found.curves[f"plane_{name}_class"] == labels.tolist()
        by_class = geometry.compactness(points, labels).tolist()
        assert found.curves[f"compactness_by_class_{name}"] == pytest.approx(by_class, rel=1e-4)
        assert found.values[f"compactness_{name}"] == pytest.approx(sum(by_class) / 3, rel=1e-4)
        assert found.values[f"scatter_{name}"] == pytest.approx(geometry.scatter_ratio(features, labels), rel=1e-4)
        imbalance = geometry.distance_imbalance(points, at, labels)
        assert found.values[f"imbalance_{name}"] == pytest.approx(imbalance, rel=1e-4)


def test_more_triples_have_names_of_their_own(trained, runtime, tmp_path):
    network = trained()
    two = probe(ONE.replace(triples=((0, 1, 2), (8, 3, 1))), network, runtime, tmp_path / "two")
    alone = probe(ONE, network, runtime, tmp_path / "one")
    assert {name: value for name, value in two.values.items() if not name.endswith("_2")} == alone.values
    assert {name: curve for name, curve in two.curves.items() if not name.endswith("_2")} == alone.curves
    second = probe(ONE.replace(triples=((8, 3, 1),)), network, runtime, tmp_path / "second")
    assert two.curves["plane_classes_2"] == [8, 3, 1]
    assert len(two.values) == 2 * len(alone.values)
    for name, value in second.values.items():
        assert two.values[f"{name}_2"] == pytest.approx(value, rel=1e-4)
    owners = two.curves["plane_train_class_2"]
    assert sorted(set(owners)) == [0, 1, 2]
    assert len(owners) == 36


def test_the_test_split_stands_in_where_nothing_is_held_out(trained, runtime, tmp_path):
    network = trained(DataConfig(held_out=0))
    few = ONE.replace(per_class=10_000)
    found = probe(few, network, runtime, tmp_path)
    _, labels = load_predictions(network, "test")
    assert len(found.curves["plane_held_out_x"]) == int((labels < 3).sum())
    metadata = next(tmp_path.glob("*/00000/penultimate/metadata.tsv")).read_text()
    assert {line.split("\t")[1] for line in metadata.splitlines()[1:]} == {"train", "test"}


@pytest.mark.parametrize(
    ("shape", "side"),
    [((1, 8, 8), 8), ((3, 6, 10), 10), ((1, 12, 5), 12), ((2, 4, 4), 4), ((3, 80, 40), 64)],
    ids=["grey", "wide", "tall", "two channels", "large"],
)
def test_what_the_projector_is_given(shape, side, trained, runtime, tmp_path):
    network = trained(plugin(shape=list(shape)))
    probe(ONE.replace(per_class=5), network, runtime, tmp_path / "tb")
    (folder,) = (tmp_path / "tb").iterdir()
    assert folder.name == network.path.name
    config = text_format.Parse((folder / "projector_config.pbtxt").read_text(), ProjectorConfig())
    (embedding,) = config.embeddings
    assert embedding.tensor_name.startswith("penultimate")
    assert list(embedding.sprite.single_image_dim) == [side, side]

    count = 2 * 3 * 5
    tensors = np.loadtxt(folder / embedding.tensor_path, delimiter="\t")
    assert tensors.shape == (count, 16)
    header, *rows = (folder / embedding.metadata_path).read_text().splitlines()
    assert header == "class\tsplit"
    classes = [name for name in ("dark", "grey", "bright") for _ in range(5)]
    assert rows == [f"{name}\t{split}" for split in ("train", "held-out") for name in classes]

    sheet = np.asarray(Image.open(folder / embedding.sprite.image_path)) / 255
    columns = math.ceil(math.sqrt(count))
    assert sheet.shape == (columns * side, columns * side, 3)
    dataset = load(network.config.data, runtime.data_root)
    last = dataset.held_out.images[dataset.held_out.labels == 2][4].float() / 255
    top, left = divmod(count - 1, columns)
    tile = sheet[top * side : (top + 1) * side, left * side : (left + 1) * side]
    # Padding is black, so the sum of what is shown is that of the image, times how much it was shrunk.
    shrunk = (side / max(shape[1:])) ** 2
    expected = float(last.mean(0).sum()) * shrunk
    assert tile.mean(2).sum() == pytest.approx(expected, rel=0.02)
    assert not sheet[(top + 1) * side :].any()


def test_refusals(trained, runtime, tmp_path, monkeypatch):
    network = trained()
    for triple in ((0, 1, 10), (0, 1, 1)):
        with pytest.raises(UserError, match="three classes of the 10 of digits"):
            probe(ONE.replace(triples=(triple,)), network, runtime, tmp_path)
    monkeypatch.setitem(network.record.data, "fingerprint", "other")
    with pytest.raises(UserError, match="the images that digits-mlp16"):
        probe(ONE, network, runtime, tmp_path)
    empty = trained(plugin(shape=[1, 4, 4], missing=1))
    with pytest.raises(UserError, match="an image of class 'grey'"):
        probe(ONE, empty, runtime, tmp_path)
    assert not list(tmp_path.glob("*/00000"))


def test_a_network_without_a_linear_head_is_refused(teacher, store, runtime, tmp_path):
    config = teacher.replace(model=ModelConfig(name=pooled))
    made = ensure([config], store, runtime)[key(config)]
    assert isinstance(made, Artifact)
    with pytest.raises(UserError, match=r"output of a torch\.nn\.Linear"):
        probe(ONE, made, runtime, tmp_path)


def pooled(num_classes, in_shape):
    """A classifier that ends in a convolution."""
    layers = nn.Conv2d(in_shape[0], num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)
