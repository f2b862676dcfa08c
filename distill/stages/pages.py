"""Templates of this folder, filled in, and figures as elements of a page."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from markupsafe import Markup, escape


@dataclass(frozen=True)
class Drawing:
    """One figure in the form that pages need."""

    name: str
    caption: str
    svg: str
    """For inlining: no prolog, and ids that no other figure of the page has."""


def figure_file(name: str) -> str:
    """Path of a figure within the folder of its report."""
    return f"figures/{name}.svg"


def read_drawing(path: Path, name: str, caption: str, prefix: str = "") -> Drawing:
    """A figure of a report's folder.

    Args:
        path: the SVG file.
        name: of the figure.
        caption: what it shows.
        prefix: tells apart figures of one name on a page of several reports.
    """
    return Drawing(name, caption, _inline(path.read_text(encoding="utf-8"), prefix + name))


def _inline(svg: str, name: str) -> str:
    """An SVG file as an element of a page: without prolog, with ids that no other figure of the page has."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r'\bid="', f'id="{name}-', svg)
    svg = re.sub(r'href="#', f'href="#{name}-', svg)
    return svg.replace("url(#", f"url(#{name}-")


def _prose(text: str) -> Markup:
    """Text of a docstring for HTML: what stands between backticks is code."""
    return Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", str(escape(text))))


def render(template: str, page: Mapping[str, Any]) -> str:
    """A template of this folder, filled in; only HTML needs escaping."""
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    environment.filters["cell"] = lambda text: str(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template(template).render(page)
