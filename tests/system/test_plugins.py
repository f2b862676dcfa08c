from __future__ import annotations

import sys
from pathlib import Path

import pytest

from distill.errors import UserError
from distill.system import plugins, trust
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
        (".x:net", "package.module:function"),
        ("os.:net", "package.module:function"),
        ("os:path.join", "package.module:function"),
        ("math:pi", "a function of module math"),
    ],
)
def test_what_cannot_be_found_is_said(reference: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        resolve(reference, "model.name")
    assert caught.value.field == "model.name"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("x = (", r"Mend it: SyntaxError: .* \(broken.py, line 1\)\.$"),
        ("\nraise KeyError('key')", r"Mend it: KeyError: 'key' \(.*broken.py, line 2\)\.$"),
        ("import no.such", r"Install it.*No module named 'no'\.$"),
    ],
)
def test_a_module_that_cannot_be_imported_is_one_line(
    text: str, says: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "broken.py").write_text(text)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.path", [*sys.path])
    monkeypatch.setattr(plugins, "_imported", {})
    with pytest.raises(UserError, match=says):
        resolve("broken:net", "model.name")


def test_what_has_no_signature_is_called() -> None:
    assert bind(resolve("math:hypot", "model.name"), "model.kwargs", 3, 4)() == 5


def test_arguments_are_checked_before_anything_is_called() -> None:
    def net(width: int) -> int:
        return width

    assert bind(net, "model.kwargs", width=3)() == 3
    with pytest.raises(UserError, match="required argument: 'width'"):
        bind(net, "model.kwargs", widht=3)
