"""A cell as a kernel computes it: one step forward and one backward, with all that lies in memory between them."""

from __future__ import annotations

from collections.abc import Container, Sequence
from dataclasses import dataclass, replace
from textwrap import indent

from cellula.graph.graph import Graph
from cellula.graph.node import Extent, Input, Node, Parameter, apply, leaf, rebuilt, walk
from cellula.graph.ops import OPS
from cellula.plan.backward import Backward, make_backward
from cellula.plan.expand import expand
from cellula.plan.layout import BackwardKernel, Column, LateProduct, Layout, Source, WeightProduct
from cellula.plan.once import Once, separate_once
from cellula.plan.plan import Plan, make_plan
from cellula.plan.schedule import Schedule, make_schedule, operands, spans_steps

__all__ = ["BackwardKernel", "Column", "Kernel", "LateProduct", "Source", "WeightProduct", "make_kernel"]


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
        kept: the states of which the backward steps read what they were. Where such a one is the output, or the input,
            its values are there anyway.
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
    def series(self) -> tuple[str, ...]:
        """The kept states that take memory of their own."""
        return tuple(slot for slot in self.kept if slot not in (self.output_slot, Input().name))

    @property
    def reads_output(self) -> bool:
        """Whether the backward step, or a product after it, reads the output."""
        back = self.backward
        if back is None or self.output_slot is not None:
            return back is not None
        sources = [source for one in back.weights for source in (one.left, one.right)]
        read = {child for phase in back.schedule.phases for node in phase.nodes for child in operands(node)}
        given = {self.forward.renamed.get(node) for node in read & back.schedule.given}
        return self.output in given or Source("output") in sources

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
        record: names of nodes to return too; with `backward` the loss may depend on them.
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
    settled = {one.parameter.name for one in once if not _is_learned(one.node)}
    recorded = [name for name in record if name != graph.output]
    derived = make_backward(plan, settled, recorded) if backward else None
    roots = [node for _, node in (*plan.equations, *plan.updates)]
    done = _expanded([*roots, *_roots(derived)], native)
    equations = {name: done[node] for name, node in plan.equations}
    updates = tuple((slot, done[node]) for slot, node in plan.updates)
    records = tuple((name, equations[name]) for name in record)
    output = equations[graph.output]
    passed = {leaf(state): dict(updates)[state.slot] for state in plan.graph.states}
    blocks = blocks and spans_steps([], (), passed)
    part = None if derived is None else Layout(derived, done, equations, dict(updates), blocks).run()
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


def _is_learned(node: Node) -> bool:
    return any(isinstance(one.attribute, Parameter) for one in walk([node]))


def _roots(derived: Backward | None) -> list[Node]:
    """All that a derived backward step may compute."""
    if derived is None:
        return []
    roots = [node for _, node in derived.gradients]
    roots += [node for _, node in derived.carries if node is not None]
    for term in derived.weights:
        roots += [term.right] if term.left is None else [term.left, term.right]
    return roots + ([derived.input] if derived.input is not None else [])
