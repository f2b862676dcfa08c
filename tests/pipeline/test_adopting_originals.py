"""A network from elsewhere sees streamed originals as the evaluation of its own library does."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import timm
import timm.data
import torch
from PIL import Image
from torch import Tensor, nn
from torchvision.transforms._presets import ImageClassification

from distill.cache import LogitCache
from distill.config import AdoptFlags, AugmentConfig, CacheConfig, DataConfig, ModelConfig, StudentConfig
from distill.errors import UserError
from distill.pipeline.adopting import adopt
from distill.pipeline.graph import run
from distill.training.network import load_predictions
from tests.checkpoints import teach
from tests.data.sets.image_files import write_folder
from tests.small import SHORT, TINY

CLASSES = "abc"
Evaluation = Callable[[Image.Image], Tensor]


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Photographs of many shapes, in which a class has a colour."""
    draw, files = np.random.default_rng(0), {}
    for split, count in (("train", 8), ("test", 4)):
        for number, label in enumerate(CLASSES):
            for i in range(count):
                pixels = draw.integers(0, 80, (6, 8, 3), np.uint8)
                pixels[..., number] += 150
                buffer = io.BytesIO()
                shape = tuple(draw.integers(60, 120, 2).tolist())
                Image.fromarray(pixels).resize(shape, Image.Resampling.BICUBIC).save(buffer, "jpeg")
                files[f"{split}/{label}/{i}.jpg"] = buffer.getvalue()
    return write_folder(tmp_path / "photographs", files)


def evaluated(path: Path, split: str, evaluation: Evaluation) -> tuple[Tensor, Tensor]:
    """Prepare the images of a split as a script of somebody else does."""
    files = sorted((path / split).rglob("*.jpg"))
    images = torch.stack([evaluation(Image.open(file).convert("RGB")) for file in files])
    return images, torch.tensor([CLASSES.index(file.parent.name) for file in files])


def _timm(net: nn.Module) -> tuple[Evaluation, dict[str, object]]:
    config = timm.data.resolve_model_data_config(net)
    told = {"mean": config["mean"], "std": config["std"], "size": config["input_size"][1]}
    told |= {"crop": config["crop_pct"], "interpolation": config["interpolation"]}
    return timm.data.create_transform(**config, is_training=False), told


def _torchvision(_: nn.Module) -> tuple[Evaluation, dict[str, object]]:
    evaluation = ImageClassification(crop_size=56, resize_size=64)
    told = {"mean": tuple(evaluation.mean), "std": tuple(evaluation.std), "size": 56, "crop": 56 / 64}
    return evaluation, told | {"interpolation": "bilinear"}


@pytest.mark.parametrize("of", [_timm, _torchvision])
def test_cached_logits_are_those_of_an_evaluation_by_hand(photographs, of, tmp_path, store, runtime):
    torch.manual_seed(0)
    net = timm.create_model("test_resnet", num_classes=3)
    evaluation, told = of(net)
    images, labels = evaluated(photographs, "train", evaluation)
    teach(net, net.get_classifier(), images, labels)
    torch.save(net.state_dict(), tmp_path / "t.pth")
    data = DataConfig(name=f"imagefolder:{photographs}", held_out=0.0, kwargs={"stream": True, "size": 24})
    flags = AdoptFlags(model=ModelConfig(name="timm:test_resnet"), data=data, **told)
    teacher = adopt(tmp_path / "t.pth", store, runtime, flags)

    with torch.inference_mode():
        by_hand = {split: net.eval()(evaluated(photographs, split, evaluation)[0]) for split in ("train", "test")}
    assert torch.allclose(load_predictions(teacher, "test")[0], by_hand["test"], atol=1e-4)
    config = CacheConfig(teacher=teacher.config, transfer_set=data, dtype="float32")
    cache = LogitCache(run(config, store, runtime))
    assert torch.allclose(cache.logits(torch.arange(len(labels)), 0), by_hand["train"], atol=1e-4)
    # A student of another size resizes the same images for itself; and views of a size are resized from it.
    student = StudentConfig(cache=config, data=data, model=TINY, schedule=SHORT)
    assert run(student, store, runtime).data["shape"] == [3, 24, 24]
    moved = LogitCache(run(config.replace(augment=AugmentConfig(flip=True)), store, runtime))
    assert not torch.allclose(moved.logits(torch.arange(len(labels)), 0), by_hand["train"], atol=1e-2)


def test_another_crop_than_that_of_the_centre_is_refused(photographs, tmp_path, store, runtime):
    net = timm.create_model("test_resnet", num_classes=3)
    net.pretrained_cfg.update(crop_mode="squash", input_size=(3, 24, 24))
    timm.models.save_for_hf(net, tmp_path / "folder")
    data = DataConfig(name=f"imagefolder:{photographs}", held_out=0.0, kwargs={"stream": True, "size": 24})
    flags = AdoptFlags(model=ModelConfig(name=f"local-dir:{tmp_path / 'folder'}"), data=data)
    with pytest.raises(UserError, match=r"crop = None: .* crops by squash, which is not done here"):
        adopt(None, store, runtime, flags)
    assert adopt(None, store, runtime.model_copy(update={"accept_class_order": True}), flags.replace(crop=0.9))
