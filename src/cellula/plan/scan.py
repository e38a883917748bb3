"""Is a cell affine in its memory? Then all steps can be computed at once, by a scan over time.

A state is affine if its new value is `a * old + b`, where neither a nor b depends on the old value. Two such steps in
a row are one: `a2 * (a1 * old + b1) + b2 = (a2 * a1) * old + (a2 * b1 + b2)`. Steps may therefore be joined in any
grouping, many at a time. States that read each other, such as the real and the imaginary part of one number, form a
group; a is then a small matrix for each unit.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellula.graph.node import Node, Parameter, State, apply, constant, leaf, rebuilt, walk
from cellula.graph.ops import OPS
from cellula.graph.simplify import simplified, simplified_below
from cellula.plan.expand import gradient
from cellula.plan.plan import Plan

__all__ = ["Group", "Obstacle", "Scan", "find_scan"]

# A scan multiplies the matrices of its steps; wider ones take longer than the steps themselves.
_MOST_STATES = 4


@dataclass(frozen=True)
class Group:
    """States that read each other, unit by unit; or one that reads none of its own past.

    Args:
        slots: their names, as `State.slot` gives them.
        coefficients: [new][old]; what an old value is multiplied with, None for 0.
        offsets: of every state what is added; None for 0.
    """

    slots: tuple[str, ...]
    coefficients: tuple[tuple[Node | None, ...], ...]
    offsets: tuple[Node | None, ...]

    @property
    def remembers(self) -> bool:
        """Whether any of the states depends on the past of the group."""
        return any(one is not None for row in self.coefficients for one in row)


@dataclass(frozen=True)
class Scan:
    """How the states of a cell follow from the input without going step by step.

    Args:
        groups: in order; a group reads its own states as the scan gives them, and those of groups before it freely.
    """

    groups: tuple[Group, ...]


@dataclass(frozen=True)
class Obstacle:
    """Why a cell has to go step by step.

    Args:
        slots: the states that are not affine.
        equation: in which the first thing in the way stands.
        node: what is in the way; None where it is the number of states.
        why: in words.
    """

    slots: tuple[str, ...]
    equation: str
    node: Node | None
    why: str

    def __str__(self) -> str:
        return self.why


def find_scan(plan: Plan) -> Scan | Obstacle:
    """Find out whether a cell can be computed by a scan over time, and how.

    Args:
        plan: what runs when.

    Returns:
        The groups of states, or what is in the way.

    Example:
        >>> from cellula import load_cell, make_plan
        >>> from cellula.plan.scan import find_scan
        >>> find_scan(make_plan(load_cell("mingru"))).groups[0].slots
        ('h',)
        >>> print(find_scan(make_plan(load_cell("elman"))))
        in h[t] a matrix product mixes the units of h[t-1]
    """
    updates = dict(plan.updates)
    leaves = {state.slot: leaf(state) for state in plan.graph.states}
    owner = _owners(plan)
    groups = []
    for slots in _groups(plan):
        forms = _Forms({leaves[slot]: slot for slot in slots}, owner)
        for slot in slots:
            found = forms.of(updates[slot])
            if found is not None:
                return found
        if len(slots) > _MOST_STATES:
            why = f"{len(slots)} states depend on each other ({', '.join(slots)}); a scan takes {_MOST_STATES} at most"
            return Obstacle(slots, "", None, why)
        made = [forms.done.get(updates[slot]) or _Form(updates[slot], {}) for slot in slots]
        coefficients = tuple(tuple(form.coefficients.get(slot) for slot in slots) for form in made)
        groups.append(Group(slots, coefficients, tuple(form.offset for form in made)))
    return Scan(tuple(groups))


def _groups(plan: Plan) -> list[tuple[str, ...]]:
    """The states in groups that depend on each other; what a group needs of others comes before it."""
    slots = [state.slot for state in plan.graph.states]
    needs: dict[str, set[str]] = {}
    for slot, node in plan.updates:
        needs[slot] = {one.attribute.slot for one in walk([node]) if isinstance(one.attribute, State)}
    for middle in slots:
        for slot in slots:
            if middle in needs[slot]:
                needs[slot] |= needs[middle]
    groups = dict.fromkeys(
        tuple(one for one in slots if one == slot or (one in needs[slot] and slot in needs[one])) for slot in slots
    )
    # What needs less comes first; of two groups that need as much, neither needs the other.
    return sorted(groups, key=lambda group: len(needs[group[0]] - set(group)))


def _owners(plan: Plan) -> dict[Node, str]:
    """In which equation a node stands first."""
    found: dict[Node, str] = {}
    for name, node in plan.equations:
        for inner in walk([node]):
            found.setdefault(inner, name)
    return found


@dataclass(frozen=True)
class _Form:
    """A value as offset + the sum of coefficient * state; an offset of None is 0."""

    offset: Node | None
    coefficients: Mapping[str, Node]


class _Forms:
    """The affine form of every value that depends on the states of a group."""

    def __init__(self, states: Mapping[Node, str], owner: Mapping[Node, str]) -> None:
        self.states, self.owner = states, owner
        self.done: dict[Node, _Form] = {node: _Form(None, {slot: constant(1.0)}) for node, slot in states.items()}

    def of(self, root: Node) -> Obstacle | None:
        """Bring a value and all below it into the form; what is in the way, if anything is."""
        for node in walk([root]):
            if node in self.done or not any(child in self.done for child in node.inputs):
                continue
            form = self._form(node)
            if isinstance(form, str):
                name = self.owner.get(node, "")
                return Obstacle(tuple(self.states.values()), name, node, f"in {name}[t] {form}")
            self.done[node] = form
        return None

    def _form(self, node: Node) -> _Form | str:
        """The form of a value whose inputs have one, or why there is none."""
        if node.op == "equation":
            form = self.done[node.inputs[0]]
            offset = None if form.offset is None else rebuilt(node, (form.offset,))
            return _Form(offset, form.coefficients)
        if node.op in ("matmul", "transposed"):
            if not _is_diagonal(node.inputs[1]):
                return f"a matrix product mixes the units of {self._past()}"
            node = apply("multiply", node.inputs)
        row = OPS[node.op]
        if row.shape in ("reduce", "normalize"):
            return f"{node.op}() mixes the units of {self._past()}"
        slopes: dict[int, Node] = {}
        for index, child in enumerate(node.inputs):
            if child in self.done:
                found = gradient(node, index, constant(1.0))
                slope = None if found is None else simplified_below(found)
                # A slope of None is 0 but for jumps.
                if slope is None or any(inner in self.done for inner in walk([slope])):
                    name = f"`{row.symbol}`" if row.symbol and row.symbol != "-" else f"{node.op}()"
                    return f"{name} is not linear in {self._past()}"
                slopes[index] = slope
        return _Form(self._offset(node), self._coefficients(node, slopes))

    def _past(self) -> str:
        states = [node.attribute for node in self.states]
        return " and ".join(f"{one.name}[t-{one.lag}]" for one in states if isinstance(one, State))

    def _coefficients(self, node: Node, slopes: Mapping[int, Node]) -> dict[str, Node]:
        found: dict[str, Node] = {}
        for index, slope in slopes.items():
            for slot, inner in self.done[node.inputs[index]].coefficients.items():
                turned = slope == constant(-1.0)
                term = simplified(apply("negative", (inner,)) if turned else apply("multiply", (slope, inner)))
                found[slot] = simplified(apply("add", (found[slot], term))) if slot in found else term
        return found

    def _offset(self, node: Node) -> Node | None:
        """The value where all states are 0."""
        parts = [self.done[child].offset if child in self.done else child for child in node.inputs]
        if node.op in ("multiply", "divide", "negative") and None in parts:
            return None
        if node.op in ("add", "subtract") and None in parts:
            first, second = parts
            if second is None:
                return first
            return second if node.op == "add" else simplified(apply("negative", (second,)))
        inputs = tuple(constant(0.0) if part is None else part for part in parts)
        return simplified(rebuilt(node, inputs))


def _is_diagonal(node: Node) -> bool:
    return isinstance(node.attribute, Parameter) and node.attribute.kind == "diagonal"
