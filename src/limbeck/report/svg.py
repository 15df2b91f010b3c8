"""Makes matplotlib's SVG a good citizen of an HTML page: themed by CSS variables, unique ids, text as text."""

from __future__ import annotations

import io
import re
from typing import TYPE_CHECKING, Any

from markupsafe import Markup, escape

if TYPE_CHECKING:
    from matplotlib.figure import Figure

# matplotlib needs concrete colours; each stands for a CSS variable and is replaced by it after drawing.
VARIABLES = {
    "#010101": "--ink",
    "#010102": "--muted",
    "#010103": "--line",
    "#010104": "--surface",
    "#010111": "--teacher",
    "#010112": "--alone",
    "#010114": "--peer",
    "#010115": "--fused",
    "#010113": "--distilled",
    **{f"#0102{i:02x}": f"--series-{i}" for i in range(8)},
}
COLOUR = {name.removeprefix("--"): code for code, name in VARIABLES.items()}
"""The colour to hand to matplotlib for the CSS variable of that name."""
SERIES = [COLOUR[f"series-{i}"] for i in range(8)]

_SETTINGS = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.size": 11.0,
    "axes.linewidth": 0.8,
    "axes.edgecolor": COLOUR["line"],
    "axes.labelcolor": COLOUR["muted"],
    "xtick.color": COLOUR["line"],
    "ytick.color": COLOUR["line"],
    "xtick.labelcolor": COLOUR["muted"],
    "ytick.labelcolor": COLOUR["muted"],
    "text.color": COLOUR["ink"],
    "grid.color": COLOUR["line"],
    "grid.linewidth": 0.7,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "text.parse_math": False,
}
_CHARACTER = 0.66
"""Width of a character of a number, in heights of its line."""


def settings() -> Any:
    """Values for `matplotlib.rc_context` around drawing and writing a figure."""
    return dict(_SETTINGS)


def inline_svg(figure: Figure, name: str, description: str) -> Markup:
    """The figure as an `<svg>` element for the body of a page.

    Args:
        figure: drawn with the colours of `COLOUR`.
        name: prefix of its ids, unique on the page.
        description: what the figure shows, for those who cannot see it.
    """
    from matplotlib.backends.backend_svg import FigureCanvasSVG

    buffer = io.StringIO()
    empty = dict.fromkeys(("Date", "Creator", "Format", "Type"))
    _make_room(figure)
    for part in (figure, *figure.axes):
        part.patch.set_visible(False)
    FigureCanvasSVG(figure).print_svg(buffer, metadata=empty)
    text = buffer.getvalue()
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>", "", text, flags=re.DOTALL)
    text = re.sub(r"<!--.*?-->\n?", "", text, flags=re.DOTALL)
    text = _unique_ids(text, name)
    text = re.sub(r"#0[0-9a-f]{5}\b", lambda m: f"var({VARIABLES[m.group()]})" if m.group() in VARIABLES else m.group(), text)
    # the page's own font; the names that matplotlib lists would only make the file longer
    text = re.sub(r"font: ([\d.]+)px [^;\"]+", r"font-size: \1px", text)
    text = re.sub(r"font-family: [^;\"]+;?", "", text)
    view = re.search(r'viewBox="([^"]+)"', text)
    head = f'<svg class="plot" role="img" aria-label="{escape(description)}" viewBox="{view.group(1) if view else "0 0 100 100"}">'
    return Markup(head + text[text.index(">") + 1 :])  # noqa: S704 (matplotlib has escaped the texts in it)


def _make_room(figure: Figure) -> None:
    """Margins for the texts beside the axes. The layouts that matplotlib offers draw everything a second and a third time to find them.

    The width of a text is estimated: the page shows it in its reader's font, whatever is measured here.
    """
    line = float(_SETTINGS["font.size"])
    left = right = bottom = 0.0
    for axes in figure.axes:
        beside = max((len(label.get_text()) for label in axes.get_yticklabels()), default=0) * _CHARACTER * line
        left = max(left, beside + 8 + (1.8 * line if axes.get_ylabel() else 0))
        right = max(right, max((len(label.get_text()) for label in axes.get_xticklabels()), default=0) * _CHARACTER * line / 2)
        bottom = max(bottom, 8 + 1.3 * line + (1.3 * line if axes.get_xlabel() else 0))
    width, height = (72 * inches for inches in figure.get_size_inches())
    figure.subplots_adjust(left / width, bottom / height, 1 - (right + 2) / width, 1 - 0.7 * line / height, hspace=0.12)


def _unique_ids(text: str, name: str) -> str:
    text = re.sub(r'\bid="([^"]+)"', rf'id="{name}-\1"', text)
    text = re.sub(r'xlink:href="#([^"]+)"', rf'href="#{name}-\1"', text)
    text = re.sub(r"url\(#([^)]+)\)", rf"url(#{name}-\1)", text)
    return re.sub(r'<g id="[^"]*">', "<g>", text)  # groups are never referred to
