"""Export a trained network to a folder: weights, calibration and a program that runs without this package."""

from __future__ import annotations

import json
import shutil
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import torch
from pydantic import ConfigDict, Field, model_validator
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model, save_model
from torch import nn

from distill.audit.timm_folder import TIMM, write_timm_folder
from distill.config import (
    AdoptedConfig,
    CalibrationConfig,
    CalibrationMethod,
    Config,
    Count,
    Interpolation,
    ModelConfig,
    NonNegative,
    Positive,
)
from distill.data.network_input import NetworkInput, resized
from distill.data.normaliser import shift_and_factor
from distill.errors import UserError
from distill.metrics.logit_scaling import Method, Scaling, identity, scaled
from distill.models import build_model
from distill.models.build import Chosen, refuse_larger
from distill.pipeline.graph import run
from distill.stages.calibration import SPLITS, load_scaling, measures
from distill.store.artifact import Artifact
from distill.store.key import key
from distill.store.provenance import provenance
from distill.store.record import FileEntry
from distill.store.stages import title
from distill.store.store import ArtifactStore
from distill.system import trust
from distill.system.files import expanded, follow_umask, sha256, write_json
from distill.system.reading import check_safetensors, read_json
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS, load_network, load_predictions, network_config

if TYPE_CHECKING:
    from jaxtyping import Float32, UInt8
    from torch import Tensor

DESCRIPTION = "model.json"
PROGRAM = "model.pt2"
_AGAIN = "Export it again."
FORMAT = 2
"""Version of the format. It is raised when the contents of a folder change their meaning."""
_AROUND = "around"
"""Metadata key of the weights file that repeats the numbers around the network: calibration, mean, std, columns.

The sha256 of the file covers them there, so a changed description is found.
"""


class Exported(nn.Module):
    """Map images to logits whose softmax is calibrated, as an exported network does.

    It takes bytes [n, c, h, w] as they are in the data set, and normalises them itself. It returns float32 [n, k];
    the softmax of a row gives the probabilities.
    """

    pixel_shift: Tensor
    pixel_factor: Tensor
    scale: Tensor
    bias: Tensor

    def __init__(self, network: nn.Module, data: Mapping[str, Any], scaling: Scaling):
        super().__init__()
        self.network = network
        self.method: Method = scaling.method
        self._takes = NetworkInput.of(data)
        # `Normaliser` works in place, but `torch.export` has to trace the two operations.
        shift, factor = shift_and_factor(data["mean"], data["std"])
        self.register_buffer("pixel_shift", shift)
        self.register_buffer("pixel_factor", factor)
        self.register_buffer("scale", scaling.scale.float())
        self.register_buffer("bias", scaling.bias.float())

    def forward(self, images: UInt8[Tensor, "n c h w"]) -> Float32[Tensor, "n k"]:
        """Return the logits whose softmax is the calibrated probabilities."""
        pixels = images.float()
        if self._takes.interpolation != "none":
            pixels = resized(pixels, self._takes)
        logits = self.network((pixels - self.pixel_shift) * self.pixel_factor).float()
        return scaled(self.method, logits, self.scale, self.bias)


@dataclass(frozen=True)
class Export:
    """Say where a network was exported to, and whether a program of it was written."""

    folder: Path
    no_program: str
    """The reason why there is no `model.pt2`; empty when there is one."""
    no_timm: str
    """The reason why a network of timm has no folder for timm; otherwise empty."""


def export(
    artifact: Artifact, folder: Path, calibration: Method | None, store: ArtifactStore, runtime: Runtime
) -> Export:
    """Write a network, its calibration and its description to a folder, all or nothing.

    `model.safetensors` holds the weights under the network's own names, and `model.json` describes everything
    around them. `model.pt2` holds the calibrated network as a program of `torch.export`, for any number of images
    at a time. For a network of timm, `timm/` is a folder that `timm.create_model("local-dir:…")` opens.

    Args:
        artifact: a teacher, a student, or a calibration of one.
        folder: new or empty folder to write to.
        calibration: method of the calibration, which is fitted if it is not in the store. None takes the method of
            a calibration artifact, and no calibration for a network.
        store: store of the artifacts.
        runtime: the machine.

    Raises:
        UserError: the artifact is no network or a network of sentences, the folder is not empty, or the calibration
            cannot be made.
    """
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UserError("to", str(folder), "a folder that is new or empty", "Name another one, or delete this one.")
    network, fitted = _network_and_calibration(artifact, calibration, store, runtime)
    scaling = load_scaling(fitted) if fitted else identity()
    model = Exported(load_network(network), network.data, scaling).eval()
    _check_takes_images(model.network, network)
    with _draft(folder) as draft:
        described = _description(network, fitted, scaling)
        save_model(_bare(model), str(draft / WEIGHTS), metadata={_AROUND: _around(described)})
        no_program = _write_program(model, network.data["shape"], draft / PROGRAM)
        no_timm, difference = "", None
        if described["model"]["name"].startswith("timm:"):
            columns = described.get("columns", ())
            takes = NetworkInput.of(network.data)
            no_timm, difference = write_timm_folder(
                model.network, scaling, columns, takes, described["classes"], draft / TIMM
            )
        written = [path for path in sorted(draft.rglob("*")) if path.is_file()]
        described |= {
            "files": {
                path.relative_to(draft).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
                for path in written
            },
            "program": None if no_program else PROGRAM,
            "timm": None if difference is None else {"folder": TIMM, "largest_difference": difference},
            "made_by": provenance(runtime),
        }
        write_json(draft / DESCRIPTION, described)
        for path in written:  # safetensors writes files that only their owner may read
            path.chmod((draft / DESCRIPTION).stat().st_mode)
    return Export(folder, no_program, no_timm)


def _bare(model: Exported) -> nn.Module:
    """Return the network itself, whose weights have the names that its library gives them."""
    return model.network.network if isinstance(model.network, Chosen) else model.network


def _around(described: Mapping[str, Any]) -> str:
    """Return the numbers of a description that make another function of the same weights, as one text."""
    calibration = described["calibration"]
    numbers = [calibration["scale"], calibration["bias"], described["mean"], described["std"]]
    columns = list(described.get("columns", ()))
    return json.dumps([calibration["method"], [[float(each) for each in row] for row in numbers], columns])


def _description(network: Artifact, fitted: Artifact | None, scaling: Scaling) -> dict[str, Any]:
    """Return what `model.json` says about a network and its calibration."""
    config, data = network_config(network), network.data
    return {
        "format": FORMAT,
        "model": config.model.model_dump(mode="json"),
        **{name: data[name] for name in ("classes", "shape", "mean", "std")},
        **_of_adopted(network),
        "input": "uint8 [n, c, h, w], the pixels of the data set",
        "output": "float32 [n, k], logits whose softmax are the probabilities",
        "calibration": {
            "method": scaling.method,
            "scale": scaling.scale.tolist(),
            "bias": scaling.bias.tolist(),
        },
        "source": {
            "network": {"key": network.record.key, "title": title(config)},
            "calibration": {"key": fitted.record.key} if fitted else None,
            "data": {name: data[name] for name in ("name", "fingerprint") if name in data},
        },
        "metrics": _metrics(network, scaling),
    }


def _of_adopted(network: Artifact) -> dict[str, Any]:
    """Return what `model.json` also says about a network from elsewhere: what it takes, and which logits count."""
    config = network.config
    if not isinstance(config, AdoptedConfig):
        return {}
    return {"takes": network.data["takes"], "outputs": config.outputs, "columns": list(config.columns)}


def calibrated(network: Artifact, method: CalibrationMethod, store: ArtifactStore, runtime: Runtime) -> Artifact:
    """Return the calibration of a network, and fit it first if it is not in the store.

    Raises:
        UserError: the artifact is no network of this store, or it has no held-out predictions.
    """
    config = network_config(network)
    store.refuse_other(network, "artifact")
    if store.find(config) is None or key(config) != network.record.key:
        way_out = "Set `store` to its store; one of an older version must be trained again."
        raise UserError("artifact", str(network.path), f"a network of the store {store.root}", way_out)
    return run(CalibrationConfig(network=config, method=method), store, runtime)


def load_exported(folder: str | Path, device: str = "cpu", plugins: bool = False) -> Exported:
    """Load an exported network in evaluation mode, which maps images as bytes to calibrated logits.

    The softmax of the logits gives calibrated probabilities. The network is built from `model.json` and filled from
    `model.safetensors`, whose sha256 is checked. No code in the folder is executed, and `model.pt2` is not read.

    Args:
        folder: folder that `export` wrote.
        device: device of the network.
        plugins: whether a network named as package.module:function may be imported. The author of `model.json`
            chooses this function, so allow plug-ins only for a folder of your own.

    Raises:
        UserError: the folder is not an export, a file was changed, or the network cannot be built.
    """
    folder = expanded(Path(folder))
    described = _read_description(folder / DESCRIPTION)
    weights, entry = folder / WEIGHTS, described.files.get(WEIGHTS)
    if entry is None or not weights.is_file() or sha256(weights) != entry.sha256:
        raise UserError(str(weights), "missing or changed", f"the file that {DESCRIPTION} names", _AGAIN)
    config, calibration = described.model, described.calibration
    if _around_of(weights) != _around(described.model_dump()):
        raise UserError(str(folder / DESCRIPTION), "changed", "what its weights were written with", _AGAIN)
    if config.plugin is not None and not plugins:
        way_out = "If the folder is your own: load_exported(folder, plugins=True)."
        raise UserError("model.name", config.name, "a network that is not code of its own", way_out)
    if config.plugin is not None:
        trust.name(config.plugin)
    outputs, shape = described.outputs or len(described.classes), described.input_shape
    refuse_larger(config, outputs, shape, weights.stat().st_size)
    network = build_model(config, outputs, shape)
    network = Chosen(network, described.columns) if described.columns else network
    parameters = [torch.tensor(each, dtype=torch.float64) for each in (calibration.scale, calibration.bias)]
    model = Exported(network, described.model_dump(), Scaling(calibration.method, *parameters))
    try:
        load_model(_bare(model), weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(str(weights), reason, f"weights of {config.name}", _AGAIN) from error
    return model.to(device).eval()


def _around_of(weights: Path) -> str | None:
    check_safetensors(weights)
    try:
        with safe_open(weights, "pt") as file:
            return (file.metadata() or {}).get(_AROUND)
    except SafetensorError as error:
        reason = str(error).splitlines()[0]
        raise UserError(str(weights), reason, "a whole .safetensors file", _AGAIN) from error


class _Calibration(Config):
    method: Method
    scale: Annotated[tuple[float, ...], Field(min_length=1)]
    bias: Annotated[tuple[float, ...], Field(min_length=1)]


class _Takes(Config):
    model_config = ConfigDict(extra="ignore")

    shape: tuple[Count, Count, Count]
    interpolation: Interpolation
    crop: Positive


class _Description(Config):
    """Hold the fields of `model.json` from which a network is built; its other fields are for people."""

    model_config = ConfigDict(extra="ignore")

    format: Literal[2]
    model: ModelConfig
    classes: Annotated[tuple[str, ...], Field(min_length=1)]
    shape: tuple[Count, Count, Count]
    mean: tuple[float, ...]
    std: tuple[Positive, ...]
    calibration: _Calibration
    files: dict[str, FileEntry]
    takes: _Takes | None = None
    outputs: Count | None = None
    columns: tuple[NonNegative, ...] = ()

    @property
    def input_shape(self) -> tuple[int, int, int]:
        """Return the shape of the images that the network itself takes."""
        return self.takes.shape if self.takes else self.shape

    @model_validator(mode="after")
    def _fits(self) -> _Description:
        channels, classes = self.input_shape[0], len(self.classes)
        if self.columns and not (len(self.columns) == classes and max(self.columns) < (self.outputs or 0)):
            raise UserError(DESCRIPTION, self.columns, f"an output for each of the {classes} classes", _AGAIN)
        sizes = {len(self.calibration.scale), len(self.calibration.bias)}
        if {len(self.mean), len(self.std)} != {channels} or not sizes <= {1, classes}:
            sizes = f"{len(self.mean)} means, {len(self.std)} deviations, {len(self.calibration.scale)} scales"
            raise UserError(DESCRIPTION, sizes, f"one per channel ({channels}) or class ({classes})", _AGAIN)
        return self


def _read_description(path: Path) -> _Description:
    expected, way_out = f"the folder of an export, with a {DESCRIPTION} inside", "Make one with `distill export`."
    try:
        described = read_json(path)
    except OSError as error:
        raise UserError("folder", str(path.parent), expected, way_out) from error
    if not isinstance(described, dict):
        raise UserError(str(path), "of another form", "an object with the fields of an export", _AGAIN)
    try:
        return _Description(**described)
    except UserError as error:
        field, value, expected, _ = error.args
        raise UserError(f"{path} {field.partition('.')[2] or field}", value, expected, _AGAIN) from error


def _network_and_calibration(
    artifact: Artifact, calibration: Method | None, store: ArtifactStore, runtime: Runtime
) -> tuple[Artifact, Artifact | None]:
    """Return the network to export and its calibration artifact; None for no calibration."""
    config = artifact.config
    if not isinstance(config, CalibrationConfig):
        network_config(artifact)
        if calibration is None or calibration == "none":
            return artifact, None
        return artifact, calibrated(artifact, calibration, store, runtime)
    if calibration not in (None, config.method):
        way_out = "Drop `calibration`, or name the network itself."
        raise UserError("calibration", calibration, f"{config.method}, which {artifact.path.name} is", way_out)
    network = store.find(config.network)
    if network is None:
        way_out = "Set `store` to the store that it was made in."
        raise UserError("artifact", title(config.network), "the network of this calibration in the store", way_out)
    return network, artifact


def _check_takes_images(model: nn.Module, network: Artifact) -> None:
    """Refuse to export a network of sentences, which takes no images."""
    # A network of sentences takes tokens and answers at every position.
    with torch.inference_mode():
        logits = model(torch.zeros(1, *NetworkInput.of(network.data).shape))
    if logits.ndim != 2:
        value = f"{network_config(network).model.name} on {network.data['name']}"
        raise UserError("artifact", value, "a network of images", "Networks of sentences cannot be exported.")


def _write_program(model: Exported, shape: list[int], path: Path) -> str:
    """Write the program of `torch.export`; return the reason why this fails, or an empty string."""
    # Two images, since a program that is traced with one image takes only one.
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    try:
        with torch.no_grad():
            program = torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("images")},))
        torch.export.save(program, path)
    except Exception as error:  # tracing a network of any code can raise any type
        path.unlink(missing_ok=True)
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def _metrics(network: Artifact, scaling: Scaling) -> dict[str, Any]:
    """Measure the stored predictions of each split before and after calibration."""
    metrics: dict[str, Any] = {}
    for split in SPLITS:
        logits, labels = load_predictions(network, split)
        if len(labels):
            before = measures(logits, labels)
            after = before if scaling.method == "none" else measures(scaling.apply(logits), labels)
            metrics[split] = {"before": before, "after": after}
    return metrics


@contextmanager
def _draft(folder: Path) -> Iterator[Path]:
    """Yield a draft folder to fill, which becomes `folder` on success and is deleted on failure."""
    final = folder.absolute()
    try:
        final.parent.mkdir(parents=True, exist_ok=True)
        draft = final.with_name(f".{final.name}.{uuid.uuid4().hex}.draft")
        draft.mkdir()
    except OSError as error:
        expected = f"a folder that can be written ({error.strerror})"
        raise UserError("to", str(folder), expected, "Name another one.") from error
    try:
        yield draft
        follow_umask(draft)
        draft.replace(final)  # this replaces an empty folder too
    except OSError as error:
        raise UserError("to", str(folder), f"a new folder ({error.strerror})", "Name another one.") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
