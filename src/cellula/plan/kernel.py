"""A cell as a kernel computes it: one step forward and one backward, with all that lies in memory between them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from textwrap import indent

from cellula.graph.graph import Graph
from cellula.graph.node import Adjoint, Extent, Input, Node, Parameter, Size, State, apply, leaf, rebuilt, walk
from cellula.graph.ops import OPS
from cellula.plan.backward import Backward, make_backward
from cellula.plan.expand import expand
from cellula.plan.once import Once, separate_once
from cellula.plan.plan import Plan, make_plan
from cellula.plan.save import choose_saved, states_read, values_read
from cellula.plan.schedule import PRODUCTS, Schedule, make_schedule, operands, spans_steps

__all__ = ["BackwardKernel", "Column", "Kernel", "LateProduct", "Source", "WeightProduct", "make_kernel"]


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
        kind: `"x"`; `"before"`: a state before each step; `"after"`: a state after each step; or a column.
        slot: of the state.
        column: the column.
    """

    kind: str
    slot: str = ""
    column: Column | None = None


@dataclass(frozen=True)
class WeightProduct:
    """The gradient of a matrix over all steps and sequences: `left.T @ right`."""

    parameter: Parameter
    left: Source
    right: Source


@dataclass(frozen=True)
class LateProduct:
    """What a product gives to the gradient of the input, over all steps at a time."""

    source: Source
    parameter: Parameter
    op: str


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


@dataclass(frozen=True)
class Kernel:
    """All that a back end needs to write a cell's kernels.

    Args:
        graph: the cell as it was given.
        plan: the steps without what is computed once, draws resolved, ops as the back end spells them.
        once: what is computed before the first step and given as a parameter.
        forward: the passes of a forward step.
        output: the node that leaves the cell.
        updates: slot -> the node whose value it holds in the next step.
        records: names and nodes that are returned too.
        kept: the slots whose values before every step are kept for the backward steps.
        backward: the backward step; None in a kernel for inference.
        blocks: whether a pass of the forward step does a block of steps before the next one begins.
    """

    graph: Graph
    plan: Plan
    once: tuple[Once, ...]
    forward: Schedule
    output: Node
    updates: tuple[tuple[str, Node], ...]
    records: tuple[tuple[str, Node], ...]
    kept: tuple[str, ...]
    backward: BackwardKernel | None
    blocks: bool

    @property
    def output_slot(self) -> str | None:
        """The kept state that is the output too, if there is one."""
        return next((slot for slot, node in self.updates if slot in self.kept and node is self.output), None)

    @property
    def saved(self) -> tuple[Column, ...]:
        """What the forward step writes for the backward one, beside the states."""
        return () if self.backward is None else tuple(column for column, _ in self.backward.work)

    def __str__(self) -> str:
        parts = [("forward step", str(self.forward))]
        if self.backward is not None:
            saved = [str(column.node.attribute or column.node) for column in self.saved]
            late = f"{len(self.backward.weights)} products for matrices, {len(self.backward.inputs)} for the input"
            parts.append(("in memory", f"states {', '.join(self.kept) or 'none'}; values {', '.join(saved) or 'none'}"))
            parts += [("backward step", str(self.backward.schedule)), ("after the last step", late)]
        return "\n".join(f"{title}:\n{indent(text, '  ')}" for title, text in parts)


def make_kernel(
    graph: Graph, native: Container[str], *, training: bool = False, backward: bool = False,
    record: Sequence[str] = (), blocks: bool = True,
) -> Kernel:  # fmt: skip
    """Lay out the kernels of a cell.

    Args:
        graph: a checked cell.
        native: the ops that the back end spells.
        training: whether dropout and zoneout draw; otherwise their expectation is built in.
        backward: whether gradients are wanted.
        record: names of nodes to return too; not together with `backward`.
        blocks: whether passes may do blocks of steps, where each unit runs through time by itself.

    Example:
        >>> from cellula import load_cell
        >>> from cellula.plan.kernel import make_kernel
        >>> from cellula.graph.ops import OPS
        >>> kernel = make_kernel(load_cell("lstm"), OPS, backward=True)
        >>> kernel.kept, [column.node.attribute for column in kernel.saved]
        (('c', 'h'), ['i', 'f', 'g', 'o'])
    """
    steps, once = separate_once(graph if training else _without_draws(graph))
    plan = make_plan(steps)
    derived = make_backward(plan) if backward else None
    roots = [node for _, node in (*plan.equations, *plan.updates)]
    done = _expanded([*roots, *_roots(derived)], native)
    equations = {name: done[node] for name, node in plan.equations}
    updates = tuple((slot, done[node]) for slot, node in plan.updates)
    records = tuple((name, equations[name]) for name in record)
    output = equations[graph.output]
    passed = {leaf(state): dict(updates)[state.slot] for state in plan.graph.states}
    blocks = blocks and spans_steps([], (), passed)
    part = None if derived is None else _Layout(derived, done, list(equations.values()), updates, blocks).run()
    wanted = [output, *(node for _, node in updates), *(node for _, node in records)]
    kept: tuple[str, ...] = ()
    if part is not None:
        wanted += [column.node for column, _ in part[0].work]
        kept = part[1]
    forward = make_schedule(wanted, passed=passed if blocks else None)
    new = forward.renamed
    return Kernel(
        graph, plan, once, forward, new[output], tuple((slot, new[node]) for slot, node in updates),
        tuple((name, new[node]) for name, node in records), kept, None if part is None else part[0], blocks,
    )  # fmt: skip


def _expanded(roots: list[Node], native: Container[str]) -> dict[Node, Node]:
    """Every node -> the same in ops that are spelled; where an op asks for a number of units, no value is read."""
    done = expand(roots, lambda node: _is_replaced(node, native))
    made: dict[Node, Node] = {}
    for node in walk(done.values()):
        inputs = [made[child] for child in node.inputs]
        if node.op in ("units", "expand"):
            inputs[-1] = leaf(Extent(node.inputs[-1].size))
        made[node] = rebuilt(node, tuple(inputs))
    return {node: made[other] for node, other in done.items()}


def _is_replaced(node: Node, native: Container[str]) -> bool:
    return node.op in OPS and node.op not in native and OPS[node.op].definition is not None


def _without_draws(graph: Graph) -> Graph:
    """The cell with the expectation in place of every random draw."""
    drawing = [node for node in graph.nodes if node.op in OPS and OPS[node.op].draw]
    if not drawing:
        return graph
    done: dict[Node, Node] = {}
    for node in graph.nodes:
        inputs = tuple(done[child] for child in node.inputs)
        row = OPS.get(node.op)
        if row is None or row.draw is None:
            done[node] = rebuilt(node, inputs)
        elif row.draw.inverted:
            done[node] = inputs[0]
        else:
            new, old, rate = inputs
            done[node] = apply("add", (new, apply("multiply", (rate, apply("subtract", (old, new))))))
    equations = tuple(replace(one, node=done[one.node]) for one in graph.equations)
    return replace(graph, equations=equations)


def _roots(derived: Backward | None) -> list[Node]:
    """All that a derived backward step may compute."""
    if derived is None:
        return []
    roots = [node for _, node in derived.gradients]
    roots += [node for _, node in derived.carries if node is not None]
    for term in derived.weights:
        roots += [term.right] if term.left is None else [term.left, term.right]
    return roots + ([derived.input] if derived.input is not None else [])


class _Layout:
    """What is saved, where the factors of the late products lie, and what a backward step computes."""

    def __init__(
        self, derived: Backward, done: dict[Node, Node], equations: list[Node], updates: tuple[tuple[str, Node], ...],
        blocks: bool,
    ) -> None:  # fmt: skip
        self.derived, self.done, self.updates, self.blocks = derived, done, dict(updates), blocks
        self.order = walk([*equations, *self.updates.values()])
        self.forward = set(self.order)
        self.terms = [
            (term.parameter, None if term.left is None else done[term.left], done[term.right])
            for term in derived.weights
        ]

    def run(self) -> tuple[BackwardKernel, tuple[str, ...]]:
        """The backward step, and the slots that it wants kept."""
        factors = [node for _, left, right in self.terms if left is not None for node in (left, right)]
        late, rest = self._input(factors)
        carries = [(slot, None if node is None else self.done[node]) for slot, node in self.derived.carries]
        totals = [(parameter, right) for parameter, left, right in self.terms if left is None]
        roots = [node for _, node in carries if node is not None] + [node for _, node in totals]
        roots += ([rest] if rest is not None else []) + factors
        slots = states_read(roots, self.forward)
        kept = {node for slot, node in self.updates.items() if slot in slots and node.op != "leaf"}
        saved = choose_saved(values_read(roots, self.forward), self.order, kept, slots)
        there = {*saved, *kept}
        written = [node for node in dict.fromkeys(factors) if node not in there and not _in_memory(node)]
        roots = [node for _, node in carries if node is not None] + [node for _, node in totals]
        roots += ([rest] if rest is not None else []) + written
        sizes = {state.slot: state.size for state in self.derived.plan.graph.states}
        passed = {leaf(Adjoint(slot, True, sizes[slot])): node for slot, node in carries if node is not None}
        blocks = self.blocks and spans_steps(roots, there, passed)
        schedule = make_schedule(roots, there, passed if blocks else None)
        new = schedule.renamed
        work, extra = self._columns(saved, [new[node] for node in written], schedule, {*factors})
        found = {column.node: column for column, _ in work if column.node in factors}
        found |= {node: column for column, node in work if node is not None} | {one.node: one for one in extra}
        at = {node: self._source(node, new.get(node, node), found) for node in factors}
        step = BackwardKernel(
            schedule,
            tuple((slot, None if node is None else new[node]) for slot, node in carries),
            tuple((parameter, new[node]) for parameter, node in totals),
            work,
            extra,
            tuple(WeightProduct(p, at[left], at[right]) for p, left, right in self.terms if left is not None),
            tuple(LateProduct(at[node.inputs[0]], _parameter(node), node.op) for node in late),
            None if rest is None else new[rest],
            blocks,
        )
        return step, tuple(state.slot for state in self.derived.plan.graph.states if state.slot in slots)

    def _input(self, factors: list[Node]) -> tuple[list[Node], Node | None]:
        """The gradient of the input as products that can wait until after the last step, and what is left."""
        if self.derived.input is None:
            return [], None
        terms = _sum_terms(self.done[self.derived.input])
        late = [term for term in terms if term.op in PRODUCTS and term.inputs[0] in factors]
        rest = [term for term in terms if term not in late]
        if not rest:
            return late, None
        total = rest[0]
        for term in rest[1:]:
            total = apply("add", (total, term))
        return late, total

    def _columns(
        self, saved: list[Node], written: list[Node], schedule: Schedule, factors: set[Node]
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
        return tuple(pairs), tuple(extra)

    def _source(self, node: Node, new: Node, columns: dict[Node, Column]) -> Source:
        if isinstance(node.attribute, Input):
            return Source("x")
        if isinstance(node.attribute, State):
            return Source("before", node.attribute.slot)
        if new in columns:
            return Source("column", column=columns[new])
        if node in columns:
            return Source("column", column=columns[node])
        slot = next(slot for slot, value in self.updates.items() if value is node)
        return Source("after", slot)


def _in_memory(node: Node) -> bool:
    return isinstance(node.attribute, Input | State)


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
