"""Read files that others may have written in bounded time and memory: JSON, text, safetensors and npy.

A size that a file declares is checked against the size of the file before that much memory is taken.
"""

from __future__ import annotations

import codecs
import io
import json
import math
import resource
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
_TOO_DEEP = f"objects and lists inside each other more than {DEPTH} deep"
_INTEGER_DIGITS = 20
"""Most characters of an integer: those of a 64-bit integer with its sign."""
_HEADER_BYTES = 16 << 20
"""Largest safetensors header in bytes, enough for a network of 100,000 tensors."""
_NPY_HEADER_BYTES = 10_000
"""Largest npy header in bytes, which is numpy's own limit."""
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # begins with the mark of UTF-16, so it comes first
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
"""First bytes of a text file that say its encoding → the encoding."""
_MOST_MAPS = 1 << 14
"""Largest number of maps that are open at a time, however many files may be."""
_WAY_OUT = (
    "It is damaged, or of another form: get it again from where it came. What this program made may be deleted."
)


def read_json(path: Path, limit: int = JSON_BYTES) -> Any:
    """Read a JSON file of at most `limit` bytes; its value may take twenty times as much memory.

    Raises:
        UserError: the file is not regular, too large, or JSON that `parse_json` refuses.
        OSError: the file cannot be read.
    """
    return parse_json(read_bytes(path, limit), str(path))


def read_json_lines(path: Path) -> list[Any]:
    """Read one JSON value, which may hold NaN and Infinity, from each line of a file; errors as for `read_json`."""
    lines = read_bytes(path).splitlines()
    return [parse_json(line, f"{path}, line {number}", finite=False) for number, line in enumerate(lines, 1)]


def parse_json(text: bytes | str, source: str, finite: bool = True) -> Any:
    """Parse JSON, and refuse what this program never writes, such as repeated keys, deep nesting or huge integers.

    Args:
        text: the JSON; its length bounds the memory that the value may take.
        source: name of the text in an error.
        finite: also refuse NaN and Infinity.

    Raises:
        UserError: `load_json` refuses the text, or it is not UTF-8.
    """
    try:
        return load_json(text.decode() if isinstance(text, bytes) else text, finite)
    except ValueError as error:
        raise UserError(source, str(error)[:200], "JSON as this program writes it", _WAY_OUT) from error


def load_json(text: str, finite: bool = True) -> Any:
    """Return the value of a JSON text that every program reads alike.

    Raises:
        ValueError: the text is no JSON, is deeper than `DEPTH`, has one key twice in an object, or holds an integer
            of more than 64 bits, half of a surrogate pair or, if `finite` is true, a number that is not finite.
    """
    hooks: dict[str, Any] = {"parse_constant": _finite, "parse_float": _finite} if finite else {}
    try:
        value = json.loads(text, object_pairs_hook=_unique, parse_int=_integer, **hooks)
    except RecursionError:
        raise ValueError(_TOO_DEEP) from None
    _refuse_depth(value, text)
    if "\\ud" in text.lower():
        try:
            json.dumps(value, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise ValueError(r"half of a surrogate pair, such as \ud800, which is no character") from None
    return value


def check_safetensors(path: Path) -> None:
    """Refuse a safetensors file that declares a header longer than the file, or far too long.

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


def _check_form(where: str, form: str, actual: Sequence[Any], lengths: dict[str, int]) -> None:
    wanted = form.split()
    fits = len(wanted) == len(actual) and wanted[0] == actual[0]
    for axis, length in zip(wanted[1:], actual[1:], strict=False):
        fits = fits and length == (int(axis) if axis.isdigit() else lengths.setdefault(axis, length))
    if not fits:
        raise UserError(where, " ".join(map(str, actual)), f"{form} (type and shape)", _WAY_OUT)


def map_array(
    path: Path,
    dtype: np.dtype[Any] | type[Any] | None = None,
    shape: Sequence[int | None] | None = None,
    mode: Literal["r", "c"] = "r",
) -> np.memmap[Any, Any]:
    """Map the numbers of a npy file into memory; they are read only when they are used.

    Args:
        path: the file to map.
        dtype: required type; None takes any type of number.
        shape: required shape in C order, where None takes any length; None takes any shape in any order.
        mode: "r" to read; "c" to change the array in memory only.

    Raises:
        UserError: the file is not regular, is damaged, is longer or shorter than it declares, or has another form.
    """
    import numpy as np

    size = _size(path)
    try:
        with path.open("rb") as file:
            declared, type_, start, fortran = read_npy_header(file)
    except Exception as error:  # numpy, ast and tokenize raise many errors on a forged header
        reason = (str(error).splitlines() or [type(error).__name__])[0][:200]
        raise UserError(str(path), reason, "a whole .npy file of numbers", _WAY_OUT) from error
    needed = start + math.prod(declared) * type_.itemsize
    fits = needed <= size and dtype in (None, type_)
    if shape is not None:
        fits = fits and needed == size and not fortran and len(shape) == len(declared)
        fits = fits and all(wanted in (None, length) for wanted, length in zip(shape, declared, strict=True))
    if not fits:
        value = f"shape {list(declared)} of {type_}{' in Fortran order' if fortran else ''} in {size:,} bytes"
        wanted = "any shape" if shape is None else f"shape {['any' if n is None else n for n in shape]}"
        expected = f"a whole .npy file of {wanted} and {'any type' if dtype is None else np.dtype(dtype)}"
        raise UserError(str(path), value, expected, _WAY_OUT)
    return np.memmap(path, type_, mode, start, declared, "F" if fortran else "C")


def most_open_maps() -> int:
    """Return how many maps may be open at a time: a quarter of the files that the system lets a process open."""
    # Python's map holds its file open, and the system limits the number of maps too, usually to 65,530.
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return _MOST_MAPS if files == resource.RLIM_INFINITY else max(1, min(files // 4, _MOST_MAPS))


def read_npy_header(file: IO[bytes]) -> tuple[tuple[int, ...], np.dtype[Any], int, bool]:
    """Read what a npy file declares: shape, type, offset in bytes of the numbers, and whether in Fortran order.

    Raises:
        Exception: the header is damaged, or declares Python objects.
    """
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
    if dtype.hasobject:
        raise ValueError("Python objects, which can hold code")
    if min(shape, default=0) < 0 or len(shape) > 32 or math.prod(filter(None, shape)) * dtype.itemsize >= 1 << 63:
        raise ValueError("a shape that no array can have")
    return shape, dtype, file.tell(), fortran


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


def read_lines(path: Path, field: str) -> list[str]:
    """Read the lines of a text file that people write, in UTF-8 or in what its first bytes (the mark, BOM) say.

    Args:
        path: the file.
        field: field that names the file, for an error.

    Raises:
        UserError: the file is not regular, is too large, or is no such text.
        OSError: the file cannot be read.
    """
    content = read_bytes(path)
    encoding = next((name for mark, name in _MARKS.items() if content.startswith(mark)), "utf-8")
    at, wrong = content.find(b"\0") if encoding == "utf-8" else -1, "a byte 0"
    text = ""
    try:
        text = content.decode(encoding)
    except UnicodeDecodeError as error:
        at, wrong = error.start, f"the byte 0x{content[error.start]:02x}"
    if at >= 0:
        line = content.count(b"\n", 0, at) + 1
        value = f"{path}, line {line}: {wrong}"
        raise UserError(field, value, "text in UTF-8, or with a mark (BOM) of its encoding", "Save it as UTF-8.")
    return [line.rstrip("\n") for line in io.StringIO(text, newline=None)]


def _size(path: Path) -> int:
    """Return the size in bytes of a regular file; refuse anything else, such as a folder or a pipe."""
    # A pipe or a device would be read for ever.
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise UserError(str(path), "no regular file", "a file", _WAY_OUT)
    return status.st_size


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) < len(pairs):
        names = [name for name, _ in pairs]
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"the key {twice[:40]!r} twice in one object")
    return value


def _integer(text: str) -> int:
    if len(text) > _INTEGER_DIGITS:
        raise ValueError(f"an integer of {len(text):,} digits")
    return int(text)


def _finite(text: str) -> float:
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text[:20]}, which is no finite number")
    return value


def _refuse_depth(value: Any, text: str) -> None:
    """Raise a ValueError if objects and lists are nested deeper than `DEPTH`."""
    if text.count("[") + text.count("{") <= DEPTH:
        return
    # Go level by level: recursion is what has to be avoided.
    level, depth = [value], 0
    while level := [item for item in level if isinstance(item, dict | list)]:
        depth += 1
        if depth > DEPTH:
            raise ValueError(_TOO_DEEP)
        level = [child for item in level for child in (item.values() if isinstance(item, dict) else item)]
