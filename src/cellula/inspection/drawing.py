"""A picture of a lens: shown in a notebook, written as PNG or SVG; and how all of them look."""

from __future__ import annotations

import io
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import matplotlib
from matplotlib.figure import Figure
from matplotlib.layout_engine import ConstrainedLayoutEngine

from cellula.errors import RunError, UsageError

__all__ = ["COLOURS", "GATES", "INK", "LINES", "MUTED", "STATES", "Drawing", "drawn", "encode"]

INK, MUTED, GRID = "#1b1f24", "#5c6670", "#dde1e6"
# Okabe and Ito's palette, which people with any colour vision can tell apart; its yellow is too pale for a line.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#8a6d3b", "#1b1f24")
LINES = ("-", (0, (5, 1.5)), (0, (1.2, 1.2)), (0, (6, 1.5, 1.2, 1.5)))
# From 0 to 1 in one direction, and around 0 in two; both safe for any colour vision, and right in grey.
GATES, STATES = "cividis", "RdBu_r"

_STYLE: dict[Any, Any] = {
    "font.family": ["DejaVu Sans"],
    "font.size": 10,
    # Names come from the user's data and formulas: neither a dollar sign nor an underscore in one is mathematics.
    "text.parse_math": False,
    "text.usetex": False,
    "text.color": INK,
    "axes.labelcolor": MUTED,
    "axes.edgecolor": MUTED,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "axes.titlesize": 10.5,
    "axes.titlelocation": "left",
    "grid.color": GRID,
    "grid.linewidth": 0.8,
    "xtick.color": MUTED,
    "ytick.color": MUTED,
    "legend.frameon": False,
    "legend.fontsize": 9,
    "figure.constrained_layout.use": True,
    # Text stays text; the salt keeps the names inside a file equal from run to run.
    "svg.fonttype": "none",
    "svg.hashsalt": "cellula",
}


@dataclass(frozen=True, eq=False)
class Drawing:
    """A picture.

    Args:
        figure: the matplotlib figure, to change or to place elsewhere.
        page: the same as a page of HTML, where there is one.
    """

    figure: Figure
    page: str = ""

    @property
    def has_page(self) -> bool:
        """Whether `html` gives a page."""
        return bool(self.page)

    def png(self, dots_per_inch: int = 130) -> bytes:
        """The picture as a PNG file on white."""
        return encode(self.figure, format="png", dpi=dots_per_inch, facecolor="white")

    def svg(self) -> str:
        """The picture as an SVG file."""
        return encode(self.figure, format="svg", metadata={"Date": None, "Creator": None}).decode()

    def html(self) -> str:
        """A page that needs no other file; only coloured text has one.

        Raises:
            UsageError: there is none for this picture.
        """
        if not self.page:
            raise UsageError("only coloured text has a page; write png() or svg()")
        return self.page

    def encoded(self, form: str) -> bytes:
        """The picture as "png" or "svg"."""
        return self.png() if form == "png" else self.svg().encode()

    def save(self, path: str | PathLike[str]) -> Path:
        """Write a .png, .svg or .html file; an existing one is replaced.

        Raises:
            UsageError: another ending, or .html where there is no page.
            RunError: the file cannot be written.
        """
        path = Path(path)
        writers = {".png": self.png, ".svg": lambda: self.svg().encode(), ".html": lambda: self.html().encode()}
        if path.suffix not in writers:
            raise UsageError(
                f"{path} ends in {path.suffix or 'nothing'}; write a name that ends in .png, .svg or .html"
            )
        data = writers[path.suffix]()
        try:
            path.write_bytes(data)
        except OSError as error:
            raise RunError(f"cannot write {path}: {error.strerror or error}") from error
        return path

    def _repr_png_(self) -> bytes:
        return self.png()


@contextmanager
def drawn(width: float, height: float) -> Iterator[Figure]:
    """A figure in our style that belongs to no window and no global state."""
    with matplotlib.rc_context(_STYLE):
        yield Figure(figsize=(width, height))


def encode(figure: Figure, **options: Any) -> bytes:
    """What matplotlib writes of a figure."""
    target = io.BytesIO()
    with matplotlib.rc_context(_STYLE), warnings.catch_warnings():
        # A script that no installed font has shows as boxes in the PNG; the page and the SVG keep the text.
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        if isinstance(figure.get_layout_engine(), ConstrainedLayoutEngine):
            # Laid out once: a second time it would begin from the first result, and end a hair beside it.
            figure.draw_without_rendering()
            figure.set_layout_engine("none")
        figure.savefig(target, **options)
    return target.getvalue()
