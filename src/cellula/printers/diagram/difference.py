"""What differs between two cells: parts are matched by their role and place, names help but do not decide."""

from __future__ import annotations

from collections import Counter
from collections.abc import Hashable
from dataclasses import dataclass

from cellula.printers.diagram.parts import Drawing, Part

__all__ = ["Difference", "find_difference"]

_EDGES = ("input", "output", "state_in", "state_out")


@dataclass(frozen=True)
class Difference:
    """What a cell has that another one has not, and the other way round.

    Args:
        pairs: the parts that match: number here -> number in the other cell.
        new: parts that have no match there.
        changed: parts that compute something else than their match, or read something else.
        reads: the entries (part, number) of changed parts that their match does not have.
        gone: the names of the other cell's values that have no match here.
    """

    pairs: dict[int, int]
    new: tuple[int, ...]
    changed: tuple[int, ...]
    reads: tuple[tuple[int, int], ...]
    gone: tuple[str, ...]


def find_difference(here: Drawing, there: Drawing) -> Difference:
    """Compare a cell with another one.

    Parts match if they are of one kind and their values are used alike, they read the same values, or they bear the
    same name; among several, those match that agree in most of that.
    """
    one, other = _View(here), _View(there)
    pairs = _edges(here, there)
    candidates = [
        (number, match)
        for number, part in enumerate(here.parts)
        for match, counterpart in enumerate(there.parts)
        if part.kind == counterpart.kind and part.kind not in _EDGES
    ]
    while candidates:
        scores = {pair: _score(one, other, pairs, *pair) for pair in candidates}
        best = max(candidates, key=lambda pair: (scores[pair], -pair[0], -pair[1]))
        if scores[best] <= 0:
            break
        pairs[best[0]] = best[1]
        candidates = [pair for pair in candidates if pair[0] != best[0] and pair[1] != best[1]]
    return _judged(here, there, pairs)


def _judged(here: Drawing, there: Drawing, pairs: dict[int, int]) -> Difference:
    new, changed, reads = [], [], []
    for number, part in enumerate(here.parts):
        if number not in pairs:
            new += [number] if part.kind != "join" else []
            continue
        if part.kind in (*_EDGES, "join"):
            continue
        match = there.parts[pairs[number]]
        known = {(read.source, read.how, read.mark) for read in _reads(there, pairs[number])}
        mine = _reads(here, number)
        more = {read.place for read in mine if (pairs.get(read.source, -1), read.how, read.mark) not in known}
        # What new parts feed is drawn as it is; reading more or fewer values, or a function, is a change.
        if len(mine) != len(known) or _function(part) != _function(match):
            changed.append(number)
            reads += [(number, place) for place in sorted(more)]
    matched = set(pairs.values())
    gone = [name for number, part in enumerate(there.parts) if number not in matched for name in part.names]
    return Difference(pairs, tuple(new), tuple(changed), tuple(reads), tuple(gone))


def _function(part: Part) -> str:
    return part.form if part.kind in ("gate", "layer", "function", "scale", "parameter") else ""


@dataclass(frozen=True)
class _Read:
    """A value that a part reads, also through a bundle.

    Args:
        source, how, mark: as in `Entry`.
        place: the number of the part's entry.
    """

    source: int
    how: str
    mark: str
    place: int


def _reads(drawing: Drawing, number: int) -> list[_Read]:
    found = []
    for place, entry in enumerate(drawing.parts[number].entries):
        sources = [entry.source]
        while any(drawing.parts[source].kind == "join" for source in sources):
            joins = [source for source in sources if drawing.parts[source].kind == "join"]
            sources = [source for source in sources if source not in joins]
            sources += [inner.source for join in joins for inner in drawing.parts[join].entries]
        found += [_Read(source, entry.how, entry.mark, place) for source in sources]
    return found


def _edges(here: Drawing, there: Drawing) -> dict[int, int]:
    """Inputs with inputs, outputs with outputs, and memories with memories of their kind."""
    pairs: dict[int, int] = {}
    for kind in ("input", "output"):
        pairs |= dict(zip(here.kinds(kind), there.kinds(kind), strict=False))
    left = list(there.memories)
    for memory in here.memories:
        alike = [other for other in left if other.long == memory.long]
        named = [other for other in left if other.slot == memory.slot]
        found = [other for other in alike if other in named] or alike or named
        if found:
            left.remove(found[0])
            pairs[memory.start] = found[0].start
            if memory.end is not None and found[0].end is not None:
                pairs[memory.end] = found[0].end
    return pairs


class _View:
    """A drawing with what the uses of its parts look like."""

    def __init__(self, drawing: Drawing) -> None:
        self.drawing = drawing
        self.rail = {part for memory in drawing.memories for part in memory.rail}
        self.users: dict[int, list[int]] = {number: [] for number in range(len(drawing.parts))}
        for source, number, _ in drawing.wires:
            self.users[source].append(number)

    def kinds(self, number: int) -> Counter[Hashable]:
        """The kinds of the parts that a value enters."""
        return Counter((self.drawing.parts[user].kind, user in self.rail) for user in self.users[number])


def _score(one: _View, other: _View, pairs: dict[int, int], number: int, match: int) -> float:
    """How well two parts match; 0 where they do not."""
    part, counterpart = one.drawing.parts[number], other.drawing.parts[match]
    used = _same_use(one, other, number, match)
    named = bool(set(part.names) & set(counterpart.names))
    sources = Counter((pairs.get(read.source, -1), read.how) for read in _reads(one.drawing, number))
    others = Counter((read.source, read.how) for read in _reads(other.drawing, match))
    read = _overlap(sources, others)
    if not named and used < 0.5 and (read < 1.0 or len(part.entries) < 2):
        return 0.0
    along = (number in one.rail) == (match in other.rail)
    return 3 * used + 3 * read + 2 * named + along + (part.form == counterpart.form)


def _same_use(one: _View, other: _View, number: int, match: int) -> float:
    """How alike the uses of two values are, from 0 to 1: by the parts that they enter, and what these enter."""
    mine, theirs = one.users[number], list(other.users[match])
    most, total = max(len(mine), len(theirs)), 0.0
    for user in mine:
        alike = {
            their: (0.4 + 0.6 * _overlap(one.kinds(user), other.kinds(their)))
            * (1.0 if (user in one.rail) == (their in other.rail) else 0.6)
            for their in theirs
            if one.drawing.parts[user].kind == other.drawing.parts[their].kind
        }
        if alike:
            best = max(alike, key=lambda their: alike[their])
            total += alike[best]
            theirs.remove(best)
    return total / most if most else 1.0


def _overlap(one: Counter, other: Counter) -> float:
    """What two collections share, as a part of all that is in them."""
    whole = (one | other).total()
    return (one & other).total() / whole if whole else 1.0
