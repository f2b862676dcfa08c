"""Weights from elsewhere with which a training begins are adopted first, and are an input by key."""

from __future__ import annotations

import pytest
import timm
import torch

from distill.config import DataConfig, ModelConfig, ScheduleConfig, TeacherConfig
from distill.errors import UserError
from distill.pipeline.beginning import begin_with_weights
from distill.pipeline.graph import missing, run
from tests.small import SHORT

RESNET = ModelConfig(name="timm:test_resnet")


@pytest.fixture
def training():
    """A training on ten classes of digits."""
    return TeacherConfig(model=RESNET, schedule=ScheduleConfig(epochs=1, batch_size=64), data=DataConfig(limit=200))


@pytest.fixture
def net():
    """A network of 1,000 classes."""
    torch.manual_seed(0)
    return timm.create_model("test_resnet", num_classes=1000, in_chans=1)


@pytest.fixture
def file(net, tmp_path):
    torch.save({"model": net.state_dict()}, tmp_path / "t.pth")
    return tmp_path / "t.pth"


def test_a_file_of_other_classes_is_adopted_and_its_last_layer_is_new(training, file, store, runtime):
    config = begin_with_weights(training, file, store, runtime)
    assert (config.init.stage, config.init.outputs, config.init.only_weights) == ("adopted", 1000, True)
    assert missing([config], store) == [config], "the weights are there"
    made = run(config, store, runtime)
    assert made.data["init"]["new"] == ["fc.weight", "fc.bias"]
    assert made.data["init"]["classes"] == "10, where the file has 1000"
    assert list(made.record.inputs) == [store.find(config.init).record.key]
    assert begin_with_weights(training, file, store, runtime) == config
    noisy = training.replace(data=training.data.replace(label_noise=0.2, balanced=True))
    assert begin_with_weights(noisy, file, store, runtime).init == config.init


def test_a_dry_run_knows_the_key_and_writes_nothing(training, file, store, runtime):
    config = begin_with_weights(training, file, store, runtime, dry=True)
    assert not list(store.root.glob("*/*"))
    assert missing([config], store) == [config.init, config]
    assert begin_with_weights(training, file, store, runtime) == config


def test_what_a_library_publishes_brings_its_normalisation(training, net, store, runtime, tmp_path):
    net.pretrained_cfg.update(mean=(0.2,), std=(0.5,), input_size=(1, 8, 8))
    timm.models.save_for_hf(net, tmp_path / "folder")
    config = training.replace(model=ModelConfig(name=f"local-dir:{tmp_path / 'folder'}"), schedule=SHORT)
    config = begin_with_weights(config, None, store, runtime)
    assert config.model.name == RESNET.name, "a training needs no folder of the library"
    assert run(config, store, runtime).data["mean"] == [0.2]


def test_a_network_of_other_channels_is_refused(training, store, runtime, tmp_path):
    torch.save(timm.create_model("test_resnet", num_classes=10).state_dict(), tmp_path / "t.pth")
    config = begin_with_weights(training, tmp_path / "t.pth", store, runtime)
    with pytest.raises(UserError, match="init = 'a network that takes 3 channels': expected one that takes 1"):
        run(config, store, runtime)


def test_broken_weights_are_refused_as_init(training, net, file, store, runtime):
    with torch.no_grad():
        net.fc.bias[0] = float("nan")
    torch.save(net.state_dict(), file)
    with pytest.raises(UserError, match=r"^init = .*NaN or infinity in fc\.bias"):
        begin_with_weights(training, file, store, runtime)
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(UserError, match=r"^init = .*a whole file of weights"):
        begin_with_weights(training, file, store, runtime)
    assert not list(store.root.glob("*/*"))
