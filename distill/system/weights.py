"""Read the weights of a network from a file that somebody else wrote; no code in the file is run."""

from __future__ import annotations

import argparse
import pathlib
import pickle
import re
import zipfile
from collections.abc import Collection, Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from distill.errors import UserError
from distill.system.reading import check_safetensors

if TYPE_CHECKING:
    from torch import Tensor

_NESTED = ("state_dict", "model_state_dict", "model_state", "model", "net", "network", "weights", "params")
"""Names under which checkpoints keep the weights beside other things, the plainest first."""
_AVERAGED = ("state_dict_ema", "model_ema", "ema_state_dict", "model_ema_state_dict", "ema", "params_ema")
"""Names under which checkpoints keep averaged weights."""
_PREFIXES = ("module.", "_orig_mod.", "model.", "network.")
"""What wrappers write in front of every name."""
_DEEPEST = 3
"""Most mappings around the weights."""
_UNKNOWN = re.compile(
    r"unsupported (?:global|class|function)[^\n]*?(?:GLOBAL )?([a-z_][\w.]*\.[a-z_]\w*)", re.IGNORECASE
)
_SAVE = (
    "Save its state dict where you trust the file: `import torch; net = torch.load(FILE, weights_only=False); "
    "torch.save(net.state_dict(), 'weights.pth')`, with torch.load(...)['model'] or the like if the network is "
    "one part of it."
)


def read_weights(path: Path, ema: bool = False) -> dict[str, Tensor]:
    """Read the weights in a `.safetensors` file or a checkpoint of torch: name → tensor on the CPU.

    A checkpoint may hold the weights plainly, or beside other things under a usual name. Tensors may be mapped from
    the file, so that it has to stay as it is while they are used.

    Args:
        path: the file.
        ema: take the averaged weights.

    Raises:
        UserError: the file cannot be read without running code, is damaged, or holds no such weights.
    """
    if not path.is_file():
        raise UserError("file", str(path), "a file of weights", "Check the path.")
    if path.suffix == ".safetensors":
        if ema:
            expected = "false for a .safetensors file, which holds one set of weights"
            raise UserError("ema", True, expected, "Drop `ema`, or give the checkpoint.")
        return _read_safetensors(path)
    loaded = _load(path)
    return _tensors(_averaged(loaded, path) if ema else _last(loaded), path)


def without_wrappers(weights: Mapping[str, Tensor], wanted: Collection[str]) -> dict[str, Tensor]:
    """Return weights without the prefixes that wrappers wrote in front of all names, unless names have them.

    Args:
        weights: name → tensor.
        wanted: names of the network.
    """
    weights = dict(weights)
    while weights and not weights.keys() & set(wanted):
        prefix = next((each for each in _PREFIXES if all(name.startswith(each) for name in weights)), None)
        if prefix is None:
            break
        weights = {name.removeprefix(prefix): tensor for name, tensor in weights.items()}
    return weights


def _read_safetensors(path: Path) -> dict[str, Tensor]:
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    check_safetensors(path)
    try:
        return load_file(path)
    except SafetensorError as error:
        raise _damaged(path, error) from error


def _load(path: Path) -> Any:
    """Load a checkpoint of torch, of nothing but tensors, numbers, texts and a few harmless types."""
    import torch

    _refuse_packed(path)
    try:
        with _harmless():
            # Only the pages of tensors that are used are read from a mapped file; the oldest format has no map.
            return torch.load(path, map_location="cpu", weights_only=True, mmap=zipfile.is_zipfile(path))
    except pickle.UnpicklingError as error:
        if (found := _UNKNOWN.search(str(error))) is None:
            raise _damaged(path, error) from error
        expected = "a state dict, names with tensors, since to load anything else would run code"
        value = f"{path}, which needs {found[1]}"
        raise UserError("file", value, expected, _SAVE) from error
    except Exception as error:  # torch raises a dozen types for damaged bytes
        raise _damaged(path, error) from error


def _harmless() -> AbstractContextManager[Any]:
    """Allow types that training scripts put beside weights and that only hold values."""
    import numpy as np
    import torch

    scalars: list[Any] = [np.dtype, type(np.dtype("f8")), type(np.dtype("f4")), type(np.dtype("i8"))]
    # numpy 1 wrote another name of the function that makes a number.
    scalar = np.float64(0).__reduce__()[0]
    scalars += [scalar, (scalar, "numpy.core.multiarray.scalar")]
    paths = [pathlib.PurePosixPath, pathlib.PosixPath]
    named = [(each, f"pathlib.{each.__name__}") for each in paths]
    return torch.serialization.safe_globals([argparse.Namespace, *paths, *named, *scalars])


def _refuse_packed(path: Path) -> None:
    """Refuse a checkpoint that declares more bytes than its file has: torch stores tensors without compression."""
    if not zipfile.is_zipfile(path):
        return
    try:
        with zipfile.ZipFile(path) as archive:
            declared = sum(member.file_size for member in archive.infolist())
    except Exception as error:  # zipfile raises many types for damaged bytes
        raise _damaged(path, error) from error
    if declared > (size := path.stat().st_size):
        expected = f"at most the {size:,} of the file"
        raise UserError("file", f"{path} with {declared:,} bytes inside", expected, "Save it with torch.save.")


def _last(loaded: Any) -> Any:
    """Return the mapping of names to tensors inside of what was loaded, or what was loaded if there is none."""
    for _ in range(_DEEPEST):
        if not isinstance(loaded, Mapping):
            return loaded
        # Beside the weights there may be tensors too, such as the best accuracy.
        inner = next((loaded[name] for name in _NESTED if isinstance(loaded.get(name), Mapping)), None)
        if inner is None:
            return loaded
        loaded = inner
    return loaded


def _averaged(loaded: Any, path: Path) -> Any:
    names = [name for name in _AVERAGED if isinstance(loaded, Mapping) and isinstance(loaded.get(name), Mapping)]
    if not names:
        has = ", ".join(map(str, list(loaded)[:6])) if isinstance(loaded, Mapping) else type(loaded).__name__
        expected = f"averaged weights inside, under one of {', '.join(_AVERAGED)}"
        raise UserError("file", f"{path} with {has or 'nothing'}", expected, "Drop `ema`, or give another file.")
    averaged = _last(loaded[names[0]])
    # torch.optim.swa_utils counts its updates beside the weights.
    return {name: value for name, value in averaged.items() if name != "n_averaged"}


def _tensors(found: Any, path: Path) -> dict[str, Tensor]:
    from torch import Tensor, strided

    expected = "a state dict, names with tensors, plainly or under a name such as state_dict or model"
    if not isinstance(found, Mapping) or not found:
        raise UserError("file", f"{path} with a {type(found).__name__}", expected, _SAVE)
    for name, value in found.items():
        is_plain = isinstance(value, Tensor) and value.layout == strided and not value.is_quantized
        if not isinstance(name, str) or not is_plain:
            kind = type(value).__name__ if not isinstance(value, Tensor) else "sparse or quantized tensor"
            names = ", ".join(map(str, list(found)[:6]))
            raise UserError("file", f"{path}, {name!r}, a {kind}, among {names}", expected, _SAVE)
    return {name: value.detach() for name, value in found.items()}


def _damaged(path: Path, error: Exception) -> UserError:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0][:200]
    expected = "a whole file of weights: .safetensors, or a checkpoint of torch.save"
    return UserError("file", f"{path}: {reason}", expected, "Get it again from where it came, or save it again.")
