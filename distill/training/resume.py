"""Save and load the resume point of a training run: tensors and plain values in one file.

The file has the format safetensors, which holds no code. Its header has the sha256 of the file itself.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load as from_safetensors
from safetensors.torch import save as to_safetensors
from torch import Tensor

from distill.system.files import replace_file

_STATE = "state"
"""Key in the header of the file under which the form of the state is stored as JSON."""
_DIGEST = "sha256"
"""Key in the header of the file under which the digest of the file is stored."""
_BLANK = b"-" * 64
"""Text in place of the digest while the digest is computed."""


def save(path: Path, state: dict[str, Any]) -> None:
    """Write a state so that a reader, even after a crash, finds either the old state or the new one whole.

    Args:
        path: file to write.
        state: dicts, lists and tuples of tensors, dtypes, numbers, texts, truth values and None. Keys are texts or
            whole numbers. Tensors may have any dtype, shape and order in memory; a tensor that has two names stays
            one tensor.

    Raises:
        TypeError: the state holds something else.
    """
    writer = _Writer()
    form = json.dumps(writer.form(state))
    blank = to_safetensors(writer.tensors, {_STATE: form, _DIGEST: _BLANK.decode()})
    digest = hashlib.sha256(blank).hexdigest().encode()
    replace_file(path, blank.replace(_entry(_BLANK), _entry(digest), 1))


def load(path: Path, device: str) -> dict[str, Any]:
    """Load the state that `save` wrote, with tensors on `device` and in their original memory layout.

    Raises:
        Exception: the file is damaged or not ours. Nothing in the file can run.
    """
    whole = path.read_bytes()
    header = json.loads(whole[8 : 8 + int.from_bytes(whole[:8], "little")])["__metadata__"]
    blank = whole.replace(_entry(header[_DIGEST].encode()), _entry(_BLANK), 1)
    if hashlib.sha256(blank).hexdigest() != header[_DIGEST]:
        raise ValueError("its digest differs, so the file is damaged")
    # Copied, since the memory of a tensor from safetensors need not begin where torch's own memory would.
    tensors = {name: tensor.to(device, copy=True) for name, tensor in from_safetensors(whole).items()}
    return _value(json.loads(header[_STATE]), tensors)


def _entry(digest: bytes) -> bytes:
    """Return, as bytes, how the header of a resume file spells the file's digest: its key and value in JSON."""
    return b'"%s":"%s"' % (_DIGEST.encode(), digest)


class _Writer:
    """Turn a state into JSON, and collect the tensors that the JSON names."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self._names: dict[Any, str] = {}
        self._memory: set[int] = set()

    def form(self, value: Any) -> Any:
        """Return a plain value as it is, and any other value as an object with one key that says what it is."""
        match value:
            case None | bool() | int() | float() | str():
                return value
            case Tensor():
                return {"tensor": self._tensor(value.detach())}
            case torch.dtype():
                return {"dtype": str(value).removeprefix("torch.")}
            case dict():  # pairs, since JSON would turn keys that are whole numbers (an optimiser's) into texts
                return {"dict": [[_key(name), self.form(item)] for name, item in value.items()]}
            case list():
                return {"list": [self.form(item) for item in value]}
            case tuple():
                return {"tuple": [self.form(item) for item in value]}
        raise TypeError(f"a {type(value).__name__} cannot be in a resume point")

    def _tensor(self, tensor: Tensor) -> dict[str, Any]:
        """Return the name of a tensor, and its axes in the order in which they lie in memory."""
        axes = sorted(range(tensor.ndim), key=lambda axis: -tensor.stride(axis))
        same = (tensor.device, tensor.data_ptr(), tensor.dtype, tensor.shape, tensor.stride())
        name = self._names.get(same) if tensor.numel() else None
        if name is None:
            name = self._names[same] = str(len(self.tensors))
            self.tensors[name] = self._own(tensor.permute(axes))
        return {"name": name, "axes": axes, "complex": tensor.is_complex()}

    def _own(self, tensor: Tensor) -> Tensor:
        """Return the tensor on the CPU, contiguous, in memory that no other tensor of the file uses."""
        plain = torch.view_as_real(tensor.resolve_conj()) if tensor.is_complex() else tensor
        own = plain.cpu().contiguous()
        if own.untyped_storage().data_ptr() in self._memory:
            own = own.clone()
        self._memory.add(own.untyped_storage().data_ptr())
        return own


def _key(name: Any) -> str | int:
    if not isinstance(name, str | int):
        raise TypeError(f"a {type(name).__name__} cannot be a key in a resume point")
    return name


def _value(form: Any, tensors: dict[str, Tensor]) -> Any:
    """Return the value that was turned into this JSON by `_Writer.form`."""
    if not isinstance(form, dict):
        return form
    ((kind, inside),) = form.items()
    match kind:
        case "tensor":
            tensor, axes = tensors[inside["name"]], inside["axes"]
            tensor = torch.view_as_complex(tensor) if inside["complex"] else tensor
            return tensor.permute([axes.index(axis) for axis in range(len(axes))])
        case "dtype":
            if isinstance(dtype := getattr(torch, inside), torch.dtype):
                return dtype
        case "dict":
            return {name: _value(item, tensors) for name, item in inside}
        case "list":
            return [_value(item, tensors) for item in inside]
        case "tuple":
            return tuple(_value(item, tensors) for item in inside)
    raise ValueError(f"a {kind} is nothing that a resume point holds")
