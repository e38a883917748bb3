"""Diagrams of cells, by name, file or formula."""

from __future__ import annotations

from pathlib import Path

from cellula.cells.catalogue import load_cell
from cellula.graph.graph import Graph
from cellula.printers.diagram.picture import Picture, draw_cell, draw_comparison

__all__ = ["compare", "diagram"]


def diagram(cell: str | Path | Graph, steps: int = 1) -> Picture:
    """The diagram of a cell: gate nodes, layer nodes, products and memories, from left to right.

    Args:
        cell: a name of the zoo, the path of a `.cell` file, the text of a formula, or a graph.
        steps: how many cells to chain over time, 1 to 12.

    Returns:
        A picture: `str(picture)` is SVG, `picture.save("lstm.png")` writes a file, a notebook shows it.

    Raises:
        UsageError: there is no such cell, or the number of steps is out of range.
        FormulaError: the formula is wrong.

    Example:
        >>> from cellula import diagram
        >>> picture = diagram("gru")
        >>> picture
        <Picture of gru: Gated recurrent unit (GRU), reset before the product, ... points>
        >>> print(str(picture)[:39])
        <svg xmlns="http://www.w3.org/2000/svg"
    """
    return draw_cell(load_cell(cell), steps)


def compare(*cells: str | Path | Graph) -> Picture:
    """The diagrams of several cells side by side, with a mark on what differs from the first one.

    Parts are matched by their role and by how they are used, so that the names do not matter: the update gate of a GRU
    stands in the place of the forget gate of an LSTM.

    Args:
        cells: two to twelve cells, each as for `diagram`.

    Returns:
        A picture, as `diagram` gives it.

    Raises:
        UsageError: too few cells or too many, or there is no such cell.
        FormulaError: a formula is wrong.

    Example:
        >>> from cellula import compare
        >>> compare("lstm", "peephole_lstm")
        <Picture of lstm and peephole_lstm, compared, ... points>
    """
    return draw_comparison([load_cell(cell) for cell in cells])
