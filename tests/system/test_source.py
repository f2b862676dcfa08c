"""The source of a plug-in: which files count, and that none of them is run."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill.system.source import local_sources, source_digest

pytestmark = pytest.mark.fault("images, labels or code that changed")


@pytest.fixture(autouse=True)
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project whose modules end the test if they are run."""
    files = {
        "mine_x": "import os, torch, distill.errors\nfrom blocks_x import block\nfrom pack_x import deep, name\n",
        "blocks_x": "def block():\n    import late_x\n",
        "late_x": "",
        "other_x": "",
        "pack_x/__init__": "name = 1\n",
        "pack_x/deep": "from . import near\nfrom .lower import far\nfrom .. import nothing\n",
        "pack_x/near": "import mine_x  # a circle\n",
        "pack_x/lower/far": "from .. import beside\n",
        "pack_x/beside": "def broken(:\n",
    }
    for name, text in files.items():
        path = tmp_path / f"{name}.py"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(f"{text}raise SystemExit\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    return tmp_path


def test_what_a_module_imports_counts_and_nothing_is_run(project: Path) -> None:
    pack = {"pack_x", "pack_x.deep", "pack_x.near", "pack_x.lower.far", "pack_x.beside"}
    assert local_sources("mine_x").keys() == {"mine_x", "blocks_x", "late_x"} | pack
    assert not [name for name in sys.modules if name.partition(".")[0].endswith("_x")]
    assert local_sources("pack_x.lower.far").keys() == {"pack_x", "pack_x.lower.far", "pack_x.beside"}


@pytest.mark.parametrize(
    "name", ["mine_x", "blocks_x", "late_x", "pack_x/__init__", "pack_x/lower/far", "pack_x/beside"]
)
def test_an_edit_changes_the_digest(project: Path, name: str) -> None:
    before = source_digest("mine_x")
    path = project / f"{name}.py"
    path.write_text(path.read_text() + "# edited\n")
    assert source_digest("mine_x") != before


def test_other_files_do_not_count(project: Path) -> None:
    before = source_digest("mine_x")
    assert before
    (project / "other_x.py").write_text("edited")
    assert source_digest("mine_x") == before


@pytest.mark.parametrize(
    "module", ["timm.data", "torchvision.transforms.v2", "os.path", "sys", "distill.models.mlp", "no_such"]
)
def test_what_is_installed_or_unknown_has_no_digest(module: str) -> None:
    assert source_digest(module) is None
