"""Checkpoints that somebody made up: one line, no code is run, no memory is taken that the file does not have."""

from __future__ import annotations

import argparse
import builtins
import io
import json
import os
import pickle
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from torch import nn

from distill.config import AdoptFlags, DataConfig, ModelConfig
from distill.errors import UserError
from distill.models.published import published
from distill.pipeline.adopting import adopt
from distill.system.weights import read_weights
from tests.checkpoints import SAVE
from tests.security.sent import line_of

pytestmark = pytest.mark.fault("code in files")

STATE = nn.Linear(64, 10).state_dict()


class Calls:
    """Calls a function when it is unpickled."""

    def __init__(self, function: Callable[..., Any], *arguments: Any):
        self.called = function, arguments

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return self.called


PAYLOADS: dict[str, Callable[[Path], Any]] = {
    "a call": lambda ran: {**STATE, "x": Calls(os.mkdir, str(ran))},
    "eval": lambda ran: {
        "state_dict": STATE,
        "args": Calls(builtins.eval, f"__import__('os').mkdir({str(ran)!r})"),
    },
    "in a namespace": lambda ran: {"model": STATE, "args": argparse.Namespace(x=Calls(os.mkdir, str(ran)))},
    "getattr": lambda ran: {"model": STATE, "x": Calls(getattr, dict, "get")},
    "a loader": lambda ran: {"model": STATE, "x": Calls(torch.load, str(ran))},
    "a whole network": lambda ran: nn.Sequential(nn.Linear(2, 2)),
    "an array of objects": lambda ran: {"model": STATE, "x": np.array([Calls(os.mkdir, str(ran))], dtype=object)},
    "an ordered dict": lambda ran: OrderedDict(a=Calls(os.mkdir, str(ran))),
}


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize("what", PAYLOADS)
def test_a_payload_does_not_run(what: str, zipped: bool, tmp_path: Path) -> None:
    torch.save(PAYLOADS[what](tmp_path / "ran"), tmp_path / "t.pth", _use_new_zipfile_serialization=zipped)
    with pytest.raises(UserError, match=r"which needs \w.* Save its state dict where you trust the file") as error:
        read_weights(tmp_path / "t.pth")
    line_of(error.value)
    assert not (tmp_path / "ran").exists()


def test_a_bare_pickle_does_not_run(tmp_path: Path) -> None:
    (tmp_path / "t.pth").write_bytes(pickle.dumps(Calls(os.mkdir, str(tmp_path / "ran"))))
    with pytest.raises(UserError) as error:
        read_weights(tmp_path / "t.pth")
    line_of(error.value)
    assert not (tmp_path / "ran").exists()


def _packed(path: Path) -> None:
    """A checkpoint whose tensors are compressed zeros: a hundred times as large in memory."""
    buffer = io.BytesIO()
    torch.save({"weight": torch.zeros(1 << 20)}, buffer)
    with zipfile.ZipFile(buffer) as whole, zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as out:
        for member in whole.infolist():
            out.writestr(member.filename, whole.read(member))


def _wide(path: Path) -> None:
    """A tensor that declares a terabyte, of one number."""
    torch.save({"weight": torch.zeros(1).expand(1 << 38), "bias": torch.zeros(10)}, path)


def _header(path: Path) -> None:
    path.write_bytes((1 << 60).to_bytes(8, "little") + b"{}")


def _pipe(path: Path) -> None:
    os.mkfifo(path)


FORGED: dict[str, tuple[str, Callable[[Path], None]]] = {
    "packed": ("t.pth", _packed),
    "wide": ("t.pth", _wide),
    "a long header": ("t.safetensors", _header),
    "empty": ("t.pth", lambda path: path.write_bytes(b"")),
    "text": ("t.pt", lambda path: path.write_text("no weights")),
    "a script": ("t.pt", lambda path: torch.jit.script(nn.Linear(2, 2)).save(str(path))),
    "a pipe": ("t.bin", _pipe),
    "a folder": ("t.bin", lambda path: path.mkdir()),
    "a list": ("t.pth", lambda path: torch.save([torch.zeros(2)], path)),
    "numbers": ("t.pth", lambda path: torch.save({1: torch.zeros(2)}, path)),
    "sparse": ("t.pth", lambda path: torch.save({"weight": torch.eye(3).to_sparse()}, path)),
    "no weights": ("t.pth", lambda path: torch.save({"epoch": 3, "state_dict": {}}, path)),
    "NaN": ("t.safetensors", lambda path: save_file({"net.1.weight": torch.full((10, 64), torch.nan)}, path)),
}


@pytest.mark.filterwarnings("ignore:.*torch.jit:FutureWarning")
@pytest.mark.parametrize("what", FORGED)
def test_what_is_forged_is_refused_in_one_line(what: str, tmp_path: Path, store, runtime) -> None:
    name, make = FORGED[what]
    make(tmp_path / name)
    flags = AdoptFlags(model=ModelConfig(name="mlp", kwargs={"widths": [8]}), data=DataConfig())
    with pytest.raises(UserError) as error:
        adopt(tmp_path / name, store, runtime, flags)
    line_of(error.value)
    assert not list(store.root.glob("teachers/*"))


@pytest.mark.parametrize("name", ["plain.pth", "oldest.pth", "weights.safetensors", "nested.pt"])
def test_a_truncated_file_is_refused_or_whole(name: str, tmp_path: Path) -> None:
    net = nn.Linear(64, 10)
    SAVE[name](net, tmp_path / name)
    content = (tmp_path / name).read_bytes()
    for length in range(0, len(content), max(1, len(content) // 40)):
        (tmp_path / name).write_bytes(content[:length])
        with pytest.raises(UserError) as error:
            read_weights(tmp_path / name)
        line_of(error.value)


HOSTILE: dict[str, Any] = {
    "another library": {"architecture": "os:mkdir"},
    "a path of weights": {"architecture": "test_resnet", "model_args": {"checkpoint_path": "/etc/passwd"}},
    "no object": [],
    "numbers": {"architecture": 3, "pretrained_cfg": 4},
    "a wrong size": {"architecture": "test_resnet", "pretrained_cfg": {"input_size": [3]}},
    "a wrong mean": {"architecture": "test_resnet", "pretrained_cfg": {"mean": ["x"] * 3, "std": [0, 0, 0]}},
}


@pytest.mark.parametrize("what", HOSTILE)
def test_a_description_of_timm_that_is_made_up_is_one_line(what: str, tmp_path: Path, store, runtime) -> None:
    (tmp_path / "config.json").write_text(json.dumps(HOSTILE[what]))
    torch.save(STATE, tmp_path / "model.pth")
    with pytest.raises(UserError) as error:
        adopt(None, store, runtime, AdoptFlags(model=ModelConfig(name=f"local-dir:{tmp_path}")))
    line_of(error.value)


def test_a_folder_cannot_lead_out_of_itself(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text(
        json.dumps({"architecture": "test_resnet", "pretrained_cfg": {"file": "/x"}})
    )
    found = published(ModelConfig(name=f"local-dir:{tmp_path}"))
    assert found.file is not None
    with pytest.raises(UserError, match="inside"):
        found.file()
