from __future__ import annotations

from pathlib import Path

import pytest

from distill.errors import UserError
from distill.system import trust
from distill.system.plugins import bind, resolve
from tests.memory import forget_names


@pytest.fixture(autouse=True)
def _trusted(monkeypatch: pytest.MonkeyPatch) -> None:
    forget_names(monkeypatch)
    trust.trust_everything()


def test_a_function_is_found_by_its_name() -> None:
    assert resolve("os.path:join", "model.name")("a", "b") == "a/b"


def test_the_working_directory_is_searched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "only_here.py").write_text("def net(): return 3\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", ["elsewhere"])
    assert resolve("only_here:net", "model.name")() == 3


@pytest.mark.parametrize(
    ("reference", "says"),
    [
        ("net", "package.module:function"),
        ("no.such:net", "imported"),
        ("os.path:nothing", "It has: "),
        (":", "colon"),
    ],
)
def test_what_cannot_be_found_is_said(reference: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        resolve(reference, "model.name")
    assert caught.value.field == "model.name"


def test_arguments_are_checked_before_anything_is_called() -> None:
    def net(width: int) -> int:
        return width

    assert bind(net, "model.kwargs", width=3)() == 3
    with pytest.raises(UserError, match="required argument: 'width'"):
        bind(net, "model.kwargs", widht=3)
