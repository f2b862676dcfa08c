"""What timm and torchvision say of a network is taken as they say it; files come from their own caches."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torchvision

from distill.config import ModelConfig
from distill.errors import UserError
from distill.models.published import published


def test_timm_tells_preprocessing_and_names() -> None:
    said = published(ModelConfig(name="timm:resnet50.a1_in1k"))
    config = timm.data.resolve_model_data_config(timm.create_model("resnet50.a1_in1k"))
    assert (said.mean, said.std, said.size) == (config["mean"], config["std"], config["input_size"][1:])
    assert (said.interpolation, said.crop) == (config["interpolation"], config["crop_pct"])
    assert (said.outputs, said.tag) == (1000, "timm:resnet50.a1_in1k")
    assert said.names[0][:2] == ["n01440764", "n01443537"]
    assert (
        published(ModelConfig(name="timm:convnext_base.clip_laion2b_augreg_ft_in12k_in1k_384")).crop_mode
        == "squash"
    )
    assert published(ModelConfig(name="timm:resnet50")).tag == said.tag, "the library's default"


def test_torchvision_tells_preprocessing_and_names() -> None:
    said = published(ModelConfig(name="torchvision:resnet50.IMAGENET1K_V2"))
    shows = torchvision.models.ResNet50_Weights.IMAGENET1K_V2.transforms()
    assert said.model.name == "torchvision:resnet50"
    assert (said.mean, said.std) == (tuple(shows.mean), tuple(shows.std))
    assert (said.size, said.interpolation) == ((224, 224), "bilinear")
    assert said.crop == pytest.approx(224 / 232)
    assert said.names[0][0] == "tench"
    assert published(ModelConfig(name="torchvision:googlenet")).model.kwargs == {"transform_input": True}


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("timm:resnet5", "Close to it: timm:resnet50"),
        ("timm:resnet18.a9", "timm:resnet18.a1_in1k"),
        ("torchvision:resnet5", "Close to it: torchvision:resnet50"),
        ("torchvision:resnet18.V9", "It has torchvision:resnet18.IMAGENET1K_V1"),
        ("local-dir:/nowhere", "a config.json of timm inside"),
    ],
)
def test_a_wrong_name_is_told_with_a_right_one(name: str, told: str) -> None:
    with pytest.raises(UserError, match=told):
        published(ModelConfig(name=name))


def test_files_come_from_the_caches_of_the_libraries(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / "resnet18-f37072fd.pth").touch()
    assert _file("torchvision:resnet18") == tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    asked = []
    monkeypatch.setattr("huggingface_hub.hf_hub_download", lambda *given, **_: asked.append(given) or "file")
    assert _file("timm:resnet18.a1_in1k") == Path("file")
    assert asked == [("timm/resnet18.a1_in1k", "model.safetensors")]


@pytest.mark.parametrize("name", ["timm:resnet18.a1_in1k", "torchvision:resnet18", "hf-hub:somebody/net"])
def test_without_a_network_one_line_says_what_to_do(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError("no route to host\nand more")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", fail)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", fail)
    with pytest.raises(UserError, match="no route to host\\)") as error:
        _file(name)
    assert "\n" not in str(error.value)


def _file(name: str) -> Path:
    file = published(ModelConfig(name=name)).file
    assert file is not None
    return file()
