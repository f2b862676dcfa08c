"""A training that begins with the weights of another network has them, but for the layer of other classes."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from distill.config import (
    AdoptedConfig,
    AdoptFlags,
    DataConfig,
    LossConfig,
    ModelConfig,
    OptimConfig,
    ScheduleConfig,
    StudentConfig,
    TeacherConfig,
)
from distill.data.sets.load import load
from distill.errors import UserError
from distill.models import build_model
from distill.pipeline.adopting import adopt
from distill.pipeline.run import run_stage
from distill.store.garbage import collect
from distill.store.store import ArtifactStore
from distill.training.beginning import begin_with
from distill.training.network import load_network, load_predictions
from distill.training.seeds import reproducible
from tests.made import assert_same_bits, interrupt, weights
from tests.small import TINY

STILL = {"optim": OptimConfig(lr=1e-12), "schedule": ScheduleConfig(epochs=1, batch_size=64)}
"""A training that changes nothing."""


@pytest.fixture
def first(teacher, make):
    return make(teacher)


def begun(first, dataset, model=TINY):
    """A network of seed 0 that was begun with another, its initial weights, and what is told."""
    with reproducible(0):
        net = build_model(model, dataset.num_classes, dataset.shape)
    before = {name: tensor.clone() for name, tensor in net.state_dict().items()}
    return net.state_dict(), before, begin_with(net, model, dataset, first)


def test_all_weights_are_taken_where_the_classes_are_the_same(first, dataset):
    after, _, told = begun(first, dataset)
    assert all(torch.equal(after[name], tensor) for name, tensor in weights(first).items())
    assert (told["classes"], told["new"], told["name"]) == ("the same", [], first.path.name)


def test_rows_of_classes_in_another_order_are_matched_by_name(first, dataset):
    after, _, told = begun(first, replace(dataset, classes=dataset.classes[::-1]))
    theirs = weights(first)
    assert torch.equal(after["head.weight"], theirs["head.weight"].flip(0))
    assert torch.equal(after["head.bias"], theirs["head.bias"].flip(0))
    assert torch.equal(after["body.1.weight"], theirs["body.1.weight"])
    assert (told["classes"], told["new"]) == ("the same in another order, matched by name", [])


def test_rows_of_chosen_logits_are_taken(dataset, store, runtime, tmp_path):
    net = build_model(TINY, 12, dataset.shape)
    torch.save(net.state_dict(), tmp_path / "t.pth")
    names = ("x", *dataset.classes[::-1], "y")
    accepting = runtime.model_copy(update={"accept_class_order": True})
    large = adopt(tmp_path / "t.pth", store, accepting, AdoptFlags(model=TINY, classes=names))
    after, _, told = begun(large, dataset)
    assert torch.equal(after["head.weight"], net.state_dict()["head.weight"][1:11].flip(0))
    assert told["new"] == []


@pytest.mark.parametrize("classes", [tuple("abcdefghij"), ("0", "1", "2")])
def test_the_layer_of_other_classes_is_drawn_by_the_seed(first, dataset, classes):
    after, before, told = begun(first, replace(dataset, classes=classes))
    assert told["new"] == ["head.weight", "head.bias"]
    assert all(torch.equal(after[name], before[name]) for name in told["new"])
    assert torch.equal(after["body.1.weight"], weights(first)["body.1.weight"])


@pytest.mark.parametrize(
    ("model", "told"),
    [
        (ModelConfig(name="mlp", kwargs={"widths": [8]}), r"3 of another shape: body.1.weight is \[16, 64\], not"),
        (ModelConfig(name="mlp", kwargs={"widths": [16, 16]}), "2 missing: body.3.weight, body.3.bias"),
        (ModelConfig(name="mlp", kwargs={"widths": []}), "2 unexpected: body.1.bias, body.1.weight"),
    ],
)
def test_another_architecture_is_refused_by_names_and_numbers(first, teacher, store, runtime, model, told):
    with pytest.raises(UserError, match=f"^init = .*{told}") as error:
        run_stage(teacher.replace(init=first.config, model=model), store, runtime)
    assert "\n" not in str(error.value)
    assert len(list((store.root / "teachers").iterdir())) == 1
    assert not [each for each in (store.root / "drafts").iterdir() if each.is_dir()]


@pytest.fixture
def given(first, store, runtime, tmp_path):
    """The same weights, adopted without a look at their classes, with a mean and deviation of their own."""
    path = tmp_path / "w.safetensors"
    path.write_bytes((first.path / "model.safetensors").read_bytes())
    flags = AdoptFlags(
        model=TINY, data=first.config.data, only_weights=True, mean=(0.2,), std=(0.5,), provenance="x"
    )
    return adopt(path, store, runtime, flags)


def test_images_are_normalised_as_the_network_knows_them(given, first, store, runtime):
    """The answers of a training that changes nothing are those of its network on its own input."""
    dataset = load(given.config.data, runtime.data_root)
    made = run_stage(TeacherConfig(data=given.config.data, model=TINY, init=given.config, **STILL), store, runtime)
    assert (made.data["mean"], made.data["std"]) == ([0.2], [0.5])
    with torch.inference_mode():
        theirs = load_network(first)((dataset.test.images.float() / 255 - 0.2) / 0.5)
    torch.testing.assert_close(load_predictions(made, "test")[0], theirs, rtol=1e-4, atol=1e-4)


def test_weights_alone_begin_trainings_and_nothing_else(given, first, store, runtime):
    assert isinstance(given.config, AdoptedConfig)
    assert given.path.name.startswith("digits-mlp16-weights-")
    assert {path.name for path in given.path.iterdir()} == {"model.safetensors", "record.json"}
    for use in (load_network, lambda each: load_predictions(each, "test")):
        with pytest.raises(UserError, match="of which only the weights were adopted"):
            use(given)
    config = StudentConfig(data=first.config.data, model=TINY, loss=LossConfig(alpha=0), init=given.config, **STILL)
    made = run_stage(config, store, runtime)
    assert made.data["init"]["classes"].startswith("as many as in the file")
    assert not [line for line in collect(store, False, False, False) if "teachers" in line]


def test_another_size_is_told(first, store, runtime, tmp_path, capsys):
    model = ModelConfig(name="timm:test_resnet")
    torch.save(build_model(model, 10, (1, 8, 8)).state_dict(), tmp_path / "t.pth")
    flags = AdoptFlags(model=model, size=32, only_weights=True)
    large = adopt(tmp_path / "t.pth", store, runtime, flags).config
    config = TeacherConfig(data=DataConfig(limit=64), model=large.model, init=large, **STILL)
    run_stage(config, store, runtime.model_copy(update={"progress": True}))
    assert "took images of 32 x 32, and its training goes on with 8 x 8" in capsys.readouterr().err


@pytest.mark.parametrize("optimizer", ["momentum", "adamw"])
def test_an_interrupted_one_ends_with_the_same_bits(
    first, teacher, store, runtime, tmp_path, monkeypatch, optimizer
):
    optim = OptimConfig(name=optimizer, lr=0.01, head_lr=10, weight_decay=1e-3)
    config = teacher.replace(init=first.config, optim=optim, seed=1)
    whole = run_stage(config, store, runtime)
    elsewhere = ArtifactStore(tmp_path / "elsewhere")
    run_stage(teacher, elsewhere, runtime)
    with monkeypatch.context() as patch:
        interrupt(patch, 3)
        with pytest.raises(KeyboardInterrupt):
            run_stage(config, elsewhere, runtime)
    assert_same_bits(run_stage(config, elsewhere, runtime), whole)


def test_damaged_weights_begin_nothing(first, teacher, store, runtime):
    path = first.path / "model.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"x")
    with pytest.raises(UserError, match="sha256 differs"):
        run_stage(teacher.replace(init=first.config), store, runtime)
