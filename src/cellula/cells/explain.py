"""Any cell explained, stage by stage."""

from __future__ import annotations

from pathlib import Path

from cellula.cells.catalogue import load_cell
from cellula.graph.graph import Graph
from cellula.printers.explain import explain_graph

__all__ = ["explain"]


def explain(cell: str | Path | Graph) -> str:
    """Every stage of a cell in order: formula, meaning, what runs when, backpropagation through time, kernels.

    Args:
        cell: a name of the zoo, the path of a `.cell` file, the text of a formula, or a graph.

    Returns:
        Text to print.

    Raises:
        UsageError: there is no such cell.
        FormulaError: the formula is wrong.

    Example:
        >>> from cellula import explain
        >>> print(explain("mlp").split("4. ")[1].splitlines()[0])
        BACKPROPAGATION THROUGH TIME
    """
    return explain_graph(load_cell(cell))
