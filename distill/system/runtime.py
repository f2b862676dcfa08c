"""Define where and how fast to run; nothing here may change a number, so nothing here is part of a key."""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Annotated, Literal, Self

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from distill.errors import UserError
from distill.system import ranks, trust
from distill.system.files import expanded

_MOST = 4096
"""Most processes or threads that a run may ask for, more than any machine has cores."""


def default_data_root() -> Path:
    """Return the folder of the data sets: `DISTILL_DATA`, else `data/`."""
    return expanded(Path(os.environ.get("DISTILL_DATA") or "data"))


def default_store() -> Path:
    """Return the folder of the artifacts: `DISTILL_STORE`, else `checkpoints/`."""
    return expanded(Path(os.environ.get("DISTILL_STORE") or "checkpoints"))


def free_bytes(folder: Path) -> int:
    """Return the free bytes on the disk of a folder, which need not exist yet."""
    existing = next(path for path in [folder.absolute(), *folder.absolute().parents] if path.exists())
    return shutil.disk_usage(existing).free


def cores() -> int:
    """Return the number of cores that this process may use."""
    from joblib import cpu_count

    # A container or a scheduler may allow fewer cores than the machine has; joblib knows.
    return max(1, cpu_count() // ranks.on_this_machine())


class Folders(BaseModel):
    """Choose the folders where artifacts and data lie, and whether plug-ins of others are trusted."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    store: Path = Field(default_factory=default_store)
    """Folder of the artifacts (DISTILL_STORE)."""
    data_root: Path = Field(default_factory=default_data_root)
    """Folder of the data sets, in torchvision's layout (DISTILL_DATA)."""
    trust: bool = False
    """Import every plug-in (package.module:function) that a record or a config names; without it, only those that
    flags name, and those that code trusts."""

    _expanded = field_validator("store", "data_root")(expanded)

    @model_validator(mode="after")
    def _trusted(self) -> Self:
        if self.trust:
            trust.trust_everything()
        return self


class Runtime(Folders):
    """Choose the machine, the folders and the switches that leave the numbers alone."""

    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    """Device of the tensors; auto takes cuda, then mps, then cpu."""
    executor: Literal["auto", "inline", "pool", "ray"] = "auto"
    """How stages run: inline one after another, pool side by side on this machine, ray on a cluster; auto takes
    pool where more than one can run at a time."""
    address: str | None = None
    """Address of the Ray cluster to join; None starts a cluster on this machine."""
    gpus: Annotated[float, Field(gt=0)] | None = None
    """GPUs, or the share of one, that a stage asks Ray for; None asks for one where stages run on GPUs."""
    jobs: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    """Stages that run side by side, each in its own process; None takes one per core on a CPU, else 1."""
    threads: Annotated[int, Field(ge=1, le=_MOST)] | None = None
    """CPU threads per process; None shares the cores among the jobs."""
    workers: Annotated[int, Field(ge=0, le=_MOST)] | None = None
    """Processes that run a view program (augment.program) for one stage; None shares the cores among the jobs."""
    channels_last: bool = False
    """Use the channels-last memory format for convolutions; faster on GPUs."""
    compile: bool = False
    """Compile the model with torch.compile; pays for long runs."""
    min_teacher_accuracy: Annotated[float, Field(ge=0, le=1)] | None = None
    """Refuse a cache whose teacher is right on a smaller share of the views; None asks for halfway between chance
    and the held-out accuracy of the teacher."""
    accept_class_order: bool = False
    """Take the classes in the given order, although a teacher's answers fit another order better."""
    checkpoint_seconds: Annotated[float, Field(gt=0)] = 60.0
    """Longest training, in seconds, that is lost when the process is killed outright."""
    progress: bool = True
    """Show progress bars where the output is a terminal or a notebook."""

    def jobs_for(self, stages: int) -> int:
        """Return how many processes to use for a number of independent stages."""
        # Importing torch takes seconds, so it is not imported when the fields already decide.
        if self.jobs is None and self.device != "cpu" and self.torch_device() != "cpu":
            return 1
        # Small nets gain more from processes than from threads.
        return max(1, min(stages, self.jobs or cores()))

    def workers_for(self) -> int:
        """Return how many worker processes render views by a view program; 0 leaves this to the stage's process."""
        if self.workers is not None:
            return self.workers
        return cores() if cores() > 1 else 0

    def torch_device(self) -> str:
        """Return the device to use here; `auto` picks one.

        Raises:
            UserError: this machine does not have the device.
        """
        import torch

        here = {"cuda": torch.cuda.is_available(), "mps": torch.backends.mps.is_available(), "cpu": True}
        present = [name for name, is_here in here.items() if is_here]
        if self.device not in ("auto", *present):
            expected = f"a device of this machine: {', '.join(present)}"
            raise UserError("device", self.device, expected, "Set `device=auto`.")
        return present[0] if self.device == "auto" else self.device
