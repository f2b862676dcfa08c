"""Adopt a network that was trained elsewhere: read its weights, find out what it takes, and measure it here.

The sha256 of the file and the accuracy on the images here are proven. How it was trained is declared.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import torch
from safetensors.torch import save_model

from distill.cache.fitness import SAMPLES, least_accuracy, refuse_if_wrong
from distill.config import AdoptedConfig, AdoptFlags, PreprocessingConfig
from distill.data.network_input import NetworkInput
from distill.data.sets.load import load
from distill.data.sets.streams.images import StreamedImages
from distill.errors import UserError
from distill.models import check_model
from distill.models.build import Chosen
from distill.models.fitting import fit_weights
from distill.models.published import FOLDERS, Published, published
from distill.pipeline.adopted_classes import GivenClasses
from distill.pipeline.identity import identify
from distill.pipeline.run import run_stage
from distill.store.artifact import Artifact
from distill.store.outcome import Outcome
from distill.store.store import ArtifactStore
from distill.system.files import sha256
from distill.system.runtime import Runtime
from distill.system.weights import read_weights
from distill.training.network import WEIGHTS
from distill.training.train import evaluation, measured, save_predictions

if TYPE_CHECKING:
    from torch import Tensor, nn

    from distill.data.sets.dataset import Dataset, Split

_FEW = 256
"""With fewer held-out images than this, training images decide whether the network is better than chance."""


class Adoption(NamedTuple):
    """Hold the config of a network from elsewhere, and the function that finds or makes its artifact."""

    config: AdoptedConfig
    make: Callable[[], Artifact]


def adopt(file: Path | None, store: ArtifactStore, runtime: Runtime, flags: AdoptFlags) -> Artifact:
    """Make an artifact of a network from elsewhere, or find the one that was made of the same weights.

    The arguments and errors are those of `adoption`.

    Raises:
        UnfitTeacher: the network is not better than chance, or its classes seem to be in another order.
    """
    return adoption(file, store, runtime, flags).make()


def adoption(file: Path | None, store: ArtifactStore, runtime: Runtime, flags: AdoptFlags) -> Adoption:
    """Read a network from elsewhere, and find out what is to be known of it before it is adopted.

    Args:
        file: the weights; None takes those that a library publishes under the name of the network.
        store: store of the artifact.
        runtime: data root, device, and the accuracy below which nothing is adopted.
        flags: what the user says about the network.

    Raises:
        UserError: the file cannot be read, or is no file of this network; or the classes do not fit the data set.
    """
    known, classes = published(flags.model), GivenClasses(flags.classes)
    path = _file(file, known, flags)
    flags = identify(flags.replace(model=known.model), runtime)
    digest = _digest(path)
    weights = read_weights(path, flags.ema)
    dataset = load(flags.data, runtime.data_root, runtime.progress)
    if dataset.label_shape:
        expected = "images with one label each; this data set has labels per position"
        raise UserError("data.name", flags.data.name, expected, "Adopt a network of images, for images.")
    likely = [dataset.num_classes, len(classes.names), known.outputs or 0]
    size = (flags.size, flags.size) if flags.size else dataset.shape[1:]
    shape = (dataset.shape[0], *size)
    fitting = fit_weights(weights, flags.model, filter(None, likely), shape, str(path))
    if _digest(path) != digest:  # tensors may be mapped from the file until the network has them
        raise UserError("file", str(path), "a file that stays as it is while it is read", "Copy it, and try again.")
    ours = Published(known.model) if file and fitting.outputs != known.outputs else known
    config = AdoptedConfig(
        sha256=digest,
        ema=flags.ema,
        model=flags.model,
        data=flags.data,
        preprocessing=_preprocessing(flags, ours, dataset, fitting.channels),
        outputs=fitting.outputs,
        columns=() if flags.only_weights else classes.columns(fitting.outputs, dataset.classes, ours.names),
        only_weights=flags.only_weights,
        provenance=flags.provenance or ("" if file else known.tag),
    )

    def make() -> Artifact:
        if (made := store.find(config)) is not None:
            return made
        _refuse_unfit_size(config)
        told = _told(flags, ours, config.preprocessing)
        write = functools.partial(_write, config, fitting.model, dataset, told, runtime)
        return run_stage(config, store, runtime, write)

    return Adoption(config, make)


def _file(file: Path | None, known: Published, flags: AdoptFlags) -> Path:
    """Return the path of the weights: the file that the user names, or the one that a library fetches."""
    wants = flags.pretrained or flags.model.name.partition(":")[0] in FOLDERS
    if file is not None and flags.pretrained:
        expected = "false beside a file of weights"
        raise UserError("pretrained", True, expected, "Drop `pretrained`, or the file.")
    if file is not None:
        return file
    if not wants:
        way_out = "Write its path after the command, or set `pretrained=true` for the library's own."
        raise UserError("file", None, "a file of weights", way_out)
    if known.file is None:
        expected = "a network with published weights: timm:NAME, torchvision:NAME, hf-hub:NAME or local-dir:PATH"
        raise UserError("model.name", flags.model.name, expected, "Give a file of weights instead.")
    return known.file()


def _digest(path: Path) -> str:
    """Return the sha256 of a file; a pipe, which would be read for ever, is refused."""
    if not path.is_file():
        raise UserError("file", str(path), "a file of weights", "Check the path.")
    return sha256(path)


def _preprocessing(flags: AdoptFlags, known: Published, dataset: Dataset, channels: int) -> PreprocessingConfig:
    """Return how images are prepared: as flags say, else the library, else as for a network trained here."""
    if bool(flags.mean) != bool(flags.std):
        raise UserError("std" if flags.mean else "mean", (), "both or none of them", "Give `mean` and `std`.")
    scale = {"mean": flags.mean, "std": flags.std}
    for name, values in scale.items():
        if values and len(values) not in (1, channels):
            raise UserError(name, values, f"{channels}, one for each channel", "Give as many.")
    if not flags.mean:
        of = known if _says_how(known, channels) else dataset
        scale = {"mean": of.mean, "std": of.std}
    asked = flags.crop or flags.only_weights
    if known.crop_mode != "center" and not asked and isinstance(dataset.test.images, StreamedImages):
        expected = f"a share of the centre, since {known.tag} crops by {known.crop_mode}, which is not done here"
        raise UserError("crop", None, expected, "Set `crop=1` or another share, if the centre will do.")
    height, width = (known.size if _says_how(known, channels) else None) or dataset.shape[1:]
    return PreprocessingConfig(
        **{name: values * (channels // len(values)) for name, values in scale.items()},
        height=flags.size or height,
        width=flags.size or width,
        interpolation=flags.interpolation or known.interpolation or "bilinear",
        crop=flags.crop or known.crop or 1.0,
    )


def _says_how(known: Published, channels: int) -> bool:
    """Tell whether a library says how images of so many channels are normalised."""
    return len(known.mean) == len(known.std) == channels


def _told(flags: AdoptFlags, known: Published, chosen: PreprocessingConfig) -> str:
    """Say in words how images are prepared, and who says so."""
    is_known = _says_how(known, len(chosen.mean))
    source = f"as for {known.tag}" if is_known else "as for a network trained here on these images"
    changed = [name for name in ("mean", "std", "size", "interpolation", "crop") if getattr(flags, name)]
    beside = f", but for {' and '.join(changed)}" if changed else ""
    mean, std = ([round(each, 4) for each in values] for values in (chosen.mean, chosen.std))
    return f"{source}{beside}: mean {mean}, std {std}, {chosen.height} x {chosen.width}, {chosen.interpolation}"


def _refuse_unfit_size(config: AdoptedConfig) -> None:
    """Refuse a network that cannot take images of the size that it would be given."""
    try:
        check_model(config.model, config.outputs, config.preprocessing.shape)
    except UserError as error:
        way_out = f"{error.way_out} Another size of its input: `size`."
        raise UserError(error.field, error.value, error.expected, way_out) from error


def _write(
    config: AdoptedConfig, model: nn.Module, dataset: Dataset, told: str, runtime: Runtime, folder: Path
) -> Outcome:
    """Measure the network, refuse it if it cannot be right, and write its weights and its predictions."""
    device, prepared = runtime.torch_device(), config.preprocessing
    takes = NetworkInput(prepared.mean, prepared.std, prepared.shape, prepared.interpolation, prepared.crop)
    repeats = {"repeated": prepared.shape[0] != dataset.shape[0]}
    about = {"mean": [*takes.mean], "std": [*takes.std], "takes": takes.record() | repeats}
    about["preprocessing"] = told
    if config.only_weights:
        save_model(model, str(folder / WEIGHTS))
        proven = {"proven": ["sha256 of the file of weights"], "declared": ["training", "preprocessing", "classes"]}
        return Outcome({}, {"name": dataset.name, "shape": [*dataset.shape]} | about | proven)
    answering = (Chosen(model, config.columns) if config.columns else model).to(device).eval()

    def answers(split: Split) -> tuple[Tensor, Tensor]:
        return evaluation(dataset, split, takes, device)(answering)

    held_out = answers(dataset.held_out)
    judged = held_out
    if len(dataset.held_out) < _FEW:
        order = torch.randperm(len(dataset.train), generator=torch.Generator().manual_seed(0))
        judged = answers(dataset.train.rows(order[:SAMPLES]))
    reached = _judged(*judged, dataset.classes, told, runtime)
    predictions = {"held_out": held_out, "test": answers(dataset.test)}
    save_model(model.cpu(), str(folder / WEIGHTS))
    save_predictions(predictions, folder)
    if config.columns:
        about["softmax"] = f"over {len(config.columns)} of the network's {config.outputs} logits"
    about["proven"] = ["sha256 of the file of weights", "accuracy on these images"]
    about["declared"] = ["training", "preprocessing"] + ([] if config.columns else ["class order"])
    return Outcome(measured(predictions) | {"gate/accuracy": reached}, dataset.identity() | about)


def _judged(logits: Tensor, labels: Tensor, classes: tuple[str, ...], told: str, runtime: Runtime) -> float:
    """Return the accuracy on some images, and refuse a network that is not clearly better than chance."""
    least = runtime.min_teacher_accuracy
    return refuse_if_wrong(
        logits,
        labels,
        classes,
        least_accuracy(labels) if least is None else least,
        "file",
        f"A wrong `mean` or `std` can be the reason, as can the order of `classes`, or `size` (images are prepared "
        f"{told})",
        runtime.accept_class_order,
        "images of the data set",
    )
