"""The order within one step: products joined, and everything in as few passes over the units as there must be.

A matrix product and a reduction need all units of what they read. So a step falls into levels: within one level every
unit can be computed by itself, and between two levels all units are there.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cellula.graph.node import Constant, Extent, Input, Node, Parameter, Setting, Size, accumulate, apply, rebuilt
from cellula.graph.ops import OPS

__all__ = ["Phase", "Schedule", "make_schedule", "spans_steps", "walk_to"]

PRODUCTS = ("matmul", "transposed")


@dataclass(frozen=True)
class Phase:
    """Values of one size that are computed unit by unit, in one pass.

    Args:
        level: how many times all units of something had to be waited for.
        size: of every value here; None for single numbers per sequence, which come first within a level.
        nodes: in order; joined products (`accumulate`) stand among them.
    """

    level: int
    size: Size
    nodes: tuple[Node, ...]

    @property
    def sums(self) -> tuple[Node, ...]:
        """The joined products."""
        return tuple(node for node in self.nodes if node.op == "accumulate")

    def __str__(self) -> str:
        what = f"unit by unit over {self.size}" if self.size else "single numbers of each sequence"
        names = [str(node.attribute) for node in self.nodes if node.op == "equation"]
        sums = f", products {sum(len(node.inputs) for node in self.sums)} in {len(self.sums)} sums" if self.sums else ""
        return f"{what}: values {len(self.nodes)}{sums}{', among them ' if names else ''}{', '.join(names)}"


@dataclass(frozen=True)
class Schedule:
    """A step as passes over the units.

    Args:
        phases: in order.
        renamed: what was asked for -> the node that computes it here, products joined.
        given: values that are read from memory.
        steady: single numbers that are the same for every sequence and step; they have no pass of their own.
        handed: what is only handed on -> the pass that does it.
    """

    phases: tuple[Phase, ...]
    renamed: dict[Node, Node]
    given: frozenset[Node]
    steady: frozenset[Node]
    handed: dict[Node, int]

    def __post_init__(self) -> None:
        done = set(self.steady)
        for phase in self.phases:
            for node in phase.nodes:
                for child in operands(node):
                    if child.op != "leaf" and child not in self.given and child not in done:
                        raise ValueError(f"{node} runs before {child}")
                done.add(node)

    def __str__(self) -> str:
        return "\n".join(f"pass {number}, {phase}" for number, phase in enumerate(self.phases, 1))

    @cached_property
    def place(self) -> dict[Node, int]:
        """Which phase computes a node."""
        return {node: number for number, phase in enumerate(self.phases) for node in phase.nodes}

    def phase_of(self, node: Node) -> int:
        """The pass in which a wanted value is written down."""
        return self.place[node] if node in self.place else self.handed.get(node, 0)

    @cached_property
    def crossing(self) -> tuple[Node, ...]:
        """The values that a later pass needs, and so must be written down."""
        found: dict[Node, None] = {}
        for number, phase in enumerate(self.phases):
            for node in phase.nodes:
                for child in operands(node):
                    if self.place.get(child, number) < number:
                        found[child] = None
        return tuple(found)


def operands(node: Node) -> tuple[Node, ...]:
    """What a node reads; of joined products the values, not the matrices."""
    if node.op == "accumulate":
        return tuple(product.inputs[0] for product in node.inputs)
    return tuple(child for child in node.inputs if not isinstance(child.attribute, Extent))


def walk_to(roots: Iterable[Node], stop: Callable[[Node], bool]) -> list[Node]:
    """Every node below the roots once, inputs first; what `stop` holds for is kept, but not what lies below it."""
    order: list[Node] = []
    seen: set[Node] = set()
    stack = [(node, False) for node in reversed(list(roots))]
    while stack:
        node, ready = stack.pop()
        if ready:
            order.append(node)
        elif node not in seen:
            seen.add(node)
            stack.append((node, True))
            if not stop(node):
                stack += [(child, False) for child in reversed(node.inputs) if child not in seen]
    return order


def spans_steps(roots: Iterable[Node], given: Iterable[Node], passed: Mapping[Node, Node]) -> bool:
    """Whether every pass can do many steps before the next pass begins.

    So it is where what a step hands to the next one meets, on its way round to itself, neither a product nor a
    reduction: each unit then runs through time by itself.

    Args:
        roots: what a step computes.
        given: values that are in memory already.
        passed: what a step reads of its neighbour -> the value there that it is; each value is one of the roots.

    Example:
        >>> from cellula import load_cell, make_plan
        >>> from cellula.graph.node import leaf
        >>> from cellula.plan.schedule import spans_steps
        >>> for name in ("mingru", "gru"):
        ...     plan = make_plan(load_cell(name))
        ...     spans_steps([], (), {leaf(state): dict(plan.updates)[state.slot] for state in plan.graph.states})
        True
        False
    """
    known = frozenset(given)
    nodes = walk_to([*roots, *passed.values()], lambda node: node in known)
    nodes = [node for node in nodes if node.op != "leaf" and node not in known]
    return _lowest(nodes, passed) is not None


def make_schedule(
    roots: Iterable[Node], given: Iterable[Node] = (), passed: Mapping[Node, Node] | None = None
) -> Schedule:
    """Put the nodes below the roots into passes.

    Args:
        roots: what is to be computed.
        given: values that are in memory already.
        passed: where each pass is to do many steps before the next one begins: what a step reads of its neighbour ->
            the root that it is there.

    Raises:
        ValueError: a pass cannot do many steps; see `spans_steps`.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.plan.schedule import make_schedule
        >>> schedule = make_schedule(one.node for one in load_cell("gru").equations)
        >>> [(phase.level, len(phase.sums)) for phase in schedule.phases]
        [(0, 3), (1, 1)]
    """
    roots, known = list(dict.fromkeys(roots)), frozenset(given)
    renamed = _Joining(roots, known, passed or {}).run()
    wanted = [renamed[root] for root in roots]
    nodes = [node for node in walk_to(wanted, lambda node: node in known) if node.op not in PRODUCTS]
    nodes = [node for node in nodes if node.op != "leaf" and node not in known]
    steady = _steady(nodes, wanted)
    nodes = [node for node in nodes if node not in steady]
    level = _levels(nodes, known, wanted, {one: renamed[node] for one, node in (passed or {}).items()})
    # What is only handed on has a pass over its units too.
    handed = {node: _key(node, level) for node in wanted if node.op == "leaf" or node in known}
    groups: dict[tuple[int, int, Size], list[Node]] = {key: [] for key in handed.values()}
    for node in nodes:
        groups.setdefault(_key(node, level), []).append(node)
    keys = sorted(groups, key=lambda key: (key[0], key[1], str(key[2])))
    phases = tuple(Phase(key[0], key[2], tuple(groups[key])) for key in keys)
    return Schedule(phases, renamed, known, steady, {node: keys.index(key) for node, key in handed.items()})


def _key(node: Node, level: dict[Node, int]) -> tuple[int, int, Size]:
    """What stands in one pass has this in common; single numbers come first."""
    return level.get(node, 0), node.size is not None, node.size


def _steady(nodes: list[Node], wanted: list[Node]) -> frozenset[Node]:
    found: set[Node] = set()
    for node in nodes:
        fixed = all(_is_fixed(child) or child in found for child in operands(node))
        if fixed and node.size is None and node not in wanted:
            found.add(node)
    return frozenset(found)


def _is_fixed(node: Node) -> bool:
    return node.size is None and isinstance(node.attribute, Constant | Setting | Parameter)


def _own_level(node: Node, level: dict[Node, int]) -> int:
    """The earliest level; `level` lacks what is in memory before the step."""
    return max((level[child] + _waits(node) for child in operands(node) if child in level), default=0)


def _lowest(nodes: list[Node], passed: Mapping[Node, Node]) -> dict[Node, int] | None:
    """The earliest levels, also of what is passed from step to step; None where they grow without end."""
    level: dict[Node, int] = {}
    # The longest way goes through each passed value once.
    for _ in range(len(passed) + 2):
        for node in nodes:
            level[node] = _own_level(node, level)
        found = {one: level.get(node, 0) for one, node in passed.items()}
        if all(level.get(one) == own for one, own in found.items()):
            return level
        level |= found
    return None


def _levels(
    nodes: list[Node], given: frozenset[Node], wanted: list[Node], passed: Mapping[Node, Node]
) -> dict[Node, int]:
    level = _lowest(nodes, passed)
    if level is None:
        raise ValueError("what a step hands to the next one needs all units on its way: no pass can do many steps")
    readers: dict[Node, list[Node]] = {}
    for node in nodes:
        for child in operands(node):
            readers.setdefault(child, []).append(node)
    roots = set(wanted)
    # What reads memory only and is needed later is computed later: then nothing needs to be written down for it.
    for node in reversed(nodes):
        free = all(child.op == "leaf" or child in given for child in operands(node)) and node.op != "accumulate"
        if free and node not in roots and node.size is not None:
            later = [level[reader] for reader in readers.get(node, []) if not _waits(reader)]
            if later and len(later) == len(readers[node]):
                level[node] = max(level[node], min(later))
    return level


def _waits(node: Node) -> bool:
    """Whether all units of what a node reads must be there."""
    return node.op == "accumulate" or node.op in PRODUCTS or (node.op in OPS and OPS[node.op].shape == "reduce")


class _Joining:
    """Sums of products become one `accumulate` a level: a single pass over the units adds them all up."""

    def __init__(self, roots: list[Node], given: frozenset[Node], passed: Mapping[Node, Node]) -> None:
        self.given, self.spanning = given, bool(passed)
        self.order = walk_to(roots, self._stops)
        self.uses = Counter(child for node in self.order if not self._stops(node) for child in node.inputs)
        self.uses.update(roots)
        self.done: dict[Node, Node] = {}
        lowest = _lowest([node for node in self.order if not self._stops(node)], passed) or {}
        self.level = {one: lowest[one] for one in passed if one in lowest}

    def _stops(self, node: Node) -> bool:
        return node.op == "leaf" or node in self.given

    def run(self) -> dict[Node, Node]:
        """Every node -> itself with its products joined."""
        for node in self.order:
            if node in self.done:
                continue
            made = node if self._stops(node) else self._made(node)
            self.done[node] = made
            for one in walk_to([made], lambda inner: self._stops(inner) or inner in self.level):
                if not self._stops(one) and one.op not in PRODUCTS and one not in self.level:
                    self.level[one] = _own_level(one, self.level)
        return self.done

    def _made(self, node: Node) -> Node:
        if node.op in PRODUCTS:
            return accumulate((self._product(node),))
        if node.op == "add":
            return self._sum(node)
        return rebuilt(node, tuple(self.done[child] for child in node.inputs))

    def _product(self, node: Node) -> Node:
        return rebuilt(node, (self.done[node.inputs[0]], node.inputs[1]))

    def _terms(self, node: Node) -> list[Node]:
        """The terms of a sum, through sums that nothing else reads."""
        terms = []
        for child in node.inputs:
            inner = child.op == "add" and self.uses[child] == 1 and not self._stops(child) and child.size == node.size
            terms += self._terms(child) if inner else [child]
        return terms

    def _sum(self, node: Node) -> Node:
        terms = self._terms(node)
        rest = [self.done[term] for term in terms if term.op not in PRODUCTS or self.uses[term] > 1]
        products = [self._product(term) for term in terms if term.op in PRODUCTS and self.uses[term] == 1]
        if not products:
            return apply("add", tuple(self.done[child] for child in node.inputs))
        at: dict[int, list[Node]] = {}
        for product in products:
            value = product.inputs[0]
            # What is read is there before the level that multiplies it.
            at.setdefault(self.level[value] + 1 if value in self.level else 0, []).append(product)
        if self.spanning:
            # Then an earlier sum would be written down for many steps and read again.
            at = {0: [product for found in at.values() for product in found]}
        sums = [accumulate(tuple(sorted(found, key=_reads_state))) for _, found in sorted(at.items())]
        total = sums[0]
        for part in [*rest, *sums[1:]]:
            total = apply("add", (total, part))
        return total


def _reads_state(product: Node) -> bool:
    """Products of the input come first: they may have been computed for many steps before."""
    return not isinstance(product.inputs[0].attribute, Input)
