"""Sizes and colours of the pictures: told apart by shape and by colour, and by lightness alone in grey print."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["COLOURS", "INSIDE_SIZE", "NAME_SIZE", "TITLE_SIZE", "Colours"]

# Sizes of letters: a part's title, the text below it, a value's name on its wire.
TITLE_SIZE, INSIDE_SIZE, NAME_SIZE = 16.0, 11.5, 13.0


@dataclass(frozen=True)
class Colours:
    """How one kind of part looks.

    Args:
        fill, line, text: colours.
        thick: width of the outline.
    """

    fill: str
    line: str
    text: str = "#000000"
    thick: float = 1.2


# After Okabe and Ito, whose colours stay apart for colour-blind readers; the fills also differ in lightness.
COLOURS = {
    "gate": Colours("#f2b84b", "#7a4f00"),
    "layer": Colours("#d9eefb", "#00507d"),
    "function": Colours("#ffffff", "#00694d"),
    "scale": Colours("#5b5b5b", "#1e1e1e", "#ffffff"),
    "product": Colours("#3d3d3d", "#1e1e1e", "#ffffff"),
    "sum": Colours("#ffffff", "#1e1e1e", thick=1.6),
    "parameter": Colours("#f4f4f4", "#555555"),
    "join": Colours("#1e1e1e", "#1e1e1e"),
    "long": Colours("#0072b2", "#004a75", "#ffffff"),
    "short": Colours("#f3dbe8", "#8f3d6b"),
    "input": Colours("#ffffff", "#1e1e1e"),
    "output": Colours("#ffffff", "#1e1e1e", thick=2.4),
    "difference": Colours("#d55e00", "#d55e00", "#ffffff", 2.8),
}
