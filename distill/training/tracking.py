"""Log a training run while it runs: to JSONL, which the code reads, and to TensorBoard, for people.

The loss that is minimised is logged as `loss/*`. Its scale depends on smoothing, alpha and temperature, so runs
that differ in them are compared by `train/nll` and `held_out/nll`, the NLL of hard labels, which every run logs.
"""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from distill.config import StudentConfig, TeacherConfig
from distill.system.files import replace_file
from distill.system.progress import Warned, pass_on, write_line
from distill.system.reading import read_json_lines
from distill.training.charts import RENAMED, explained, layout

if TYPE_CHECKING:
    from jaxtyping import Float
    from torch import Tensor

    from distill.training.event_file import SafeSummaryWriter

METRICS = "metrics.jsonl"
_SHOWN = 3
_shown: Counter[str] = Counter()


def warn(kind: str, text: str) -> None:
    """Print a warning on stderr without breaking a progress bar; of each kind only the first three are printed.

    Warnings of the workers of a process count as its own.
    """
    if pass_on(Warned(kind, text)):
        return
    _shown[kind] += 1
    if _shown[kind] > _SHOWN:
        return
    rest = " (More like this: only in TensorBoard and warnings.json.)" if _shown[kind] == _SHOWN else ""
    write_line(f"warning: {text}{rest}")


def read_metrics(folder: Path) -> list[dict[str, float]]:
    """Return what a run logged: one dict per logged step, in order; an empty list if it logged nothing."""
    path = folder / METRICS
    return read_json_lines(path) if path.exists() else []


def summary_writer(folder: Path, purge_step: int | None = None) -> SafeSummaryWriter:
    """Return a writer of a TensorBoard log; if the log cannot be written, it warns and drops the rest of the log.

    Events of `purge_step` and later, in older files of the folder, are hidden.
    """
    from distill.training.event_file import SafeSummaryWriter

    def failed(error: OSError) -> None:
        where = f"{error.filename}: " if error.filename else ""
        warn("TensorBoard", f"no TensorBoard log from here on ({where}{error.strerror}); all else is written")

    return SafeSummaryWriter(folder, failed, purge_step)


class MetricWriter:
    """Write `metrics.jsonl` and `tb/` in one folder; a resumed run drops the entries after its step.

    If `tb/` cannot be written, the run goes on, with a warning and without a TensorBoard log.
    """

    def __init__(self, folder: Path, start_step: int = 0):
        self.folder = folder
        self._path = folder / METRICS
        if not start_step:  # drop the log of a run that was killed before its first resume point
            shutil.rmtree(folder / "tb", ignore_errors=True)
            self._path.unlink(missing_ok=True)
        kept = self._path.read_text(encoding="utf-8").splitlines(keepends=True) if self._path.exists() else []
        # A killed process may leave half a line. The line is after the resume point, so it is dropped too.
        whole = [line for line in kept if line.endswith("\n") and json.loads(line)["step"] <= start_step]
        replace_file(self._path, "".join(whole).encode())
        self._file = self._path.open("a", encoding="utf-8")
        self.tensorboard = summary_writer(folder / "tb", start_step + 1 if start_step else None)

    def __enter__(self) -> MetricWriter:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()
        self.tensorboard.close()

    def scalars(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line of JSONL, and one TensorBoard scalar per value."""
        self.record(step, values)
        self.charts(step, values)

    def record(self, step: int, values: Mapping[str, float]) -> None:
        """Write one line of JSONL."""
        self._file.write(json.dumps({"step": step, **values}) + "\n")
        self._file.flush()

    def charts(self, step: int, values: Mapping[str, float]) -> None:
        """Write one TensorBoard scalar per value, with the text that its chart shows."""
        for name, value in values.items():
            shown = RENAMED.get(name, name)
            self.tensorboard.add_explained(shown, value, explained(shown), step)
        self.tensorboard.flush()

    def sync(self) -> None:
        """Force the JSONL log onto the disk, before a resume point is written."""
        # A resumed run goes on after its resume point, so the log must reach as far.
        os.fsync(self._file.fileno())

    def histogram(self, step: int, name: str, values: Float[Tensor, ...]) -> None:
        """Write one TensorBoard histogram of 64 equal bins, counted on the device of the values."""
        import torch

        # `add_histogram` is not used: it calls numpy's BLAS, whose threads then spin through the next steps.
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
        """Write a matplotlib figure as a TensorBoard image."""
        import numpy as np
        from matplotlib.backends.backend_agg import FigureCanvasAgg

        canvas = FigureCanvasAgg(figure)
        canvas.draw()
        self.tensorboard.add_image(name, np.asarray(canvas.buffer_rgba())[..., :3], step, dataformats="HWC")

    def text(self, step: int, name: str, text: str) -> None:
        """Write one TensorBoard text, in Markdown."""
        self.tensorboard.add_text(name, text, step)

    def begin(self, config: TeacherConfig | StudentConfig) -> None:
        """Write, once per run, its row of the HParams table and the layout of the tab Custom Scalars."""
        from distill.training import run_table

        self.tensorboard.add_custom_scalars(layout())
        self.tensorboard.add_summary(run_table.columns())
        self.tensorboard.add_summary(run_table.row(config))
