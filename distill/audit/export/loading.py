"""Load an exported network from its folder, without running code that lies in it."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_model

from distill.audit.export.description import AGAIN, AROUND, DESCRIPTION, around, read_description
from distill.audit.export.exported import Exported
from distill.errors import UserError
from distill.metrics.logit_scaling import Scaling
from distill.models import build_model
from distill.models.build import Chosen, refuse_larger
from distill.system import trust
from distill.system.files import expanded, sha256
from distill.system.reading import check_safetensors
from distill.training.network import WEIGHTS


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
    described = read_description(folder / DESCRIPTION)
    weights, entry = folder / WEIGHTS, described.files.get(WEIGHTS)
    if entry is None or not weights.is_file() or sha256(weights) != entry.sha256:
        raise UserError(str(weights), "missing or changed", f"the file that {DESCRIPTION} names", AGAIN)
    config, calibration = described.model, described.calibration
    if _around_of(weights) != around(described.model_dump()):
        raise UserError(str(folder / DESCRIPTION), "changed", "what its weights were written with", AGAIN)
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
        load_model(model.bare, weights)
    except (SafetensorError, RuntimeError) as error:
        reason = str(error).splitlines()[0]
        raise UserError(str(weights), reason, f"weights of {config.name}", AGAIN) from error
    return model.to(device).eval()


def _around_of(weights: Path) -> str | None:
    check_safetensors(weights)
    try:
        with safe_open(weights, "pt") as file:
            return (file.metadata() or {}).get(AROUND)
    except SafetensorError as error:
        reason = str(error).splitlines()[0]
        raise UserError(str(weights), reason, "a whole .safetensors file", AGAIN) from error
