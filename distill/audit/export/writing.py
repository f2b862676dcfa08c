"""Export a trained network to a folder: weights, calibration and a program that runs without this package."""

from __future__ import annotations

import shutil
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_model
from torch import nn

from distill.audit.export.description import AROUND, DESCRIPTION, around, describe
from distill.audit.export.exported import Exported
from distill.audit.export.programs import ONNX, PROGRAM, check_onnx_is_there, write_onnx, write_program
from distill.audit.export.timm_folder import TIMM, write_timm_folder
from distill.config import CalibrationConfig
from distill.data.network_input import NetworkInput
from distill.errors import UserError
from distill.metrics.logit_scaling import Method, identity
from distill.pipeline.calibrating import calibrated
from distill.stages.calibration import load_scaling
from distill.store.artifact import Artifact
from distill.store.provenance import provenance
from distill.store.stages import title
from distill.store.store import ArtifactStore
from distill.system.files import follow_umask, sha256, write_json
from distill.system.runtime import Runtime
from distill.training.network import WEIGHTS, load_network, network_config


@dataclass(frozen=True)
class Export:
    """Say where a network was exported to, and whether a program of it was written."""

    folder: Path
    no_program: str
    """The reason why there is no `model.pt2`; empty when there is one."""
    no_timm: str
    """The reason why a network of timm has no folder for timm; otherwise empty."""


def export(
    artifact: Artifact,
    folder: Path,
    calibration: Method | None,
    store: ArtifactStore,
    runtime: Runtime,
    onnx: bool = False,
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
        onnx: whether to write `model.onnx` too, the calibrated network for runtimes of ONNX.

    Raises:
        UserError: the artifact is no network or a network of sentences, the folder is not empty, the calibration
            cannot be made, or ONNX is wanted and cannot say the same.
    """
    if onnx:
        check_onnx_is_there()
    if folder.is_symlink() or (folder.exists() and not (folder.is_dir() and not any(folder.iterdir()))):
        raise UserError("to", str(folder), "a folder that is new or empty", "Name another one, or delete this one.")
    network, fitted = _network_and_calibration(artifact, calibration, store, runtime)
    scaling = load_scaling(fitted) if fitted else identity()
    model = Exported(load_network(network), network.data, scaling).eval()
    _check_takes_images(model.network, network)
    with _draft(folder) as draft:
        described = describe(network, fitted, scaling)
        save_model(model.bare, str(draft / WEIGHTS), metadata={AROUND: around(described)})
        no_program = write_program(model, network.data["shape"], draft / PROGRAM)
        no_timm, of_timm, of_onnx = "", None, None
        if described["model"]["name"].startswith("timm:"):
            takes, columns = NetworkInput.of(network.data), described.get("columns", ())
            names = described["classes"]
            no_timm, of_timm = write_timm_folder(model.network, scaling, columns, takes, names, draft / TIMM)
        if onnx:
            of_onnx = write_onnx(model, described, draft / ONNX)
        written = [path for path in sorted(draft.rglob("*")) if path.is_file()]
        described |= {
            "files": {
                path.relative_to(draft).as_posix(): {"sha256": sha256(path), "bytes": path.stat().st_size}
                for path in written
            },
            "program": None if no_program else PROGRAM,
            "timm": None if of_timm is None else {"folder": TIMM, "largest_difference": of_timm},
            "onnx": None if of_onnx is None else {"file": ONNX, "largest_difference": of_onnx},
            "made_by": provenance(runtime),
        }
        write_json(draft / DESCRIPTION, described)
        for path in written:  # safetensors writes files that only their owner may read
            path.chmod((draft / DESCRIPTION).stat().st_mode)
    return Export(folder, no_program, no_timm)


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
