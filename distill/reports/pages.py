"""Fill in the templates of this folder, and embed figures in a page as images.

Names of classes and data, and whole reports, may come from somebody else. So HTML is escaped, the policy of each
page lets nothing run and nothing be loaded, and a figure is an image of its own, in which a browser runs nothing
either.
"""

from __future__ import annotations

import base64
import functools
import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, cast

from markupsafe import Markup, escape

from distill.errors import printable
from distill.system.reading import read_bytes

if TYPE_CHECKING:
    import jinja2
    from matplotlib.figure import Figure

    from distill.training.event_file import SafeSummaryWriter

_PNG_DPI = 160


class Drawing(NamedTuple):
    """Hold a figure as pages embed it: its SVG text, its caption and its size."""

    name: str
    caption: str
    image: str
    """The SVG file of the figure, in base64."""


def figure_file(name: str) -> str:
    """Return the path of a figure within the folder of its report."""
    return f"figures/{name}.svg"


def read_drawing(path: Path, name: str, caption: str) -> Drawing:
    """Read a figure from its SVG file.

    Raises:
        UserError: the file is too large.
    """
    return Drawing(name, caption, base64.b64encode(read_bytes(path)).decode())


def write_figures(figures: Mapping[str, object], folder: Path) -> None:
    """Write each figure as SVG and PNG, so that equal figures give equal bytes."""
    import matplotlib

    folder.mkdir(exist_ok=True)
    for name, drawn in figures.items():
        figure = cast("Figure", drawn)
        with matplotlib.rc_context({"svg.hashsalt": name}):
            # The date and the random ids would make every copy differ.
            nothing = dict.fromkeys(("Date", "Creator", "Format", "Type"))
            figure.savefig(folder / f"{name}.svg", metadata=nothing)
            figure.set_layout_engine("none")  # it takes half of the time, and the PNG is to show the same picture
            figure.savefig(folder / f"{name}.png", dpi=_PNG_DPI, metadata={"Software": None})


def add_image(writer: SafeSummaryWriter, name: str, path: Path) -> None:
    """Add a PNG file to a TensorBoard log."""
    import numpy as np
    from PIL import Image

    with Image.open(path) as image:
        writer.add_image(name, np.asarray(image.convert("RGB")), dataformats="HWC")


def _prose(text: str) -> Markup:
    """Turn the text of a docstring into HTML; text between backticks becomes code."""
    return Markup(re.sub(r"`+([^`]+)`+", r"<code>\1</code>", str(escape(text))))


def _markdown(text: object) -> str:
    """Escape text for Markdown, so that nothing in it is HTML or a link."""
    return re.sub(r"<(?=[A-Za-z/!?])", "&lt;", str(text)).replace("](", "]\\(")


def _visible(value: Any) -> Any:
    """Write escapes for characters that a page would not show, or that turn the direction of what follows."""
    if not isinstance(value, str):
        return value
    return type(value)("\n".join(map(printable, value.split("\n"))))


def render(template: str, page: Mapping[str, Any]) -> str:
    """Fill in a template of this folder; only HTML is escaped."""
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
        finalize=_visible,
    )
    environment.filters["prose"] = _prose
    environment.filters["plain"] = _markdown
    environment.filters["cell"] = lambda text: _markdown(text).replace("|", "\\|").replace("\n", " ")
    return environment.get_template(template)
