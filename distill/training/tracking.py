"""What a training run tells while it runs: JSONL (the truth) and TensorBoard (the window on it).

`loss/*` is what is minimised. Its scale depends on smoothing, alpha and temperature, so runs that differ in them
are compared by `train/nll` and `held_out/nll`, the NLL of hard labels, which every run logs.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from tqdm import tqdm

from distill.system.files import replace_file
from distill.system.progress import Warned, pass_on
from distill.system.reading import read_json_lines

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from distill.training.event_file import Board

METRICS = "metrics.jsonl"
_COMPARE = (
    "`loss/*` is what is minimised: its scale depends on smoothing, alpha and temperature. Compare runs by "
    "`train/nll` and `held_out/nll`, the NLL of hard labels."
)
_CHARTS = {
    "labels": {
        "confidence on training data, and what its targets allow": (
            "Multiline",
            ["train/confidence$", "train/confidence_ceiling$"],
        ),
        "NLL of hard labels: compare runs of different smoothing by this, not by their loss": (
            "Multiline",
            ["train/nll$", "held_out/nll$"],
        ),
    }
}
_SHOWN = 3
_shown: Counter[str] = Counter()


def warn(kind: str, text: str) -> None:
    """One line on stderr that spares a progress bar; of one kind the first three of a process and its workers."""
    if pass_on(Warned(kind, text)):
        return
    _shown[kind] += 1
    if _shown[kind] > _SHOWN:
        return
    rest = " (More like this: only in TensorBoard and warnings.json.)" if _shown[kind] == _SHOWN else ""
    tqdm.write(f"warning: {text}{rest}", file=sys.stderr)


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """What a run logged: one dict for each logged step, in order; none of a run that logged nothing."""
    path = folder / METRICS
    return read_json_lines(path, finite=False) if path.exists() else []


def board(folder: Path, purge_step: int | None = None) -> Board:
    """What writes a TensorBoard log to a folder; one that cannot be written costs a warning, and the log.

    Events of `purge_step` and later, in older files of the folder, are hidden.
    """
    from distill.training.event_file import Board

    def failed(error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        warn("TensorBoard", f"no TensorBoard log from here on ({where}{error.strerror}); all else is written")

    return Board(folder, failed, purge_step)


class MetricWriter:
    """Writes `metrics.jsonl` and `tb/` in one folder; a resumed run drops what lies after its step.

    A folder `tb/` that cannot be written costs a warning and the window, not the run.
    """

    def __init__(self, folder: Path, start_step: int = 0):
        self._path = folder / METRICS
        if not start_step:  # of a run that was killed before its first resume point
            shutil.rmtree(folder / "tb", ignore_errors=True)
            self._path.unlink(missing_ok=True)
        kept = self._path.read_text().splitlines(keepends=True) if self._path.exists() else []
        # A killed process may leave half a line; it is after the resume point, so it goes too.
        whole = [line for line in kept if line.endswith("\n") and json.loads(line)["step"] <= start_step]
        replace_file(self._path, "".join(whole).encode())
        self._file = self._path.open("a")
        self.tensorboard = board(folder / "tb", start_step + 1 if start_step else None)

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.tensorboard.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """One line of JSONL, and one TensorBoard scalar per value."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()
        for name, value in values.items():
            self.tensorboard.add_scalar(name, value, step)
        self.tensorboard.flush()

    def sync(self) -> None:
        """What was logged is on the disk after this: before a resume point is, which would go on after it."""
        os.fsync(self._file.fileno())

    def histogram(self, step: int, name: str, values: Float[Tensor, ...]) -> None:
        """One TensorBoard histogram of 64 equal bins, counted where the values lie."""
        import torch

        # Not `add_histogram`: it goes through numpy's BLAS, whose threads then spin through the next steps.
        low, high = torch.aminmax(values)
        edges = torch.linspace(float(low), float(high), 65).tolist()
        self.tensorboard.add_histogram_raw(
            name,
            min=float(low),
            max=float(high),
            num=values.numel(),
            sum=float(values.sum()),
            sum_squares=float(values.square().sum()),
            bucket_limits=edges[1:],
            bucket_counts=torch.histc(values, 64, float(low), float(high)).tolist(),
            global_step=step,
        )

    def figure(self, step: int, name: str, figure: Any) -> None:
        """One TensorBoard image of a matplotlib figure."""
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.tensorboard.add_image(name, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        """One TensorBoard text, in Markdown."""
        self.tensorboard.add_text(name, text, step)

    def explain(self) -> None:
        """Charts that show together what belongs together, and how losses are compared; once for a run."""
        self.tensorboard.add_custom_scalars(_CHARTS)
        self.text(0, "loss/compare", _COMPARE)

    def hparams(self, config: Mapping[str, Any], metrics: Mapping[str, float]) -> None:
        """One row of TensorBoard's HParams table, in this run's own folder so that runs compare in one table."""
        from torch.utils.tensorboard.summary import hparams

        row = {name: value for name, value in _flat(config) if isinstance(value, bool | int | float | str)}
        for summary in hparams(row, dict.fromkeys(metrics, 0.0)):
            self.tensorboard._get_file_writer().add_summary(summary)  # add_hparams would open a second run
        for name, value in metrics.items():
            self.tensorboard.add_scalar(name, value)


def _flat(config: Mapping[str, Any], prefix: str = "") -> list[tuple[str, Any]]:
    rows = []
    for name, value in config.items():
        inner = isinstance(value, Mapping)
        rows += _flat(value, f"{prefix}{name}.") if inner else [(prefix + name, value)]
    return rows
