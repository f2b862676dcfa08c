"""Make, read and check `model.json`, which says what is around the weights of an exported network."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator

from distill.config import AdoptedConfig, Config, Count, Interpolation, ModelConfig, NonNegative, Positive
from distill.errors import UserError
from distill.metrics.logit_scaling import Method, Scaling
from distill.stages.calibration import SPLITS, measures
from distill.store.artifact import Artifact
from distill.store.record import FileEntry
from distill.store.stages import title
from distill.system.reading import read_json
from distill.training.network import load_predictions, network_config

DESCRIPTION = "model.json"
FORMAT = 2
"""Version of the format. It is raised when the contents of a folder change their meaning."""
AROUND = "around"
"""Metadata key of the weights file that repeats the numbers around the network: calibration, mean, std, columns.

The sha256 of the file covers them there, so a changed description is found.
"""
AGAIN = "Export it again."


def describe(network: Artifact, fitted: Artifact | None, scaling: Scaling) -> dict[str, Any]:
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


def around(described: Mapping[str, Any]) -> str:
    """Return the numbers of a description that make another function of the same weights, as one text."""
    calibration = described["calibration"]
    numbers = [calibration["scale"], calibration["bias"], described["mean"], described["std"]]
    columns = list(described.get("columns", ()))
    return json.dumps([calibration["method"], [[float(each) for each in row] for row in numbers], columns])


class _Calibration(Config):
    method: Method
    scale: Annotated[tuple[float, ...], Field(min_length=1)]
    bias: Annotated[tuple[float, ...], Field(min_length=1)]


class _Takes(Config):
    model_config = ConfigDict(extra="ignore")

    shape: tuple[Count, Count, Count]
    interpolation: Interpolation
    crop: Positive


class Description(Config):
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
    def _fits(self) -> Description:
        channels, classes = self.input_shape[0], len(self.classes)
        if self.columns and not (len(self.columns) == classes and max(self.columns) < (self.outputs or 0)):
            raise UserError(DESCRIPTION, self.columns, f"an output for each of the {classes} classes", AGAIN)
        sizes = {len(self.calibration.scale), len(self.calibration.bias)}
        if {len(self.mean), len(self.std)} != {channels} or not sizes <= {1, classes}:
            sizes = f"{len(self.mean)} means, {len(self.std)} deviations, {len(self.calibration.scale)} scales"
            raise UserError(DESCRIPTION, sizes, f"one per channel ({channels}) or class ({classes})", AGAIN)
        return self


def read_description(path: Path) -> Description:
    """Read `model.json`.

    Raises:
        UserError: the file is missing, of another version, or says something impossible.
    """
    expected, way_out = f"the folder of an export, with a {DESCRIPTION} inside", "Make one with `distill export`."
    try:
        described = read_json(path)
    except OSError as error:
        raise UserError("folder", str(path.parent), expected, way_out) from error
    if not isinstance(described, dict):
        raise UserError(str(path), "of another form", "an object with the fields of an export", AGAIN)
    try:
        return Description(**described)
    except UserError as error:
        field, value, expected, _ = error.args
        raise UserError(f"{path} {field.partition('.')[2] or field}", value, expected, AGAIN) from error
