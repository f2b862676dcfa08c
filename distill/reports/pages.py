"""Templates of this folder, filled in, and figures as images of a page.

Names of classes and data, and whole reports, may be somebody else's. HTML is escaped, the policy of each page lets
nothing run and nothing be loaded, and a figure is an image of its own, in which a browser runs nothing either.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

from distill.system.reading import read_bytes

if TYPE_CHECKING:
    import jinja2


@dataclass(frozen=True)
class Drawing:
    """One figure in the form that pages need."""

    name: str
    caption: str
    image: str
    """Its SVG file in base64."""


def figure_file(name: str) -> str:
    """Path of a figure within the folder of its report."""
    return f"figures/{name}.svg"


def read_drawing(path: Path, name: str, caption: str) -> Drawing:
    """A figure of a report's folder.

    Args:
        path: the SVG file.
        name: of the figure.
        caption: what it shows.

    Raises:
        UserError: the file is too large.
    """
    return Drawing(name, caption, base64.b64encode(read_bytes(path)).decode())


def _prose(text: str) -> Markup:
    """Text of a docstring for HTML: what stands between backticks is code."""
    return Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", str(escape(text))))


def _markdown(text: object) -> str:
    """Text in which nothing is HTML or a link."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", str(text)).replace("](", "]\\(")


def render(template: str, page: Mapping[str, Any]) -> str:
    """A template of this folder, filled in; only HTML needs escaping."""
    return _template(template).render(page)


@functools.cache
def _template(template: str) -> jinja2.Template:
    import jinja2

    environment = jinja2.Environment(
        loader=jinja2.FileSystemLoader(Path(__file__).parent / "templates"),
        autoescape=template.endswith(".html.j2"),
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["prose"] = _prose
    environment.filters["plain"] = _markdown
    environment.filters["cell"] = lambda text: _markdown(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template(template)
