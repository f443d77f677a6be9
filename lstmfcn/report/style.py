"""Set the style of figures (colours, fonts, names), and render them as PNGs."""

from __future__ import annotations

import io
import struct
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import matplotlib as mpl
from cycler import cycler
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.font_manager import FontProperties, findfont, get_font

INK, MUTED, FAINT, GRID = "#1f2933", "#5f6b7a", "#c3cad3", "#e6e9ed"
BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY = (
    "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
)  # fmt: skip
"""Okabe and Ito (2008), "Color Universal Design": distinct for all common colour vision."""

COLOURS = (BLUE, ORANGE, GREEN, PURPLE, AMBER, SKY)
DASHES = ("-", "--", "-.", ":", (0, (5, 1, 1, 1, 1, 1)), (0, (1, 1)))

WIDTH = 10.0
"""Width of a figure that fills the page, in inches of 96 screen pixels."""

DPI = 144
_LONGEST_NAME = 22

_STYLE: Any = {
    "axes.edgecolor": FAINT,
    "axes.axisbelow": True,
    "axes.grid": True,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 9,
    "axes.linewidth": 0.8,
    "axes.prop_cycle": cycler(color=list(COLOURS)),
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9,
    "figure.dpi": DPI,
    "font.family": "DejaVu Sans",
    "font.size": 9,
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "legend.fontsize": 8.5,
    "legend.frameon": False,
    "lines.linewidth": 1.6,
    "text.color": INK,
    "text.parse_math": False,  # a class may be named $x$
    "xtick.color": FAINT,
    "xtick.labelcolor": MUTED,
    "xtick.labelsize": 8,
    "ytick.color": FAINT,
    "ytick.labelcolor": MUTED,
    "ytick.labelsize": 8,
}


class Drawing(NamedTuple):
    """A figure as a PNG of so many pixels, with a text alternative for screen readers."""

    name: str
    png: bytes
    alt: str
    width: int
    height: int

    def save(self, folder: Path) -> None:
        """Write the file."""
        (folder / self.name).write_bytes(self.png)


def render_drawing(name: str, alt: str, draw: Callable[..., Figure], *arguments: Any) -> Drawing:
    """Draw the figure ``draw(*arguments)`` in the report's style, and render it as a PNG."""
    with mpl.rc_context(_STYLE):
        figure = draw(*arguments)
        file = io.BytesIO()
        figure.savefig(file, format="png", dpi=DPI, metadata={"Software": None})
    png = file.getvalue()
    width, height = struct.unpack(">II", png[16:24])  # from the first chunk of the file
    return Drawing(name, png, alt, width, height)


def shorten_names(names: Sequence[str], longest: int = _LONGEST_NAME) -> list[str]:
    """Shorten names for a figure.

    A name with a character that the font lacks, or that equals another one when shortened, is
    replaced by its number, from 1, which the tables show too.
    """
    plain = [" ".join(name.split()) for name in names]
    shortened = [name if len(name) <= longest else name[: longest - 1] + "…" for name in plain]
    return [
        name
        if shortened.count(name) == 1 and all(ord(letter) in _letters() for letter in name)
        else f"#{number}"
        for number, name in enumerate(shortened, start=1)
    ]


def set_timepoint_axis(axes: Axes, n_timepoints: int) -> None:
    """Set up the x axis for timepoints from 1; leave room around a single one."""
    axes.set_xlim(*((1, n_timepoints) if n_timepoints > 1 else (0.5, 1.5)))
    axes.grid(visible=False, axis="x")


@cache
def _letters() -> frozenset[int]:
    """Return the characters that the font has."""
    return frozenset(get_font(findfont(FontProperties("DejaVu Sans"))).get_charmap())
