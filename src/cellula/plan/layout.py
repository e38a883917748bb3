"""What lies in memory between a step forward and the step back through it, and what follows the last step."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from cellula.graph.node import Adjoint, Input, Node, Parameter, Size, State, apply, leaf, rebuilt, walk
from cellula.graph.ops import OPS
from cellula.plan.backward import Backward, WeightTerm
from cellula.plan.save import choose_saved, states_read, values_read
from cellula.plan.schedule import PRODUCTS, Schedule, make_schedule, operands, spans_steps

__all__ = ["BackwardKernel", "Column", "LateProduct", "Layout", "Source", "WeightProduct"]


@dataclass(frozen=True)
class Column:
    """A value that is kept for every step and sequence.

    Args:
        buffer: `"work"`: written by the forward step; gradients overwrite what is read no more. `"extra"`: written by
            the backward step.
        node: whose value it is.
    """

    buffer: str
    node: Node

    @property
    def size(self) -> Size:
        """Its number of units."""
        return self.node.size


@dataclass(frozen=True)
class Source:
    """Where the values of all steps and sequences of a factor lie.

    Args:
        kind: `"x"`; `"output"`; `"d_output"`: the gradient that the caller gives; `"before"`: a state before each step;
            `"after"`: a state after each step; or `"column"`.
        slot: of the state.
        column: the column.
    """

    kind: str
    slot: str = ""
    column: Column | None = None


@dataclass(frozen=True)
class WeightProduct:
    """The gradient of a matrix over all steps and sequences: `left.T @ right`, or the negative of it."""

    parameter: Parameter
    left: Source
    right: Source
    negative: bool = False


@dataclass(frozen=True)
class LateProduct:
    """What a product, or the negative of it, gives to the gradient of the input, over all steps at a time."""

    source: Source
    parameter: Parameter
    op: str
    negative: bool = False


@dataclass(frozen=True)
class BackwardKernel:
    """One step of backpropagation through time.

    Args:
        schedule: its passes.
        carries: slot -> what is carried back to the step before; None where nothing is.
        totals: vector or scalar parameter -> what a step adds to its gradient, summed over the sequences.
        work: what each column of `work` holds before and after the backward step; None where it is left alone.
        extra: columns that only the backward step writes.
        weights, inputs: the products over all steps that follow the last one.
        input: what a step itself adds to the gradient of the input, if anything.
        blocks: whether a pass does a block of steps before the next one begins.
    """

    schedule: Schedule
    carries: tuple[tuple[str, Node | None], ...]
    totals: tuple[tuple[Parameter, Node], ...]
    work: tuple[tuple[Column, Node | None], ...]
    extra: tuple[Column, ...]
    weights: tuple[WeightProduct, ...]
    inputs: tuple[LateProduct, ...]
    input: Node | None
    blocks: bool


class Layout:
    """What is saved, where the factors of the late products lie, and what a backward step computes."""

    def __init__(
        self, derived: Backward, done: dict[Node, Node], equations: dict[str, Node], updates: dict[str, Node],
        blocks: bool,
    ) -> None:  # fmt: skip
        graph = derived.plan.graph
        self.derived, self.done, self.updates, self.blocks = derived, done, updates, blocks
        self.output, self.states = equations[graph.output], graph.states
        self.order = walk([*equations.values(), *updates.values()])
        self.forward = set(self.order)
        self.terms = [self._term(term) for term in derived.weights]

    def _term(self, term: WeightTerm) -> tuple[Parameter, Node | None, Node, bool]:
        """A term, its factors without signs, and its sign."""
        if term.left is None:
            return term.parameter, None, self.done[term.right], False
        (left, one), (right, other) = (_unsigned(self.done[node]) for node in (term.left, term.right))
        return term.parameter, left, right, one != other

    def run(self) -> tuple[BackwardKernel, tuple[str, ...]]:
        """The backward step, and the states that it wants kept."""
        factors = [node for _, left, right, _ in self.terms if left is not None for node in (left, right)]
        late, rest = self._input(factors)
        carries = [(slot, None if node is None else self.done[node]) for slot, node in self.derived.carries]
        totals = [(parameter, right) for parameter, left, right, _ in self.terms if left is None]
        ends = [node for _, node in carries if node is not None] + [node for _, node in totals]
        ends += [rest] if rest is not None else []
        names = {Input().name} | states_read([*ends, *factors], self.forward)
        names |= {name for name in self.updates if self.updates[name] is self.output}
        kept = {self.output} | {self.updates[name] for name in names if name != Input().name}
        saved = choose_saved(values_read([*ends, *factors], self.forward), self.order, kept, names)
        there = {*saved, *kept}
        written = [node for node in dict.fromkeys(factors) if node not in there and not self._in_memory(node)]
        sizes = {state.slot: state.size for state in self.states}
        passed = {leaf(Adjoint(slot, True, sizes[slot])): node for slot, node in carries if node is not None}
        blocks = self.blocks and spans_steps([*ends, *written], there, passed)
        schedule = make_schedule([*ends, *written], there, passed if blocks else None)
        new = schedule.renamed
        work, extra = self._columns(saved, [new[node] for node in written], schedule, {*factors}, self._meets(new))
        found = {column.node: column for column, _ in work if column.node in factors}
        found |= {node: column for column, node in work if node is not None} | {one.node: one for one in extra}
        at = {node: self._source(node, new.get(node, node), found) for node in factors}
        step = BackwardKernel(
            schedule,
            tuple((slot, None if node is None else new[node]) for slot, node in carries),
            tuple((parameter, new[node]) for parameter, node in totals),
            work,
            extra,
            tuple(
                WeightProduct(p, at[left], at[right], sign) for p, left, right, sign in self.terms if left is not None
            ),
            tuple(LateProduct(at[node.inputs[0]], _parameter(node), node.op, sign) for node, sign in late),
            None if rest is None else new[rest],
            blocks,
        )
        return step, self._kept(step, new.values(), kept - {self.output})

    def _kept(self, step: BackwardKernel, nodes: Iterable[Node], kept: set[Node]) -> tuple[str, ...]:
        """The states of which the step, or a product after it, reads what they were."""
        read = states_read(nodes, step.schedule.given)
        sources = [source for one in step.weights for source in (one.left, one.right)]
        sources += [one.source for one in step.inputs]
        slots = {source.slot for source in sources}
        read |= {state.name for state in self.states if state.slot in slots}
        given = {child for phase in step.schedule.phases for node in phase.nodes for child in operands(node)}
        read |= {slot for slot, node in self.updates.items() if node in given & kept}
        return tuple(state.slot for state in self.states if state.lag == 1 and state.name in read)

    def _input(self, factors: list[Node]) -> tuple[list[tuple[Node, bool]], Node | None]:
        """The gradient of the input as products that can wait until after the last step, and what is left."""
        if self.derived.input is None:
            return [], None
        late, rest = [], []
        for term in _sum_terms(self.done[self.derived.input]):
            value, negative = _unsigned(term.inputs[0]) if term.op in PRODUCTS else (term, False)
            if term.op in PRODUCTS and value in factors:
                late.append((rebuilt(term, (value, term.inputs[1])), negative))
            else:
                rest.append(term)
        if not rest:
            return late, None
        total = rest[0]
        for term in rest[1:]:
            total = apply("add", (total, term))
        return late, total

    def _columns(
        self,
        saved: list[Node],
        written: list[Node],
        schedule: Schedule,
        factors: set[Node],
        meets: dict[Node | None, float],
    ) -> tuple[tuple[tuple[Column, Node | None], ...], tuple[Column, ...]]:
        """Gradients take the place of saved values that are read no more."""
        last = _last_reads(schedule)
        free = [node for node in saved if node not in factors]
        pairs: list[tuple[Column, Node | None]] = []
        extra = []
        for node in written:
            moment = 2 * schedule.phase_of(node) + 1
            place = next((one for one in free if one.size == node.size and last.get(one, -1) <= moment), None)
            if place is None:
                extra.append(Column("extra", node))
            else:
                free.remove(place)
                pairs.append((Column("work", place), node))
        taken = {column.node for column, _ in pairs}
        pairs += [(Column("work", node), None) for node in saved if node not in taken]
        # What meets the same factor stands side by side: their products are one wide product. Numbers come last.
        pairs.sort(key=lambda pair: (pair[0].size is None, meets.get(pair[1], len(meets))))
        extra.sort(key=lambda column: (column.size is None, meets.get(column.node, len(meets))))
        return tuple(pairs), tuple(extra)

    def _meets(self, new: dict[Node, Node]) -> dict[Node | None, float]:
        """Of every right factor the left ones that meet it: what meets two of them lies between theirs."""
        terms = [(left, new.get(right, right)) for _, left, right, _ in self.terms if left is not None]
        lefts = list(dict.fromkeys(left for left, _ in terms))
        met: dict[Node | None, list[int]] = {}
        for left, right in terms:
            met.setdefault(right, []).append(lefts.index(left))
        return {right: sum(numbers) / len(numbers) for right, numbers in met.items()}

    def _source(self, node: Node, new: Node, columns: dict[Node, Column]) -> Source:
        if isinstance(node.attribute, Input):
            return Source("x")
        if isinstance(node.attribute, State):
            return Source("before", node.attribute.slot)
        if new in columns:
            return Source("column", column=columns[new])
        if node in columns:
            return Source("column", column=columns[node])
        if node is self.output:
            return Source("output")
        if self._is_given(node):
            return Source("d_output")
        slot = next(slot for slot, value in self.updates.items() if value is node)
        return Source("after", slot)

    def _in_memory(self, node: Node) -> bool:
        return isinstance(node.attribute, Input | State) or self._is_given(node)

    def _is_given(self, node: Node) -> bool:
        """Whether a value is the gradient of the output as the caller gives it, with or without a name."""
        if node.op == "equation" and node.inputs[0].size == node.size:
            node = node.inputs[0]
        what, output = node.attribute, self.derived.plan.graph.output
        return isinstance(what, Adjoint) and not what.carried and what.name == output


def _unsigned(node: Node) -> tuple[Node, bool]:
    """A factor without its sign, and whether that is a minus."""
    negative = False
    while node.op == "negative":
        node, negative = node.inputs[0], not negative
    return node, negative


def _parameter(product: Node) -> Parameter:
    parameter = product.inputs[1].attribute
    assert isinstance(parameter, Parameter)
    return parameter


def _sum_terms(node: Node) -> list[Node]:
    if node.op != "add":
        return [node]
    return [term for child in node.inputs for term in _sum_terms(child)]


def _last_reads(schedule: Schedule) -> dict[Node, int]:
    """When a given value is read for the last time: 2 p + 1 unit by unit in pass p, 2 p + 2 as a whole there."""
    last: dict[Node, int] = {}
    for number, phase in enumerate(schedule.phases):
        for node in phase.nodes:
            whole = node.op == "accumulate" or (node.op in OPS and OPS[node.op].shape == "reduce")
            for child in operands(node):
                if child in schedule.given:
                    last[child] = max(last.get(child, -1), 2 * number + 1 + whole)
    return last
