"""Run the cells of an experiment: text, code and output, put together when the report is written."""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Callable, Sequence
from typing import Any


def run_cells(cells: Sequence[Callable[[], str]]) -> list[dict[str, str]]:
    """Run each cell, and return it with its output, so that text, code and numbers cannot disagree.

    Args:
        cells: functions without arguments, in the order of the page. The first line of a docstring is the title of
            its cell, the rest its text; a paragraph that is indented is a formula.

    Returns:
        For each cell `title`, `text`, `code` (its source without the docstring) and `output`.

    Raises:
        ValueError: a cell has no docstring.
    """
    ran = []
    for cell in cells:
        title, _, text = (inspect.getdoc(cell) or "").partition("\n")
        if not title:
            raise ValueError(f"Cell {cell.__name__}: expected a docstring, title first. Say what it shows.")
        shown = {"title": title.rstrip("."), "text": text.strip("\n")}
        ran.append(shown | {"code": _code(cell), "output": cell().rstrip("\n")})
    return ran


def for_pages(cells: Sequence[dict[str, str]]) -> list[dict[str, Any]]:
    """Add to each cell `parts`, its paragraphs with whether each is a formula, and `fence`, a Markdown fence."""
    return [cell | {"parts": _parts(cell["text"]), "fence": _fence(cell)} for cell in cells]


def _code(cell: Callable[[], str]) -> str:
    """Return the source of a cell without its docstring."""
    source = textwrap.dedent(inspect.getsource(cell))
    function = ast.parse(source).body[0]
    assert isinstance(function, ast.FunctionDef)
    doc = function.body[0]
    lines = source.splitlines()
    return "\n".join([*lines[: doc.lineno - 1], *lines[doc.end_lineno :]])


def _parts(text: str) -> list[tuple[bool, str]]:
    """Split a text into (is a formula, paragraph); a formula keeps its line breaks, other paragraphs lose them."""
    paragraphs = [(each.startswith("    "), each) for each in re.split(r"\n\s*\n", text) if each]
    return [(formula, textwrap.dedent(each) if formula else " ".join(each.split())) for formula, each in paragraphs]


def _fence(cell: dict[str, str]) -> str:
    """Return more backticks than stand in a row anywhere in code or output."""
    runs = re.findall(r"`+", cell["code"] + cell["output"])
    return "`" * max(3, 1 + max(map(len, runs), default=0))
