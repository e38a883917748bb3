"""The zoo: every `.cell` file beside this one is a cell, found by its file name."""

from __future__ import annotations

from functools import cache
from importlib import resources
from pathlib import Path

from cellula.errors import UsageError
from cellula.graph.build import build
from cellula.graph.graph import Graph
from cellula.graph.names import nearest

__all__ = ["cells", "load_cell"]


@cache
def cells() -> tuple[str, ...]:
    """The names of all cells that come with Cellula, in alphabetical order.

    Example:
        >>> from cellula import cells
        >>> "lstm" in cells()
        True
    """
    files = resources.files("cellula.cells").iterdir()
    return tuple(sorted(file.name.removesuffix(".cell") for file in files if file.name.endswith(".cell")))


def load_cell(cell: str | Path | Graph) -> Graph:
    """The graph of a cell.

    Args:
        cell: a name of the zoo (`"lstm"`), the path of a `.cell` file, the text of a formula, or a graph.

    Returns:
        The checked graph.

    Raises:
        UsageError: there is no cell of this name, and it is neither a file nor a formula.
        FormulaError: the formula is wrong.

    Example:
        >>> from cellula import load_cell
        >>> load_cell("gru").title
        'Gated recurrent unit (GRU), reset before the product'
    """
    if isinstance(cell, Graph):
        return cell
    if isinstance(cell, Path):
        return build(cell)
    if not isinstance(cell, str):
        raise UsageError(f"a cell is a name, a path, a formula or a graph, not {type(cell).__name__} {cell!r}")
    if cell in cells():
        return _shipped(cell)
    formula = "[t]" in cell or "\n" in cell
    if not formula and cell.endswith(".cell"):
        return build(Path(cell))
    if formula or "=" in cell:
        return build(cell)
    if "/" in cell or "\\" in cell:
        return build(Path(cell))
    advice = nearest(cell, cells(), f"the cells are {', '.join(cells())}")
    raise UsageError(f"there is no cell {cell!r}: {advice} A file of your own ends in .cell, a formula has [t] in it.")


@cache
def _shipped(name: str) -> Graph:
    text = resources.files("cellula.cells").joinpath(f"{name}.cell").read_text(encoding="utf-8")
    return build(text, name)
