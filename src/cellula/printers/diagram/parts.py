"""What a picture of a cell consists of: parts, what enters them, and the memories that pass through."""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import cached_property
from typing import Literal

from cellula.printers.diagram.text import Line

__all__ = ["Drawing", "Entry", "Kind", "Memory", "Part"]

Kind = Literal[
    "input", "output", "state_in", "state_out", "parameter",
    "gate", "layer", "function", "scale", "product", "sum", "join",
]  # fmt: skip


@dataclass(frozen=True)
class Entry:
    """One value that enters a part.

    Args:
        source: the number of the part that it comes from.
        how: through a matrix of weights (`"dense"`), or unit by unit (`"pointwise"`).
        mark: what stands beside its end: a sign, or the name of an argument.
    """

    source: int
    how: Literal["dense", "pointwise"] = "pointwise"
    mark: str = ""


@dataclass(frozen=True)
class Part:
    """One node of the picture.

    Args:
        kind: what it is.
        entries: what enters it.
        title: its text, large; a sum or product without one shows its sign.
        inside: lines of small text below the title.
        names: the equations whose value it is; empty for a part within an equation.
        label: these names, as they stand on its wire.
        owner: the equation that it belongs to, "" for what lies at the edge.
        slot: the memory or input that a part at the edge stands for.
        about: what to say of it to who asks, as plain text.
        form: what it computes, without the names of weights and values: the same for parts that compute alike.
        neurons: whether it is linear maps with what is added to them and an activation.
    """

    kind: Kind
    entries: tuple[Entry, ...] = ()
    title: Line = ()
    inside: tuple[Line, ...] = ()
    names: tuple[str, ...] = ()
    label: Line = ()
    owner: str = ""
    slot: str = ""
    about: str = ""
    form: str = ""
    neurons: bool = False


@dataclass(frozen=True)
class Memory:
    """One memory of the cell, from the left edge to the right.

    Args:
        slot: under which name its value is kept: `h`, `h_lag2`.
        long: whether it is carried on unit by unit; else every step makes it anew.
        top: whether it runs along the top; else along the bottom.
        start, end: the parts at the left and at the right edge (None where a long delay is not drawn).
        rail: the parts through which a long memory is carried on.
    """

    slot: str
    long: bool
    top: bool
    start: int
    end: int | None
    rail: tuple[int, ...] = ()


@dataclass(frozen=True)
class Drawing:
    """All parts of a cell's picture, with what connects them.

    Args:
        name, title: of the cell.
        parts: by number; what enters a part may have any number.
        memories: those along the top from the top down, then those along the bottom from the bottom up.
    """

    name: str
    title: str
    parts: tuple[Part, ...]
    memories: tuple[Memory, ...] = field(default=())

    @cached_property
    def wires(self) -> tuple[tuple[int, int, int], ...]:
        """Every connection: (part it comes from, part it enters, number of the entry)."""
        return tuple(
            (entry.source, number, place)
            for number, part in enumerate(self.parts)
            for place, entry in enumerate(part.entries)
        )

    def kinds(self, *kinds: Kind) -> list[int]:
        """The numbers of the parts of these kinds."""
        return [number for number, part in enumerate(self.parts) if part.kind in kinds]
