"""Write the calibrated network as a program of torch.export, and as one of ONNX."""

from __future__ import annotations

import json
import logging
import warnings
from collections.abc import Mapping
from contextlib import redirect_stdout
from io import StringIO
from pathlib import Path
from typing import Any

import torch

from distill.audit.export.exported import Exported
from distill.errors import UserError

PROGRAM, ONNX = "model.pt2", "model.onnx"
_LARGEST = 1e-4
"""Largest difference of logits that rounding explains, relative to the largest logit, or to 1 if that is larger."""
_COMPARED = (1, 2, 5)
"""Numbers of images with which the ONNX file is asked."""


def write_program(model: Exported, shape: list[int], path: Path) -> str:
    """Write the program of `torch.export`; return the reason why this fails, or an empty string."""
    try:
        torch.export.save(_traced(model, shape), path)
    except Exception as error:  # tracing a network of any code can raise any type
        path.unlink(missing_ok=True)
        return (str(error).strip() or type(error).__name__).splitlines()[0]
    return ""


def _traced(model: Exported, shape: list[int]) -> torch.export.ExportedProgram:
    # Two images, since a program that is traced with one image takes only one.
    images = torch.zeros(2, *shape, dtype=torch.uint8)
    with torch.no_grad():
        return torch.export.export(model, (images,), dynamic_shapes=({0: torch.export.Dim("images")},))


def check_onnx_is_there() -> None:
    """Refuse to write ONNX where its packages are missing.

    Raises:
        UserError: a package is not installed.
    """
    try:
        import onnx  # noqa: F401 - only whether it is there
        import onnxruntime  # noqa: F401
        import onnxscript  # noqa: F401
    except ImportError as error:
        expected = f"the packages of ONNX ({error.name} is missing)"
        raise UserError("onnx", True, expected, "Run `pip install onnx onnxruntime onnxscript`.") from error


def write_onnx(model: Exported, described: Mapping[str, Any], path: Path) -> float:
    """Write the calibrated network as ONNX, and return the largest difference of a logit from the network's.

    The file takes bytes [n, c, h, w] as `images`, any number at a time, and gives `logits`. Its metadata has what
    `model.json` says of classes, preprocessing and calibration. onnxruntime is asked about random images.

    Raises:
        UserError: the network cannot be said in ONNX, or onnxruntime gives other logits.
    """
    import onnxruntime

    way_out = "Drop `onnx`; the other files of an export do not need it."
    try:
        # The exporter prints its progress, and warns of its own internals.
        with warnings.catch_warnings(), redirect_stdout(StringIO()):
            warnings.simplefilter("ignore")
            logging.getLogger("torch.onnx").setLevel(logging.ERROR)
            traced = _traced(model, described["shape"])
            program = torch.onnx.export(traced, input_names=["images"], output_names=["logits"], verbose=False)
        assert program is not None
        said = ("classes", "shape", "mean", "std", "calibration")
        program.model.metadata_props.update({name: json.dumps(described[name]) for name in said})
        program.save(path)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        difference = largest = 0.0
        generator = torch.Generator().manual_seed(0)
        for count in _COMPARED:
            images = torch.randint(256, (count, *described["shape"]), dtype=torch.uint8, generator=generator)
            with torch.inference_mode():
                expected = model(images)
            found = torch.from_numpy(session.run(["logits"], {"images": images.numpy()})[0])
            difference = max(difference, float((found - expected).abs().max()))
            largest = max(largest, float(expected.abs().max()))
    except Exception as error:  # tracing a network of any code can raise any type
        reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
        raise UserError("onnx", True, f"a network that ONNX can say ({reason})", way_out) from error
    if not difference <= _LARGEST * max(1.0, largest):
        raise UserError("onnx", True, f"equal logits in onnxruntime, they differ by {difference:.3g}", way_out)
    return difference
