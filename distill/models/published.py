"""Ask timm and torchvision what they publish for a network: its file of weights, preprocessing and class names."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, get_args

import torch

from distill.config import Interpolation, ModelConfig
from distill.config.network import did_you_mean
from distill.errors import UserError
from distill.system.files import expanded
from distill.system.libraries import import_library
from distill.system.reading import read_json

FOLDERS = ("hf-hub", "hf_hub", "local-dir")
"""Forms of a name that lead to a folder of timm, with a config.json and weights inside."""
_WEIGHTS = ("model.safetensors", "pytorch_model.bin", "pytorch_model.pth", "model.pth")
"""Names of the weights in such a folder, the preferred one first."""
_DECIDED = ("num_classes", "in_chans")
"""Arguments in such a folder that are found out from the weights."""
_NORMALISES = {"inception_v3": {"transform_input": True}, "googlenet": {"transform_input": True}}
"""Networks of torchvision that change their input where they have published weights."""


@dataclass(frozen=True)
class Published:
    """Hold what a library says about a network; what it does not say is None or empty."""

    model: ModelConfig
    """The network itself, which can be built without the library's files."""
    tag: str = ""
    """Name of the weights, in the library's words."""
    file: Callable[[], Path] | None = None
    """Function that returns the file of weights, and fetches it if it is not here."""
    outputs: int | None = None
    """Number of logits of the published weights."""
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    size: tuple[int, int] | None = None
    """Height and width of the input."""
    interpolation: Interpolation | None = None
    crop: float | None = None
    """Share of the resized shorter side that is kept."""
    crop_mode: str = "center"
    """What is cropped from an original file."""
    names: Sequence[Sequence[str]] = field(default_factory=tuple)
    """Names of the outputs, in one or several vocabularies."""


def published(config: ModelConfig) -> Published:
    """Return what the library of a network says about it; little for a network of this package, or a plug-in.

    Raises:
        UserError: the library knows no such network or no such weights, or its description cannot be read.
    """
    source, _, name = config.name.partition(":")
    if source in FOLDERS:
        return _of_folder(config, source, name)
    if source == "timm":
        return _of_timm(config, name)
    if source == "torchvision":
        return _of_torchvision(config, name)
    return Published(config)


def _of_timm(config: ModelConfig, name: str) -> Published:
    timm = import_library("timm")
    if not timm.is_model(name):
        way_out = did_you_mean(name, timm.list_models(), "timm:")
        raise UserError("model.name", config.name, "a network that timm knows", way_out)
    try:
        known = timm.get_pretrained_cfg(name)
    except RuntimeError as error:
        tags = [f"timm:{each}" for each in timm.list_pretrained(f"{name.partition('.')[0]}.*")]
        way_out = f"It has {', '.join(tags)}." if tags else "It has no published weights."
        raise UserError("model.name", config.name, "weights that timm knows", way_out) from error
    if known is None:
        return Published(config)
    fields = known.to_dict()
    tag = name if "." in name or not fields.get("tag") else f"{name}.{fields['tag']}"
    return _described(config, f"timm:{tag}", fields, _file_of_timm(config.name, fields))


def _file_of_timm(name: str, fields: Mapping[str, Any]) -> Callable[[], Path] | None:
    if fields.get("custom_load"):

        def refuse() -> Path:
            way_out = "Load it with timm, save its state dict with torch.save, and give that file."
            raise UserError("model.name", name, "weights as tensors; these are in a format of their own", way_out)

        return refuse
    if known := fields.get("hf_hub_id"):
        named = fields.get("hf_hub_filename")
        return lambda: _from_hub(name, known, (named,) if named else _WEIGHTS[:2])
    url = fields.get("url")
    return (lambda: _from_url(name, url)) if url else None


def _described(
    config: ModelConfig, tag: str, fields: Mapping[str, Any], file: Callable[[], Path] | None
) -> Published:
    """Return what fields of timm's `pretrained_cfg` say."""
    size, count = fields.get("input_size") or (3, 224, 224), fields.get("num_classes")
    names = [fields["label_names"]] if fields.get("label_names") else []
    return Published(
        config,
        tag,
        file,
        count,
        tuple(fields.get("mean") or ()),
        tuple(fields.get("std") or ()),
        (size[1], size[2]),
        _interpolation(fields.get("interpolation")),
        fields.get("crop_pct"),
        fields.get("crop_mode") or "center",
        [*names, *_of_imagenet(count)],
    )


def _interpolation(name: object) -> Interpolation | None:
    """Return the name of an interpolation, or None for another one, such as one that is drawn at random."""
    return next((each for each in get_args(Interpolation) if each == name), None)


def _of_imagenet(count: int | None) -> list[Sequence[str]]:
    """Return the WordNet ids of the ImageNet that has so many classes, in the order of its networks."""
    info = import_library("timm.data.imagenet_info")
    subset = info.infer_imagenet_subset({"num_classes": count})
    return [info.ImageNetInfo(subset).label_names()] if subset else []


def _of_torchvision(config: ModelConfig, name: str) -> Published:
    models = import_library("torchvision.models")
    name, _, tag = name.partition(".")
    if name.lower() not in models.list_models(module=models):
        way_out = did_you_mean(name, models.list_models(module=models), "torchvision:")
        raise UserError("model.name", config.name, "a classifier that torchvision knows", way_out)
    known = models.get_model_weights(name.lower())
    names = [each.name for each in known]
    if tag and tag not in names:
        way_out = f"It has {', '.join(f'torchvision:{name}.{each}' for each in names)}."
        raise UserError("model.name", config.name, "weights that torchvision knows", way_out)
    weights = known[tag] if tag else known.DEFAULT
    shows, kwargs = weights.transforms(), {**_NORMALISES.get(name.lower(), {}), **config.kwargs}
    height = width = shows.crop_size[0]
    return Published(
        config.replace(name=f"torchvision:{name}", kwargs=kwargs),
        f"torchvision:{name}.{weights.name}",
        lambda: _from_url(config.name, weights.url),
        len(weights.meta["categories"]),
        tuple(shows.mean),
        tuple(shows.std),
        (height, width),
        _interpolation(shows.interpolation.value),
        shows.crop_size[0] / shows.resize_size[0],
        "center",
        [weights.meta["categories"], *_of_imagenet(len(weights.meta["categories"]))],
    )


def _of_folder(config: ModelConfig, source: str, name: str) -> Published:
    """Read the description in a folder of timm, on this machine or on the Hugging Face hub."""
    folder = expanded(Path(name)) if source == "local-dir" else None
    path = folder / "config.json" if folder else _from_hub(config.name, name, ("config.json",))
    if not path.is_file():
        raise UserError("model.name", config.name, "a folder with a config.json of timm inside", "Check the path.")
    said = read_json(path)
    try:
        fields = dict(said.get("pretrained_cfg", said))
        fields |= {key: said[key] for key in ("num_classes", "label_names") if key in said}
        kwargs = {key: value for key, value in said.get("model_args", {}).items() if key not in _DECIDED}
        if fields.get("fixed_input_size") and "input_size" in fields:
            kwargs.setdefault("img_size", list(fields["input_size"][1:]))
        if (pooled := said.get("global_pool")) is not None:
            kwargs.setdefault("global_pool", pooled)
        model = ModelConfig(name=f"timm:{said['architecture']}", kwargs=kwargs | config.kwargs)
        file = (lambda: _in_folder(folder)) if folder else (lambda: _from_hub(config.name, name, _WEIGHTS[:2]))
        return _described(model, config.name, fields, file)
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        reason = f"{type(error).__name__}: {error}"[:200]
        raise UserError("model.name", f"{path}: {reason}", "a description by timm", "Save it again.") from error


def _in_folder(folder: Path) -> Path:
    names = [name for name in _WEIGHTS if (folder / name).is_file()]
    if not names:
        raise UserError("model.name", str(folder), f"one of {', '.join(_WEIGHTS)} inside", "Give the file itself.")
    return folder / names[0]


def _from_hub(name: str, repository: str, files: Sequence[str]) -> Path:
    """Return a file of the Hugging Face hub from its own cache, after it was fetched if it is not there."""
    hub = import_library("huggingface_hub")
    hub.utils.logging.set_verbosity_error()  # it writes two lines for each of twelve attempts without a network
    known, _, revision = repository.partition("@")
    reason: Exception | None = None
    for file in files:
        # Who is not reached for one file is not asked for the next; that may be in the cache.
        offline = isinstance(reason, hub.errors.LocalEntryNotFoundError)
        try:
            return Path(hub.hf_hub_download(known, file, revision=revision or None, local_files_only=offline))
        except Exception as error:  # of the network too; httpx, requests and the hub raise many types
            reason = reason if offline else error
    raise _not_here(name, f"{repository} on the Hugging Face hub", reason)


def _from_url(name: str, url: str) -> Path:
    """Return a published file from the cache of torch.hub, after it was fetched if it is not there."""
    path = Path(torch.hub.get_dir(), "checkpoints", url.rpartition("/")[2])
    if path.is_file():
        return path
    logging.getLogger(__name__).info("fetching %s", url)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        found = re.search(r"-([a-f0-9]{8,})[.]", path.name)
        torch.hub.download_url_to_file(url, str(path), found[1] if found else None, progress=False)
    except Exception as error:
        raise _not_here(name, url, error) from error
    return path


def _not_here(name: str, where: str, reason: Exception | None) -> UserError:
    told = (str(reason).strip() or type(reason).__name__).splitlines()[0][:200]
    expected = f"weights that are in the library's cache, or can be fetched ({where}: {told})"
    way_out = "Run it once where there is a network, or give the file of weights."
    return UserError("model.name", name, expected, way_out)
