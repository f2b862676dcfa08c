"""The probe of every measure: which images, which answers, the temperature, the matrix, and what it refuses."""

from __future__ import annotations

import math

import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from distill.config import DataConfig, KnowledgeProbe, ModelConfig, ScheduleConfig
from distill.data.normaliser import Normaliser
from distill.data.sets.dataset import Split
from distill.data.sets.load import load
from distill.errors import UserError
from distill.metrics.dark_knowledge import class_similarity
from distill.metrics.measures import compute, defined, of_kind
from distill.probes import knowledge, probe
from distill.training.network import load_network
from tests.data import copies

ALL = KnowledgeProbe()
NAMES = {each.name for each in of_kind("knowledge", "features")}


def by_hand(network, split, dataset, temperature=1.0):
    """Every measure, from the network called on images normalised one split at a time."""
    model, normalise = load_network(network), Normaliser(dataset.mean, dataset.std)
    with torch.no_grad():
        images = normalise(split.images)
        logits, features = model(images), model.body(images)
    weight = model.head.weight.detach()
    given = {"logits": logits, "labels": split.labels, "features": features, "weight": weight}
    return defined(compute(of_kind("knowledge", "features"), temperature=temperature, **given)), logits


@pytest.mark.parametrize("temperature", [1.0, 4.0])
def test_of_a_teacher_and_of_a_student(teacher, student, make, runtime, tmp_path, temperature):
    for config in (teacher, student):
        network, dataset = make(config), load(config.data, runtime.data_root)
        found = probe(KnowledgeProbe(temperature=temperature), network, runtime, tmp_path)
        assert {name.removesuffix("_held_out").removesuffix("_train") for name in found.values} == NAMES
        for name, split in {"train": dataset.train, "held_out": dataset.held_out}.items():
            expected, logits = by_hand(network, split, dataset, temperature)
            of_split = {each: found.values.get(f"{each}_{name}") for each in expected}
            assert of_split == pytest.approx(expected, rel=1e-3, abs=1e-6)
            if name == "train":
                similarity = class_similarity(logits, split.labels, temperature)
                assert found.curves == {
                    "class_similarity_train": pytest.approx(similarity.flatten().tolist(), rel=1e-4)
                }


def test_a_temperature_changes_soft_targets_only(teacher, make, runtime, tmp_path):
    network = make(teacher)
    warm, cold = (probe(KnowledgeProbe(temperature=t), network, runtime, tmp_path).values for t in (4.0, 1.0))
    changed = {name for name in cold if warm[name] != pytest.approx(cold[name])}
    soft = (
        "conditional_mutual_information",
        "nontarget_entropy",
        "difficulty",
        "aggregated_variance",
        "wrong_mass",
    )
    assert {f"{name}_train" for name in soft} <= changed
    assert (
        not {"gap_train", "bits_beyond_top1_held_out", "class_separation_train", "logit_deviation_train"} & changed
    )


def test_at_most_so_many_images_spread_over_the_split(teacher, make, runtime):
    found, weight, classes = knowledge.outputs(KnowledgeProbe(images=50), make(teacher), runtime)
    assert (len(found["train"].labels), len(found["held_out"].labels)) == (50, 50)
    assert weight.shape == (10, 16)
    assert classes == load(teacher.data, runtime.data_root).classes
    split = Split(torch.zeros(100, 1, 1, 1, dtype=torch.uint8), torch.arange(100))
    assert knowledge.spread(split, 4).labels.tolist() == [0, 33, 66, 99]
    assert knowledge.spread(split, 100) is split
    assert knowledge.spread(split, 10**9) is split


def test_one_network_can_be_shown_another_ones_images(teacher, make, runtime):
    """Normalised as in its own training."""
    other = load(DataConfig(held_out=0.5), runtime.data_root)
    network = make(teacher)
    found, _, _ = knowledge.outputs(ALL, network, runtime, other)
    own = load(teacher.data, runtime.data_root)
    with torch.no_grad():
        expected = load_network(network)(Normaliser(own.mean, own.std)(other.held_out.images))
    torch.testing.assert_close(found["held_out"].logits, expected, rtol=1e-4, atol=1e-4)


def test_nothing_held_out_gives_nothing_held_out(teacher, make, runtime, tmp_path):
    found = probe(ALL, make(teacher.replace(data=DataConfig(held_out=0))), runtime, tmp_path)
    assert found.values
    assert all(name.endswith("_train") for name in found.values)


def spots(classes=2, empty=None):
    """Images of one brightness per class, none of class `empty`."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.arange(120) % classes
    labels = labels[labels != empty] if empty is not None else labels
    noise = torch.randint(0, 60, (len(labels), 1, 4, 4), generator=generator)
    images = (noise + labels.view(-1, 1, 1, 1) * (190 // classes)).to(torch.uint8)
    return images, labels, images, labels, [f"c{cls}" for cls in range(classes)]


@pytest.mark.parametrize("kwargs", [{"classes": 2}, {"classes": 4, "empty": 2}], ids=["two classes", "no sample"])
def test_what_is_not_defined_is_left_out(teacher, make, runtime, tmp_path, kwargs):
    data = DataConfig(name=spots, kwargs=kwargs, held_out=0.3)
    network = make(teacher.replace(data=data, schedule=ScheduleConfig(epochs=30, batch_size=16)))
    found = probe(ALL, network, runtime, tmp_path)
    assert all(map(math.isfinite, found.values.values()))
    assert {"nontarget_entropy_train", "class_separation_train", "difficulty_held_out"} <= found.values.keys()
    rows = torch.tensor(found.curves["class_similarity_train"]).view(kwargs["classes"], -1)
    expected = [float(cls != kwargs.get("empty")) for cls in range(kwargs["classes"])]
    assert rows.sum(1).tolist() == pytest.approx(expected)
    assert not rows.diagonal().any()


def test_a_student_that_never_saw_classes(student, make, runtime, tmp_path):
    found = probe(ALL, make(student.replace(exclude_classes=tuple(range(8)))), runtime, tmp_path)
    assert all(map(math.isfinite, found.values.values()))
    assert "difficulty_train" in found.values


def test_the_matrix_is_a_picture_in_tensorboard(teacher, make, runtime, tmp_path, monkeypatch):
    network = make(teacher)
    probe(ALL, network, runtime, tmp_path)
    (folder,) = tmp_path.glob(network.path.name)
    log = EventAccumulator(str(folder)).Reload()
    (picture,) = log.Images("class_similarity")
    assert picture.width > 300
    monkeypatch.setattr(knowledge, "CLASSES_SHOWN", 9)
    found = probe(ALL, network, runtime, tmp_path / "many")
    assert not found.curves
    assert not (tmp_path / "many").exists()


def test_a_picture_of_the_similarity_has_no_diagonal_and_names_where_there_is_room():
    few = knowledge.similarity_figure(torch.full((3, 3), 0.5), ("cat", "dog", "ship"))
    shown = few.axes[0].images[0].get_array()
    assert shown.mask.tolist() == torch.eye(3).bool().tolist()
    assert shown[0, 1] == 0.5
    assert [text.get_text() for text in few.axes[0].get_yticklabels()] == ["cat", "dog", "ship"]
    many = knowledge.similarity_figure(torch.full((40, 40), 0.5), tuple(f"class {cls}" for cls in range(40)))
    assert "class 3" not in [text.get_text() for text in many.axes[0].get_yticklabels()]


def test_refusals(teacher, make, runtime, tmp_path, monkeypatch):
    tokens = teacher.replace(data=copies.DATA, model=copies.MODEL)
    with pytest.raises(UserError, match="images with one label each"):
        probe(ALL, make(tokens), runtime, tmp_path)
    with pytest.raises(UserError, match=r"output of a torch\.nn\.Linear"):
        probe(ALL, make(teacher.replace(model=ModelConfig(name=pooled))), runtime, tmp_path)
    network = make(teacher)
    monkeypatch.setitem(network.record.data, "fingerprint", "other")
    with pytest.raises(UserError, match="the images that digits-mlp16"):
        probe(ALL, network, runtime, tmp_path)
    assert not list(tmp_path.glob("*mlp16*"))


def pooled(num_classes, in_shape):
    """A classifier that ends in a convolution."""
    layers = nn.Conv2d(in_shape[0], num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten()
    return nn.Sequential(*layers)
