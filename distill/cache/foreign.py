"""Read logits that were made elsewhere, slice by slice: an array, or the mean of several teachers' arrays.

Every source has `shape` (rows, views, classes) and `rows(index, view)`, which gives float32 logits. Nothing is
unpickled, and each row that is read is checked against the kind of values that it should hold. `tinyvit` reads
files of the k largest probabilities.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from safetensors import safe_open

from distill.cache.ensemble import averaged
from distill.config import Mean, Values
from distill.errors import UserError
from distill.system.reading import check_safetensors, map_array, parse_json, read_npy_header

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64
    from torch import Tensor

SUFFIXES = (".npy", ".npz", ".safetensors")
SUM_TOLERANCE = 1e-2
"""Largest distance from 1 of the sum of a row of probabilities.

The rounding of thousands of float16 classes can add up to this distance.
"""
_LOG_SUM_TOLERANCE = {"bfloat16": 5e-2}
_SAMPLE, _SAMPLE_VALUES = 1024, 1 << 22
"""Largest number of rows, and about the largest number of values, that are read to tell the kind of the values."""
_SMALLEST = {"float16": -24, "bfloat16": -133, "float32": -149, "float64": -1074}
"""log2 of the smallest positive number of each type."""
_NPZ_RATIO, _NPZ_BYTES = 100, 1 << 30
"""Largest ratio of an array in a .npz, which is read whole, to its file, and the bytes that are allowed in any
case."""
_SAFETENSORS_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


class ForeignLogits(Protocol):
    """A source of logits by (row, view), whatever the format of its files."""

    @property
    def shape(self) -> tuple[int, int, int]:
        """The number of rows, views and classes."""
        ...

    def rows(self, index: Int64[np.ndarray, " b"], view: int) -> Float32[Tensor, "b k"]:
        """Return the logits of these rows in one view.

        Raises:
            UserError: a row does not hold the declared kind of values.
        """
        ...


def log_floor(dtype: str) -> float:
    """Return the logarithm that replaces log 0 where probabilities were stored as `dtype`.

    Probabilities below half the smallest positive number become 0. So half of this number is the largest
    probability that a zero can stand for: log 2⁻²⁵ = -17.3 for float16.
    """
    return (_SMALLEST[dtype] - 1) * math.log(2)


class ArrayFile:
    """One array [rows, classes] or [rows, views, classes] of a `.npy`, `.npz` or `.safetensors` file.

    `.npy` and `.safetensors` are mapped into memory; `.npz`, which may be compressed, is read into it.

    Attributes:
        path: the file.
        dtype: float16, float32, float64 or bfloat16.
        shape: rows, views and classes.

    Raises:
        UserError: the file is damaged, holds no array or several without one named logits, or holds an array of
            another type or rank.
    """

    def __init__(self, path: Path):
        self.path = path
        self._array, self.dtype = _open_array(path)
        if self._array.ndim not in (2, 3) or 0 in self._array.shape:
            found = f"{path.name} of shape {list(self._array.shape)}"
            expected = "shape [rows, classes] or [rows, views, classes], none of them 0"
            raise UserError("files", found, expected, "Transpose or reshape the array.")
        views = self._array.shape[1] if self._array.ndim == 3 else 1
        self.shape = (self._array.shape[0], views, self._array.shape[-1])

    def read(self, index: Int64[np.ndarray, " b"], view: int) -> Float64[np.ndarray, "b k"]:
        """Return the stored values.

        Raises:
            UserError: a value is not finite.
        """
        stored = self._array[index] if self._array.ndim == 2 else self._array[index, view]
        if self.dtype == "bfloat16":  # its bits are the upper half of a float32
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        values = stored.astype(np.float64)
        wrong = ~np.isfinite(values).all(1)
        if wrong.any():
            found = f"{self.path.name} with inf or nan in row {int(index[wrong][0])}"
            raise UserError("files", found, "finite numbers", "Look at the network that made them.")
        return values

    def sample(self) -> Float64[np.ndarray, "s k"]:
        """Return some rows of the first view, evenly spaced."""
        count = min(self.shape[0], _SAMPLE, max(64, _SAMPLE_VALUES // self.shape[2]))
        return self.read(np.linspace(0, self.shape[0] - 1, count).astype(np.int64), 0)


class ForeignArrays:
    """One array as it is, or the mean of several teachers' arrays (`ensemble.averaged`).

    Attributes:
        shape: rows, views and classes of every array.
        files: files in the order given.

    Args:
        files: one file for each teacher.
        values: kind of values in the files. Probabilities become logarithms, and zeros become `log_floor`.
        mean: whether probabilities or logits are averaged.

    Raises:
        UserError: the arrays differ in shape, or hold another kind of values.
    """

    def __init__(self, files: Sequence[Path], values: Values = "logits", mean: Mean = "probabilities"):
        self.files = tuple(files)
        self._arrays = [ArrayFile(path) for path in files]
        self._values: Values = values
        self._mean: Mean = mean
        self.shape = self._arrays[0].shape
        for array in self._arrays:
            if array.shape != self.shape:
                found = f"{array.path.name} of shape {list(array.shape)}"
                expected = f"the shape of {self._arrays[0].path.name}, {list(self.shape)} (rows, views, classes)"
                raise UserError("files", found, expected, "Give arrays of the same images and classes.")
            _refuse_other_kind(array, values)

    def rows(self, index: Int64[np.ndarray, " b"], view: int) -> Float32[Tensor, "b k"]:
        """Return the logits of these rows in one view, computed in float64.

        Raises:
            UserError: a row does not hold the declared kind of values, or does not fit float32.
        """
        each = [torch.from_numpy(self._logits(array, index, view)) for array in self._arrays]
        combined = averaged(each, self._mean)
        logits = combined.float()
        if not torch.isfinite(logits).all():
            found = f"{self._arrays[0].path.name} with logits up to {float(combined.abs().max()):.3g}"
            raise UserError("files", found, "logits that fit float32", "Look at the network that made them.")
        return logits

    def _logits(self, array: ArrayFile, index: Int64[np.ndarray, " b"], view: int) -> Float64[np.ndarray, "b k"]:
        values = array.read(index, view)
        if self._values == "logits":
            return values
        wrong = ~_are(self._values, values, array.dtype)
        if wrong.any():
            found = f"{array.path.name}, row {int(index[wrong][0])}, view {view}"
            expected = {
                "probabilities": f"probabilities: none negative, a sum of 1 within {SUM_TOLERANCE}",
                "log-probabilities": "logarithms of probabilities whose sum is 1",
            }[self._values]
            raise UserError("files", found, expected, "Normalise the rows, or store logits: --values logits.")
        if self._values == "log-probabilities":
            return values
        return np.log(values, out=np.full_like(values, log_floor(array.dtype)), where=values > 0)


def _are(values: Values, rows: Float64[np.ndarray, "b k"], dtype: str) -> np.ndarray:
    """Say for each row whether it can hold this kind of values."""
    if values == "logits":
        return np.ones(len(rows), dtype=bool)
    if values == "probabilities":
        return (rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) <= SUM_TOLERANCE)
    tolerance = _LOG_SUM_TOLERANCE.get(dtype, SUM_TOLERANCE)
    return (rows <= tolerance).all(1) & (np.abs(np.logaddexp.reduce(rows, axis=1)) <= tolerance)


def _refuse_other_kind(array: ArrayFile, values: Values) -> None:
    """Refuse probabilities that are called logits, or the reverse: the usual mistake.

    Log-probabilities may be called logits, because they are logits.
    """
    sample = array.sample()
    if array.shape[2] < 2 or (values != "logits" and _are(values, sample, array.dtype).all()):
        return
    looks: Values = "logits"
    if _are("probabilities", sample, array.dtype).all():
        looks = "probabilities"
    elif values != "logits" and _are("log-probabilities", sample, array.dtype).all():
        looks = "log-probabilities"
    if looks != values:
        expected = f"what {array.path.name} holds, which looks like {looks}"
        raise UserError("values", values, expected, f"Say --values {looks}, or give another file.")


def _open_array(path: Path) -> tuple[np.ndarray, str]:
    """Open the array of a file, and name its type; bfloat16, which numpy does not have, comes as its bits."""
    if path.suffix not in SUFFIXES or not path.is_file():
        expected = f"an existing {', '.join(SUFFIXES)} file, or folders logits_top<k>_epoch<e> of TinyViT"
        raise UserError("files", str(path), expected, "Check the path, or save the array with numpy.save.")
    try:
        if path.suffix == ".safetensors":
            return _open_safetensors(path)
        array = map_array(path) if path.suffix == ".npy" else _open_npz(path)
    except UserError:
        raise
    except Exception as error:  # zipfile, numpy and safetensors raise a dozen types for damaged bytes
        expected = f"a whole {path.suffix} file of numbers"
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError("files", str(path), expected, f"Save it again ({reason}).") from error
    dtype = array.dtype.newbyteorder("=").name
    if dtype not in _SMALLEST:
        raise _other_type(path, dtype)
    return array, dtype


def _open_npz(path: Path) -> np.ndarray:
    # The file is opened here, since numpy leaves a damaged file open.
    with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        name = _the_one(path, archive.files)
        assert archive.zip is not None
        member = next(info for info in archive.zip.infolist() if info.filename in (name, f"{name}.npy"))
        most = max(_NPZ_BYTES, _NPZ_RATIO * path.stat().st_size)
        if member.file_size > most:
            value, expected = f"{path.name} with {member.file_size:,} bytes inside", f"at most {most:,}"
            raise UserError("files", value, expected, "Save it with numpy.save: a .npy file is not read whole.")
        with archive.zip.open(member) as inside:
            shape, dtype, start, _ = read_npy_header(inside)
            if start + math.prod(shape) * dtype.itemsize != member.file_size:
                raise ValueError(f"shape {list(shape)} of {dtype} in {member.file_size:,} bytes")
        return archive[name]


def _open_safetensors(path: Path) -> tuple[np.ndarray, str]:
    check_safetensors(path)
    with safe_open(path, framework="numpy") as file:  # this checks header and length
        name = _the_one(path, list(file.keys()))
    with path.open("rb") as file:
        (length,) = struct.unpack("<Q", file.read(8))
        entry = parse_json(file.read(length), str(path))[name]
    if entry["dtype"] not in _SAFETENSORS_TYPES:
        raise _other_type(path, entry["dtype"])
    dtype, shape = np.dtype(_SAFETENSORS_TYPES[entry["dtype"]]), tuple(entry["shape"])
    if 0 in shape:  # an empty array cannot be mapped
        return np.empty(shape, dtype), "float32"
    array = np.memmap(path, dtype, "r", 8 + length + entry["data_offsets"][0], shape)
    return array, "bfloat16" if entry["dtype"] == "BF16" else dtype.name


def _the_one(path: Path, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if "logits" in names:
        return "logits"
    found = f"{path.name} with arrays {', '.join(names[:4]) or 'none'}"
    raise UserError("files", found, "one array, or one named logits", "Name it so when it is saved.")


def _other_type(path: Path, dtype: str) -> UserError:
    expected = "float16, float32, float64 or (in safetensors) bfloat16"
    return UserError("files", f"{path.name} of type {dtype}", expected, "Convert the array.")
