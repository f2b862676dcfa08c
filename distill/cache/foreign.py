"""Read logits that were made elsewhere, slice by slice: an array, or the mean of several teachers' arrays.

Nothing is unpickled, and each row that is read is checked against the kind of values that it should hold. `tinyvit`
reads files of the k largest probabilities.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, get_args

import numpy as np
import torch
from numpy.lib.npyio import NpzFile
from safetensors import safe_open

from distill.cache.ensemble import averaged
from distill.config import Mean, Values
from distill.errors import UserError
from distill.system.reading import check_safetensors, map_array, most_open_maps, parse_json, read_npy_header

if TYPE_CHECKING:
    from jaxtyping import Float32, Float64, Int64
    from torch import Tensor

PATHS = "paths"
"""Name of the array of a `.npz` that holds the name of each row's image."""
SUFFIXES = (".npy", ".npz", ".safetensors")
# The rounding of thousands of float16 classes can add up to this distance.
SUM_TOLERANCE = 1e-2
"""Largest distance from 1 of the sum of a row of probabilities."""
_LOG_SUM_TOLERANCE = {"bfloat16": 5e-2}
_SAMPLE, _SAMPLE_VALUES = 1024, 1 << 22
"""Largest number of rows, and about the largest number of values, that are read to tell the kind of the values."""
_SMALLEST = {"float16": -24, "bfloat16": -133, "float32": -149, "float64": -1074}
"""log2 of the smallest positive number of each type."""
NPZ_RATIO, NPZ_BYTES = 100, 1 << 30
"""An array in a .npz, which is read whole, may be this many times as large as its file, or take this many bytes."""
_SAFETENSORS_TYPES = {"F16": "<f2", "F32": "<f4", "F64": "<f8", "BF16": "<u2"}


def log_floor(dtype: str) -> float:
    """Return the logarithm that replaces log 0 where probabilities were stored as `dtype`.

    Probabilities below half the smallest positive number become 0. So half of this number is the largest
    probability that a zero can stand for: log 2⁻²⁵ = -17.3 for float16.
    """
    return (_SMALLEST[dtype] - 1) * math.log(2)


class ArrayFile:
    """Open one array [rows, classes] or [rows, views, classes] of a `.npy`, `.npz` or `.safetensors` file.

    `.npy` and `.safetensors` are mapped into memory; `.npz`, which may be compressed, is read into it.

    Attributes:
        array: array as it is stored; bfloat16, which numpy does not have, as its bits.
        dtype: float16, float32, float64 or bfloat16.
        shape: rows, views and classes.

    Raises:
        UserError: the file is damaged, holds no array or several without one named logits, or holds an array of
            another type or rank.
    """

    def __init__(self, path: Path):
        self.path = path
        self.array, self.dtype = _open_array(path)
        if self.array.ndim not in (2, 3) or 0 in self.array.shape:
            expected = "shape [rows, classes] or [rows, views, classes], none of them 0"
            value = f"{path.name} of shape {list(self.array.shape)}"
            raise UserError("files", value, expected, "Transpose or reshape the array.")
        views = self.array.shape[1] if self.array.ndim == 3 else 1
        self.shape = (self.array.shape[0], views, self.array.shape[-1])

    def read(self, index: Int64[np.ndarray, " b"], view: int) -> Float64[np.ndarray, "b k"]:
        """Return the values of these rows in one view.

        Raises:
            UserError: a value is not finite.
        """
        stored = self.array[index] if self.array.ndim == 2 else self.array[index, view]
        if self.dtype == "bfloat16":  # its bits are the upper half of a float32
            stored = (stored.astype(np.uint32) << 16).view(np.float32)
        values = stored.astype(np.float64)
        wrong = ~np.isfinite(values).all(1)
        if wrong.any():
            value = f"{self.path.name} with inf or nan in row {int(index[wrong][0])}"
            raise UserError("files", value, "finite numbers", "Look at the network that made them.")
        return values


class ForeignArrays:
    """Read the logits of one array, or the mean of several teachers' arrays (`ensemble.averaged`).

    Attributes:
        shape: rows, views and classes of every array.
        files: files in the order given.

    Args:
        files: one file for each teacher.
        values: kind of values in the files. Probabilities become logarithms, and zeros become `log_floor`.
        mean: whether probabilities or logits are averaged.
        temperature: temperature at which the probabilities were softened. Their logarithms are multiplied by it,
            before a mean is taken, so that the mean is that of answers at temperature 1.

    Raises:
        UserError: the arrays differ in shape, or hold another kind of values.
    """

    def __init__(
        self,
        files: Sequence[Path],
        values: Values = "logits",
        mean: Mean = "probabilities",
        temperature: float = 1.0,
    ):
        self.files = tuple(files)
        self._array = lru_cache(most_open_maps())(ArrayFile)
        self._values: Values = values
        self._mean: Mean = mean
        self._temperature = temperature
        self.shape = self._array(files[0]).shape
        for array in map(self._array, self.files):
            if array.shape != self.shape:
                value = f"{array.path.name} of shape {list(array.shape)}"
                expected = f"the shape of {files[0].name}, {list(self.shape)} (rows, views, classes)"
                raise UserError("files", value, expected, "Give arrays of the same images and classes.")
            _refuse_other_kind(array, values)

    def rows(self, index: Int64[np.ndarray, " b"], view: int) -> Float32[Tensor, "b k"]:
        """Return the logits of these rows in one view, computed in float64.

        Raises:
            UserError: a row does not hold the declared kind of values, or does not fit float32.
        """
        arrays = map(self._array, self.files)
        exact = averaged([torch.from_numpy(self._logits(array, index, view)) for array in arrays], self._mean)
        logits = exact.float()
        if not torch.isfinite(logits).all():
            value = f"{self.files[0].name} with logits up to {float(exact.abs().max()):.3g}"
            raise UserError("files", value, "logits that fit float32", "Look at the network that made them.")
        return logits

    def _logits(self, array: ArrayFile, index: Int64[np.ndarray, " b"], view: int) -> Float64[np.ndarray, "b k"]:
        values = array.read(index, view)
        if self._values == "logits":
            return values
        wrong = ~_are(self._values, values, array.dtype)
        if wrong.any():
            expected = "logarithms of probabilities whose sum is 1"
            if self._values == "probabilities":
                expected = f"probabilities: none negative, a sum of 1 within {SUM_TOLERANCE}"
            value = f"{array.path.name}, row {int(index[wrong][0])}, view {view}"
            raise UserError("files", value, expected, "Normalise the rows, or store logits with `values=logits`.")
        if self._values == "probabilities":
            values = np.log(values, out=np.full_like(values, log_floor(array.dtype)), where=values > 0)
        return self._temperature * values


def _are(values: Values, rows: Float64[np.ndarray, "b k"], dtype: str) -> np.ndarray:
    """Tell for each row of an array whether its numbers can be what the user declared, such as probabilities."""
    if values == "logits":
        return np.ones(len(rows), dtype=bool)
    if values == "probabilities":
        return (rows >= 0).all(1) & (np.abs(rows.sum(1) - 1) <= SUM_TOLERANCE)
    tolerance = _LOG_SUM_TOLERANCE.get(dtype, SUM_TOLERANCE)
    return (rows <= tolerance).all(1) & (np.abs(np.logaddexp.reduce(rows, axis=1)) <= tolerance)


def _refuse_other_kind(array: ArrayFile, values: Values) -> None:
    """Refuse probabilities that are declared as logits, and logits that are declared as probabilities."""
    count, _, classes = array.shape
    if classes < 2:
        return
    sampled = min(count, _SAMPLE, max(64, _SAMPLE_VALUES // classes))
    rows = array.read(np.linspace(0, count - 1, sampled).astype(np.int64), 0)
    # Log-probabilities are logits, so they may be called so.
    kinds: tuple[Values, ...] = ("probabilities",) if values == "logits" else (values, *get_args(Values))
    looks = next((kind for kind in kinds if kind != "logits" and _are(kind, rows, array.dtype).all()), "logits")
    if looks != values:
        expected = f"what {array.path.name} holds, which looks like {looks}"
        raise UserError("values", values, expected, f"Set `values={looks}`, or give another file.")


def _open_array(path: Path) -> tuple[np.ndarray, str]:
    """Open the array of a file and name its type; bfloat16, which numpy lacks, is returned as its bits."""
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


def check_member(path: Path, archive: NpzFile, name: str) -> None:
    """Refuse an array of a `.npz` that is much larger than its file, or that holds something else than it says.

    Raises:
        UserError: the array is too large.
        ValueError: the array is damaged, or holds objects.
    """
    assert archive.zip is not None
    member = next(info for info in archive.zip.infolist() if info.filename in (name, f"{name}.npy"))
    most = max(NPZ_BYTES, NPZ_RATIO * path.stat().st_size)
    if member.file_size > most:
        value, expected = f"{path.name} with {member.file_size:,} bytes inside", f"at most {most:,}"
        raise UserError("files", value, expected, "Save it with numpy.save: a .npy file is not read whole.")
    with archive.zip.open(member) as inside:
        shape, dtype, start, _ = read_npy_header(inside)
        if start + math.prod(shape) * dtype.itemsize != member.file_size:
            raise ValueError(f"shape {list(shape)} of {dtype} in {member.file_size:,} bytes")


def _open_npz(path: Path) -> np.ndarray:
    # The file is opened here, since numpy leaves a damaged file open.
    with path.open("rb") as file, NpzFile(file, allow_pickle=False) as archive:
        name = _name_of_logits(path, [name for name in archive.files if name != PATHS])
        check_member(path, archive, name)
        return archive[name]


def _open_safetensors(path: Path) -> tuple[np.ndarray, str]:
    check_safetensors(path)
    with safe_open(path, framework="numpy") as file:  # this checks header and length
        name = _name_of_logits(path, list(file.keys()))
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


def _name_of_logits(path: Path, names: list[str]) -> str:
    if len(names) == 1:
        return names[0]
    if "logits" in names:
        return "logits"
    value = f"{path.name} with arrays {', '.join(names[:4]) or 'none'}"
    raise UserError("files", value, "one array, or one named logits", "Save the logits under this name.")


def _other_type(path: Path, dtype: str) -> UserError:
    expected = "float16, float32, float64 or (in safetensors) bfloat16"
    return UserError("files", f"{path.name} of type {dtype}", expected, "Convert the array.")
