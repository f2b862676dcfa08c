"""Implement the commands for one network or cache: evaluate, calibrate, export, import, adopt."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

from distill.cli.arguments import ArtifactName, RuntimeFlags, print_lines
from distill.cli.flags import Mark
from distill.config import AdoptFlags, CalibrationMethod, ImportFlags, StoredSplit
from distill.errors import UserError
from distill.store.store import ArtifactStore
from distill.system.files import expanded
from distill.system.progress import write_line


def evaluate(
    artifact: ArtifactName,
    split: StoredSplit = "test",
    measures: Literal["usual", "all"] = "usual",
    temperature: float = 1.0,
    *,
    runtime: RuntimeFlags,
) -> None:
    """Print measures of a trained network from its stored predictions, or of a cache on its transfer set.

    Args:
        artifact: path or key of a teacher, student or cache.
        split: split whose predictions are measured, of a network.
        measures: usual are the measures of every report; all adds dark knowledge and geometry, for which some
            measures load the network and its images.
        temperature: temperature of the soft targets that `--measures all` measures.
    """
    from distill.audit import evaluate as audit

    named = ArtifactStore(runtime.store).resolve(artifact)
    folder = ArtifactStore(runtime.store).home(named)  # where its teacher is
    if measures == "usual":
        if temperature != 1:
            raise UserError("temperature", temperature, "1 for the usual measures", "Add `measures=all`.")
        measured = audit.usual_measures(named, folder, runtime, split)
        told = [f"diverged: {measured.diverged}"] if measured.diverged else []
        print_lines("\n".join([*told, *(f"{name:32} {value:.5g}" for name, value in measured.values.items())]))
    elif named.config.stage == "cache":
        print_lines(audit.format_groups(audit.measures_of_cache(named, runtime, temperature)), evaluate)
    else:
        groups = audit.measures_of_network(named, folder, runtime, split, temperature)
        print_lines(audit.format_groups(groups), evaluate)


def calibrate(
    network: ArtifactName,
    method: CalibrationMethod = "temperature",
    temperature: float | None = None,
    *,
    runtime: RuntimeFlags,
) -> None:
    """Fit a map of a network's logits on its held-out images, and print calibration before and after.

    Args:
        network: path or key of a teacher or a student.
        method: temperature divides logits by T; vector has a scale and a bias per class; platt a sigmoid per class.
        temperature: T by which you mean to divide logits; also say what it would do to the confidence.
    """
    from distill.pipeline.calibrating import calibrated
    from distill.stages.calibration import RELIABILITY, findings, format_measures

    folder = ArtifactStore(runtime.store)
    named = folder.resolve(network, "network")
    made = calibrated(named, method, folder, runtime)
    print_lines("\n".join([format_measures(made), *findings(made, named, temperature)]))
    print_lines(f"diagram      {made.path / RELIABILITY}")
    print_lines(str(made.path))


def export(
    artifact: ArtifactName,
    to: Path,
    calibration: Literal["none", CalibrationMethod] | None = None,
    onnx: bool = False,
    *,
    runtime: RuntimeFlags,
) -> None:
    """Write a network to a folder for others: weights, calibration, a program of torch.export, a folder for timm.

    Args:
        artifact: path or key of a teacher, a student or a calibration.
        to: folder to write, new or empty.
        calibration: calibration of the logits; None takes a calibration's own method, and none for a network.
        onnx: write model.onnx too, whose logits are compared with the network's in onnxruntime.
    """
    from distill.audit.export import export

    named = ArtifactStore(runtime.store).resolve(artifact)
    written = export(named, expanded(to), calibration, ArtifactStore(runtime.store).home(named), runtime, onnx)
    if written.no_program:
        write_line(f"no program: torch.export cannot trace this network ({written.no_program})")
    if written.no_timm:
        write_line(f"no folder for timm: {written.no_timm}")
    print_lines(str(written.folder))


def import_(
    files: Annotated[tuple[Path, ...], Mark.POSITIONAL],
    *,
    flags: Annotated[ImportFlags, Mark.UNPREFIXED],
    runtime: RuntimeFlags,
) -> None:
    """Make a cache of logits from elsewhere; facts that only their maker can know are marked as declared.

    Args:
        files: arrays [rows, classes] or [rows, view, classes] (.npy, .npz, .safetensors), several for their mean;
            or the folders of a TinyViT file set.
    """
    from distill.pipeline.importing import import_logits

    made = import_logits([expanded(path) for path in files], ArtifactStore(runtime.store), runtime, flags)
    for name, value in made.record.metrics.items():
        print_lines(f"{name:24} {value:.4f}")
    print_lines(str(made.path))


def adopt(
    file: Annotated[Path | None, Mark.POSITIONAL] = None,
    *,
    flags: Annotated[AdoptFlags, Mark.UNPREFIXED],
    runtime: RuntimeFlags,
) -> None:
    """Make a teacher of a network that was trained elsewhere; its weights are proven, its accuracy is measured.

    Args:
        file: weights as .safetensors, or a checkpoint of torch (.pth, .pt, .bin, .ckpt); none with `pretrained`.
    """
    from distill.pipeline.adopting import adopt

    made = adopt(None if file is None else expanded(file), ArtifactStore(runtime.store), runtime, flags)
    print_lines(f"{'preprocessing':24} {made.data['preprocessing']}")
    for name, value in made.record.metrics.items():
        print_lines(f"{name:24} {value:.4f}")
    print_lines(str(made.path))
