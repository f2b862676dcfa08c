from __future__ import annotations

import ast
import importlib
import runpy
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch

import distill
from distill.errors import UserError
from distill.metrics.measures import MEASURES

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / "distill"


def test_names_for_type_checkers_are_the_names_that_are_offered() -> None:
    block = next(
        node for node in ast.parse((PACKAGE / "__init__.py").read_text("utf-8")).body if isinstance(node, ast.If)
    )
    typed = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert typed == distill._MODULES
    assert sorted(typed) == sorted(distill.__all__) == sorted(dir(distill))


@pytest.mark.parametrize("name", distill.__all__)
def test_each_name_is_that_of_its_module(name: str) -> None:
    assert getattr(distill, name) is getattr(importlib.import_module(distill._MODULES[name]), name)


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'student'"):
        distill.student  # pyright: ignore[reportAttributeAccessIssue]


def test_import_loads_no_library() -> None:
    program = (
        "import sys, distill; print(sorted({'torch', 'numpy', 'pydantic', 'distill.config'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    assert done.stdout.strip() == "[]"


def test_nothing_inside_imports_from_the_package_itself() -> None:
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        for node in ast.walk(tree):
            if isinstance(node, ast.ImportFrom):
                assert node.module != "distill", path
            if isinstance(node, ast.Import):
                assert all(alias.name != "distill" for alias in node.names), path


def test_the_configs_of_its_docstring_fit() -> None:
    example = [line.strip() for line in (distill.__doc__ or "").splitlines() if line.startswith("    ")]
    names = {name: getattr(distill, name) for name in distill.__all__} | {"run": lambda config: config}
    exec("\n".join(example), names)
    assert names["student"].cache.teacher.loss.smoothing == 0.1


def test_measures_of_tensors_arrays_and_lists_are_equal() -> None:
    logits, labels = torch.tensor([[2.0, 0, 1], [0, 3, 1], [1, 0, 2]]), torch.tensor([0, 1, 0])
    found = distill.measures(logits, labels)
    assert found == distill.measures(logits.tolist(), np.array([0, 1, 0]))
    # By hand: 2 of 3 are right; the incorrect logits are (0, 1), (0, 1) and (0, 2).
    assert found["accuracy"] == pytest.approx(2 / 3)
    assert found["interclass_variance"] == pytest.approx((0.25 + 0.25 + 1) / 3)
    assert list(found) == [each.name for each in MEASURES if each.name in found]


@pytest.mark.parametrize(
    ("logits", "labels", "told"),
    [
        ([[1.0, 2]], [2], "classes 0 to 1"),
        ([[1.0, 2]], [0.5], "classes 0 to 1"),
        ([[1.0, 2]], [0, 1], r"\[n, k\] and \[n\]"),
        ([[1.0, float("nan")]], [0], "finite"),
        ([], [], r"\[n, k\] and \[n\]"),
    ],
)
def test_measures_refuse(logits: list[list[float]], labels: list[float], told: str) -> None:
    with pytest.raises(UserError, match=told):
        distill.measures(logits, labels)


def test_the_example_runs_and_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    example = ROOT / "scripts" / "example.py"
    body = example.read_text("utf-8").split('"""')[2]
    assert len(body.strip().splitlines()) <= 25
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.argv", [str(example), "store"])
    monkeypatch.setenv("MPLBACKEND", "svg")
    runpy.run_path(str(example), run_name="__main__")["plt"].close("all")
    assert "<svg" in (tmp_path / "example.svg").read_text("utf-8")
    plain, smoothed = (float(line.rsplit(" ", 1)[1]) for line in capsys.readouterr().out.splitlines())
    assert smoothed < plain
    assert len(list((tmp_path / "store" / "students").iterdir())) == 6
