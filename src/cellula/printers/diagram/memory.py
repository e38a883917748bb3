"""Which memory of a cell is long and which short, and along which edge of the picture it runs."""

from __future__ import annotations

import heapq
from dataclasses import replace

from cellula.printers.diagram.parts import Drawing, Memory

__all__ = ["find_memories"]

# What it costs to lead a long memory through a part: straight through products and sums where there is a way.
_COSTS = {"product": 2, "sum": 2, "scale": 2, "function": 3, "layer": 20}


def find_memories(drawing: Drawing) -> tuple[Memory, ...]:
    """The memories of a cell: those along the top from the top down, then those along the bottom from the bottom up.

    A memory is *long* if its value is carried on to the next step unit by unit, through products and sums; it is
    *short* if every step makes it anew through matrices of weights. Long memories run along the top. Where there are
    several, those that are also read through matrices run along the bottom, as the hidden state of an LSTM does.
    """
    ends = {drawing.parts[number].slot: number for number in drawing.kinds("state_out")}
    found: list[Memory] = []
    for start in drawing.kinds("state_in"):
        slot = drawing.parts[start].slot
        end = ends.get(slot)
        rail = None if end is None else _rail(drawing, start, drawing.parts[end].entries[0].source)
        found.append(Memory(slot, rail is not None, False, start, end, rail or ()))
    long = [memory for memory in found if memory.long]
    mixed = [memory for memory in long if _read_densely(drawing, memory.start)]
    low = mixed if len(mixed) < len(long) else mixed[1:]
    top = {memory.slot for memory in long if memory not in low}
    placed = [replace(memory, top=_base(memory.slot) in top) for memory in found]
    above = [memory for memory in placed if memory.top]
    below = [memory for memory in placed if not memory.top]
    # Outermost is what meets the fewest other parts: a memory that only waits, then the longest rail.
    return (*above, *sorted(below, key=lambda memory: memory.slot == _base(memory.slot)))


def _base(slot: str) -> str:
    """`h` for the slots `h` and `h_lag2`: they keep together."""
    return slot.partition("_lag")[0]


def _read_densely(drawing: Drawing, number: int) -> bool:
    """Whether a part's value enters another one through a matrix."""
    return any(
        entry.source == number and entry.how == "dense"
        for part in drawing.parts
        for entry in part.entries
        if part.kind != "join"
    ) or any(entry.source == number for join in drawing.kinds("join") for entry in drawing.parts[join].entries)


def _rail(drawing: Drawing, start: int, end: int) -> tuple[int, ...] | None:
    """The parts through which a value is carried on unit by unit, or None where there is no such way."""
    if start == end:
        return ()
    best: dict[int, tuple[int, tuple[int, ...]]] = {}
    queue: list[tuple[int, tuple[int, ...]]] = [(0, (start,))]
    while queue:
        cost, path = heapq.heappop(queue)
        if path[-1] in best:
            continue
        best[path[-1]] = cost, path
        for source, number, place in drawing.wires:
            part = drawing.parts[number]
            if source == path[-1] and part.kind in _COSTS and part.entries[place].how == "pointwise":
                heapq.heappush(queue, (cost + _COSTS[part.kind], (*path, number)))
    return best[end][1][1:] if end in best else None
