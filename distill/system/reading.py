"""Read files that others may have written in bounded time and memory: JSON, safetensors and npy.

A size that a file declares is checked against the size of the file before that much memory is taken.
"""

from __future__ import annotations

import json
import math
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Literal

from distill.errors import UserError

if TYPE_CHECKING:
    import numpy as np
    from torch import Tensor

JSON_BYTES = 64 << 20
"""Largest JSON file in bytes that is read by default; the largest record of a report has 2 MB."""
DEPTH = 100
"""Largest depth of objects and lists inside each other."""
_INTEGER_DIGITS = 20
"""Most characters of an integer: those of a 64-bit integer with its sign."""
_HEADER_BYTES = 16 << 20
"""Largest safetensors header in bytes, enough for a network of 100,000 tensors."""
_NPY_HEADER_BYTES = 10_000
"""Largest npy header in bytes, which is numpy's own limit."""
_WAY_OUT = "It is damaged, or not what this program wrote: delete it, or fetch it again."


def read_json(path: Path, limit: int = JSON_BYTES, finite: bool = True) -> Any:
    """Read a JSON file.

    Args:
        path: the file to read.
        limit: largest size in bytes; as Python objects the value may take twenty times as much.
        finite: also refuse NaN and Infinity, which are not JSON although Python writes them.

    Raises:
        UserError: the file is not regular, too large, or JSON that `parse_json` refuses.
        OSError: the file cannot be read.
    """
    return parse_json(read_bytes(path, limit), str(path), finite)


def read_json_lines(path: Path, limit: int = JSON_BYTES, finite: bool = True) -> list[Any]:
    """Read one JSON value from each line of a file; arguments and errors are those of `read_json`."""
    lines = read_bytes(path, limit).split(b"\n")
    lines = lines[:-1] if not lines[-1] else lines
    return [parse_json(line, f"{path}, line {number}", finite) for number, line in enumerate(lines, 1)]


def read_text(path: Path, limit: int = JSON_BYTES) -> str:
    """Read a UTF-8 text file.

    Raises:
        UserError: the file is not regular, too large, or no text.
        OSError: the file cannot be read.
    """
    try:
        return read_bytes(path, limit).decode()
    except UnicodeDecodeError as error:
        raise UserError(str(path), f"bytes that are no text ({error.reason})", "text in UTF-8", _WAY_OUT) from error


def parse_json(text: bytes | str, source: str, finite: bool = True) -> Any:
    """Parse JSON, and refuse what no file of this program contains.

    Args:
        text: the JSON; its length bounds the memory that the value may take.
        source: name of the text in an error.
        finite: also refuse NaN and Infinity.

    Raises:
        UserError: the text is no JSON, is deeper than `DEPTH`, has one key twice in an object, or contains a number
            or a string that no file of this program has: an integer of more than 64 bits, infinity, half of a
            surrogate pair.
    """
    hooks: dict[str, Any] = {"parse_constant": _no_constant, "parse_float": _finite} if finite else {}
    try:
        text = text.decode() if isinstance(text, bytes) else text
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, **hooks)
        _refuse_depth(value, text)
        if "\\ud" in text.lower():
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        raise _no_json(source, _too_deep()) from error
    except ValueError as error:
        raise _no_json(source, error) from error
    return value


def check_safetensors(path: Path) -> None:
    """Check the header length that a safetensors file declares, before anything reads that much.

    Raises:
        UserError: the file is not regular, or its header cannot be that long.
    """
    size = _size(path)
    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if size < 8 or length > min(size - 8, _HEADER_BYTES):
        value = f"a header of {length:,} bytes in a file of {size:,}"
        raise UserError(str(path), value, "a whole .safetensors file", _WAY_OUT)


def read_tensors(path: Path, forms: Mapping[str, str]) -> dict[str, Tensor]:
    """Read some tensors of a safetensors file, on the CPU; the rest of the file is not read.

    Args:
        path: the file to read.
        forms: name → required type and shape, such as "F32 n 10" or "I64 n": safetensors' name of the type, then
            each axis as a number or as a letter, which stands for one length wherever it is used.

    Raises:
        UserError: the file is damaged, or a tensor is missing or of another form.
    """
    from safetensors import SafetensorError, safe_open

    check_safetensors(path)
    lengths: dict[str, int] = {}
    try:
        with safe_open(path, framework="pt") as file:
            for name, form in forms.items():
                part = file.get_slice(name)
                _check_form(f"{path}, {name}", form, [part.get_dtype(), *part.get_shape()], lengths)
            return {name: file.get_tensor(name) for name in forms}
    except SafetensorError as error:
        reason = str(error).splitlines()[0][:200]
        raise UserError(str(path), reason, f"a safetensors file with {', '.join(forms)}", _WAY_OUT) from error


def _check_form(where: str, form: str, found: Sequence[Any], lengths: dict[str, int]) -> None:
    wanted = form.split()
    fits = len(wanted) == len(found) and wanted[0] == found[0]
    for axis, length in zip(wanted[1:], found[1:], strict=False):
        fits = fits and length == (int(axis) if axis.isdigit() else lengths.setdefault(axis, length))
    if not fits:
        raise UserError(where, " ".join(map(str, found)), f"{form} (type and shape)", _WAY_OUT)


def map_array(
    path: Path,
    dtype: np.dtype[Any] | type[Any] | None = None,
    shape: Sequence[int | None] | None = None,
    mode: Literal["r", "c"] = "r",
) -> np.memmap[Any, Any]:
    """Map the array of a npy file into memory.

    Args:
        path: the file to map.
        dtype: required dtype, with its byte order; None takes any dtype but Python objects.
        shape: required shape in C order, where None stands for any length; None takes any shape in any order.
        mode: "r" to read; "c" to change the array in memory only.

    Raises:
        UserError: the file is not regular, is damaged, is longer or shorter than it declares, or has another form.
    """
    import numpy as np

    size = _size(path)
    try:
        with path.open("rb") as file:
            declared, fortran, found, start = _npy_header(file)
    except Exception as error:  # numpy, ast and tokenize raise many errors on a forged header
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(str(path), reason, "a whole .npy file of numbers", _WAY_OUT) from error
    if found.hasobject:
        expected = "a whole .npy file of numbers, since objects can hold code"
        raise UserError(str(path), "Python objects", expected, _WAY_OUT)
    needed = start + math.prod(declared) * found.itemsize
    if needed > size or (shape is not None and needed != size):
        value = f"shape {list(declared)} of {found} in {size:,} bytes"
        raise UserError(str(path), value, "a whole .npy file, of as many bytes as it declares", _WAY_OUT)
    if (fortran and shape is not None) or not _fits(declared, shape) or (dtype is not None and found != dtype):
        value = f"shape {list(declared)} of {found}{' in Fortran order' if fortran else ''}"
        expected = "any shape" if shape is None else f"shape {['any' if n is None else n for n in shape]}"
        of_type = "" if dtype is None else f" of {np.dtype(dtype)}"
        raise UserError(str(path), value, expected + of_type, _WAY_OUT)
    return np.memmap(path, found, mode, start, declared, "F" if fortran else "C")


def _fits(declared: tuple[int, ...], shape: Sequence[int | None] | None) -> bool:
    if shape is None:
        return True
    return len(shape) == len(declared) and all(a in (None, b) for a, b in zip(shape, declared, strict=True))


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int]:
    """Return the shape and the dtype that a npy file declares, and the offset in bytes where its numbers begin.

    Raises:
        Exception: the header is damaged.
    """
    shape, _, dtype, start = _npy_header(file)
    return shape, dtype, start


def _npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], bool, np.dtype[Any], int]:
    from numpy.lib import format as npy

    major, _ = npy.read_magic(file)
    start, width = file.tell(), 2 if major == 1 else 4
    length = int.from_bytes(file.read(width), "little")
    if major > 3 or length > _NPY_HEADER_BYTES:
        raise ValueError(f"version {major} with a header of {length:,} bytes")
    file.seek(start)
    # Version 3 is version 2 with field names beyond latin-1, which no array of numbers has.
    read = npy.read_array_header_1_0 if major == 1 else npy.read_array_header_2_0
    shape, fortran, dtype = read(file, max_header_size=_NPY_HEADER_BYTES)
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(filter(None, shape)) * dtype.itemsize >= 1 << 63:
        raise ValueError("a shape that no array can have")
    return shape, fortran, dtype, file.tell()


def read_bytes(path: Path, limit: int = JSON_BYTES) -> bytes:
    """Read a whole file.

    Raises:
        UserError: the file is not regular, or too large.
        OSError: the file cannot be read.
    """
    size = _size(path)
    if size > limit:
        raise UserError(str(path), f"{size:,} bytes", f"at most {limit:,}", _WAY_OUT)
    with path.open("rb") as file:
        return file.read(size)


def _size(path: Path) -> int:
    """Return the size in bytes of a regular file, and refuse any other file."""
    # A pipe or a device would be read for ever.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(str(path), "no regular file", "a file", _WAY_OUT)
    return status.st_size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        raise ValueError("a key twice in one object")
    return found


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]}, which is infinite")
    return value


def _no_constant(text: str) -> float:
    raise ValueError(f"{text}, which is no number")


def _refuse_depth(value: Any, text: str) -> None:
    """Raise a ValueError if objects and lists are nested deeper than `DEPTH`."""
    if text.count("[") + text.count("{") <= DEPTH:
        return
    # Go level by level: recursion is what has to be avoided.
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > DEPTH:
            raise ValueError(_too_deep())
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]


def _too_deep() -> str:
    return f"objects and lists inside each other more than {DEPTH} deep"


def _no_json(source: str, reason: object) -> UserError:
    return UserError(source, str(reason)[:200], "JSON as this program writes it", _WAY_OUT)
