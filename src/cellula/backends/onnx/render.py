"""PLAN -> CALLS: one cell in one direction as ONNX operators, over a sequence as a `Scan`, or for a single step."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from cellula.backends.onnx.model import Port
from cellula.backends.onnx.spelling import SPELLING, Value
from cellula.backends.onnx.writer import Writer
from cellula.graph.node import Constant, Input, Node, Parameter, Setting, State, leaf
from cellula.graph.ops import OPS
from cellula.plan.plan import Mask, Plan

__all__ = ["Cell", "render_sequence", "render_step"]

BATCH = "batch"


@dataclass(frozen=True)
class Cell:
    """One cell in one direction.

    Args:
        plan: what runs when, with the ops of `SPELLING` kept.
        settings: name -> number.
        sizes: name -> number of units.
        parameters: name -> the name of its tensor in the ONNX graph.
    """

    plan: Plan
    settings: Mapping[str, float]
    sizes: Mapping[str, int]
    parameters: Mapping[str, str]

    def units(self, size: str | None) -> int:
        """How many units a size has."""
        return 1 if size is None else self.sizes[size]

    @property
    def output(self) -> Node:
        """The node that leaves the cell."""
        return dict(self.plan.equations)[self.plan.graph.output]

    @property
    def slots(self) -> dict[str, int]:
        """The state's slots and their units."""
        return {state.slot: self.units(state.size) for state in self.plan.graph.states}


@dataclass
class _Level:
    """The values of one graph: the outer one, or that of a step."""

    writer: Writer
    cell: Cell
    values: dict[Node, Value]
    # Gives the shape that values have here before their units: [T, B], or [B] within a step.
    shape: Callable[[], str]

    def run(self, nodes: Sequence[Node]) -> None:
        names = {node.inputs[0]: name for name, node in self.cell.plan.equations}
        for node in nodes:
            self.writer.hint = names.get(node)
            self.values[node] = self.compute(node)
        self.writer.hint = None

    def compute(self, node: Node) -> Value:
        """The value of a node whose inputs have theirs."""
        inputs = [self.values[child] for child in node.inputs]
        axes = max(value.axes for value in inputs)
        if node.op in ("matmul", "transposed"):
            return self.product(node, inputs[0], inputs[1].name)
        if node.op == "equation":
            value = inputs[0]
            return self.widened(value, value.axes, self.cell.units(node.size), hint=str(node.attribute))
        # A mask is 1 where nothing is drawn.
        if node.op == "multiply" and inputs[1].number == 1.0:
            return inputs[0]
        name = SPELLING[node.op](self.writer, inputs)
        if node.op == "units":
            return Value(name, 0, 1)
        shape = OPS[node.op].shape
        return Value(name, axes, 1 if shape == "reduce" else max(value.units for value in inputs))

    def product(self, node: Node, value: Value, matrix: str) -> Value:
        """`value @ matrix`, or with its transpose."""
        parameter = node.inputs[1].attribute
        assert isinstance(parameter, Parameter)
        units = self.cell.units(node.size)
        if parameter.kind == "diagonal":
            return Value(self.writer.call("Mul", value.name, matrix), value.axes, units)
        if node.op == "transposed":
            matrix = self.writer.root.call("Transpose", matrix, perm=(0, 2, 1) if parameter.blocks > 1 else (1, 0))
        if parameter.blocks > 1:
            return Value(self.blocks(value, matrix, parameter.blocks, units), value.axes, units)
        return Value(self.writer.call("MatMul", value.name, matrix), value.axes, units)

    def blocks(self, value: Value, matrix: str, count: int, units: int) -> str:
        """A product with a block-diagonal matrix: the blocks stand before the batch while they are multiplied."""
        call, lead = self.writer.call, [0] * value.axes
        parts = call("Reshape", value.name, self.writer.constant([*lead, count, value.units // count]))
        if value.axes == 0:
            parts = call("MatMul", call("Unsqueeze", parts, self.writer.constant([1])), matrix)
            return call("Reshape", parts, self.writer.constant([units]))
        swap = (1, 0, 2) if value.axes == 1 else (0, 2, 1, 3)
        parts = call("MatMul", call("Transpose", parts, perm=swap), matrix)
        return call("Reshape", call("Transpose", parts, perm=swap), self.writer.constant([*lead, units]))

    def widened(self, value: Value, axes: int, units: int, hint: str | None = None) -> Value:
        """A value with at least these axes and units."""
        if value.axes == axes and value.units == units:
            return value
        lead = self.shape() if axes else None
        last = self.writer.constant([units])
        shape = last if lead is None else self.writer.call("Concat", lead, last, axis=0)
        return Value(self.writer.calls_for("Expand", [value.name, shape], [hint or "expand"])[0], axes, units)

    def given(self, node: Node) -> Value:
        """A parameter, setting or constant."""
        what = node.attribute
        if isinstance(what, Parameter):
            name = self.cell.parameters[what.name]
            if what.kind == "scalar":
                name = self.writer.root.call("Reshape", name, self.writer.constant([1]))
            return Value(name, 0, self.cell.units(what.size))
        assert isinstance(what, Setting | Constant)
        number = what.value if isinstance(what, Constant) else self.cell.settings[what.name]
        return Value(self.writer.constant(number, "number"), 0, 1, number)


def render_step(writer: Writer, cell: Cell, x: str, states: Mapping[str, str]) -> tuple[str, dict[str, str]]:
    """One step: the output [B, H] and the new states [B, H].

    Args:
        writer: takes the calls.
        cell: the cell and its weights.
        x: the input [B, I].
        states: slot -> the state before the step [B, H].
    """
    level = _level(writer, cell, x, 1)
    level.values |= _states(cell, states)
    level.run([node for stage in cell.plan.stages for node in stage])
    new = {slot: level.widened(level.values[node], 1, cell.slots[slot]).name for slot, node in cell.plan.updates}
    return level.widened(level.values[cell.output], 1, cell.units(cell.output.size)).name, new


def render_sequence(
    writer: Writer, cell: Cell, x: str, states: Mapping[str, str], *, alive: str = "", reverse: bool = False
) -> tuple[str, dict[str, str]]:
    """All steps: the output of every step [T, B, H] and the states after the last one [B, H].

    Args:
        writer: takes the calls.
        cell: the cell and its weights.
        x: the input [T, B, I].
        states: slot -> the state before the first step [B, H].
        alive: which rows still run at which step [T, B, 1]; a row that has ended keeps its state and puts out zeros.
        reverse: run from the last step to the first; the output stays in the order of the input.
    """
    level = _level(writer, cell, x, 2)
    level.run((*cell.plan.once, *cell.plan.before))
    if cell.plan.updates:
        states = _scan(level, dict(states), alive, reverse)
    level.run(cell.plan.after)
    output = level.widened(level.values[cell.output], 2, cell.units(cell.output.size)).name
    if alive:
        output = writer.call("Where", alive, output, writer.constant(0.0, "number"))
    return output, dict(states)


def _level(writer: Writer, cell: Cell, x: str, axes: int) -> _Level:
    """The graph in which x is, with what the cell reads from outside the loop."""
    level = _Level(writer, cell, {}, lambda: writer.call("Shape", x, start=0, end=axes))
    level.values[leaf(Input())] = Value(x, axes, cell.sizes["input"])
    for node in _leaves(cell.plan):
        if isinstance(node.attribute, Parameter | Setting | Constant):
            level.values[node] = level.given(node)
    for mask in cell.plan.masks:
        level.values[mask.node] = _expectation(level, mask)
    return level


def _expectation(level: _Level, mask: Mask) -> Value:
    """What stands for a mask where nothing is drawn."""
    if mask.leaf.draw.inverted:
        return Value(level.writer.constant(1.0, "number"), 0, 1, 1.0)
    return level.values[mask.rate]


def _leaves(plan: Plan) -> set[Node]:
    found = {child for stage in plan.stages for node in stage for child in node.inputs if child.op == "leaf"}
    return found | {node for _, node in plan.updates if node.op == "leaf"} | {mask.rate for mask in plan.masks}


def _states(cell: Cell, names: Mapping[str, str]) -> dict[Node, Value]:
    """The state leaves of a step, whose values have these names."""
    leaves = [node for node in _leaves(cell.plan) if isinstance(node.attribute, State)]
    slots = [(node, node.attribute) for node in leaves]
    return {
        node: Value(names[state.slot], 1, cell.units(state.size)) for node, state in slots if isinstance(state, State)
    }


def _scan(level: _Level, states: dict[str, str], alive: str, reverse: bool) -> dict[str, str]:
    """Write the loop; the level gets the values over time that are needed after it. Returns the last states."""
    cell, writer = level.cell, level.writer.inner()
    batch = level.writer.call("Shape", next(iter(states.values())), start=0, end=1)
    step = _Level(writer, cell, dict(level.values), lambda: batch)
    names = {slot: writer.name(slot) for slot in cell.slots}
    step.values |= _states(cell, names)
    taken = _taken(cell.plan, level.values)
    step.values |= {node: replace(level.values[node], name=writer.name("now"), axes=1) for node in taken}
    running = writer.name("running") if alive else ""
    ports = [Port(names[slot], writer.dtype, (BATCH, units)) for slot, units in cell.slots.items()]
    ports += [Port(value.name, writer.dtype, (BATCH, value.units)) for value in map(step.values.__getitem__, taken)]
    ports += [Port(running, "bool", (BATCH, 1))] if alive else []
    step.run(cell.plan.loop)
    new = [_updated(step, slot, node, names[slot], running) for slot, node in cell.plan.updates]
    kept = _needed_after(cell)
    series = [step.widened(step.values[node], 1, step.values[node].units) for node in kept]
    # The same value may leave twice, or leave as it came; each output has a name of its own.
    left = [writer.calls_for("Identity", [value.name], ["every"])[0] for value in series]
    outputs = [Port(name, writer.dtype, (BATCH, cell.slots[slot])) for slot, name in new]
    outputs += [Port(name, writer.dtype, (BATCH, value.units)) for name, value in zip(left, series, strict=True)]
    scanned = [level.values[node].name for node in taken] + ([alive] if alive else [])
    results = level.writer.calls_for(
        "Scan",
        [*(states[slot] for slot in cell.slots), *scanned],
        [*(f"{slot}_last" for slot, _ in new), *("series" for _ in kept)],
        num_scan_inputs=len(scanned),
        body=writer.body("step", ports, outputs),
        **(_backwards(len(scanned), len(kept)) if reverse else {}),
    )
    for node, value, name in zip(kept, series, results[len(new) :], strict=True):
        level.values[node] = replace(value, name=name, axes=2)
    return {slot: name for (slot, _), name in zip(new, results, strict=False)}


def _backwards(inputs: int, outputs: int) -> dict[str, tuple[int, ...]]:
    """What makes a `Scan` run from the last step to the first; an empty list of outputs cannot be written down."""
    directions = {"scan_input_directions": (1,) * inputs, "scan_output_directions": (1,) * outputs}
    return {name: value for name, value in directions.items() if value}


def _updated(step: _Level, slot: str, node: Node, old: str, running: str) -> tuple[str, str]:
    """A state after the step, under a name of its own."""
    value = step.widened(step.values[node], 1, step.cell.slots[slot]).name
    op, inputs = ("Where", [running, value, old]) if running else ("Identity", [value])
    return slot, step.writer.calls_for(op, inputs, [f"{slot}_new"])[0]


def _taken(plan: Plan, values: Mapping[Node, Value]) -> list[Node]:
    """The values over time that a step reads; at least the input, which says how many steps there are."""
    read = [child for node in plan.loop for child in node.inputs] + [node for _, node in plan.updates]
    found = [node for node in dict.fromkeys(read) if node in values and values[node].axes == 2]
    return found or [leaf(Input())]


def _needed_after(cell: Cell) -> list[Node]:
    """What the loop makes, or holds as a state, and something after it reads."""
    read = [child for node in cell.plan.after for child in node.inputs] + [cell.output]
    made = set(cell.plan.loop)
    return [node for node in dict.fromkeys(read) if node in made or isinstance(node.attribute, State)]
