"""Where the values of a step lie in a kernel's memory, as C expressions."""

from __future__ import annotations

from dataclasses import dataclass, field

from cellula.graph.node import Size

__all__ = ["Array", "Sizes"]


@dataclass(frozen=True)
class Sizes:
    """The sizes of a cell as C expressions.

    Args:
        names: in the order in which a kernel is given them.
    """

    names: tuple[str, ...]

    def units(self, size: Size) -> str:
        """How many units."""
        return "1" if size is None else f"J->units[{self.names.index(size)}]"

    def padded(self, size: Size) -> str:
        """How many units of scratch memory."""
        return "1" if size is None else f"PAD({self.units(size)})"


@dataclass(frozen=True)
class Array:
    """A value of every sequence at one step.

    Args:
        base: where its first row starts.
        step: from row to row.
        row: `"id"`: in the caller's memory, row by number of the sequence, and in a block by step; `"own"`: by number
            of the sequence alone; `"r"`: in scratch memory, row by its place in this part of the batch; `""`: the same
            for all.
        size: of the value.
        what: whose value it is, for a comment.
    """

    base: str
    step: str
    row: str
    size: Size
    what: str = field(default="", compare=False)

    @property
    def padded(self) -> bool:
        """Whether whole vectors may be read and written behind its last unit."""
        return self.row == "r" and self.size is not None

    @property
    def rows(self) -> str:
        """The row numbers of a matrix product's left side."""
        return "P->ids" if self.row == "id" else "NULL"

    def at(self, pointer: str) -> str:
        """Where the row starts, from a local pointer to the base."""
        row = "P->own[r]" if self.row == "own" else self.row
        return f"{pointer} + {row} * ({self.step})" if row else pointer
