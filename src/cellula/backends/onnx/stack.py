"""Layers of a cell, in one direction or both, as ONNX operators: what `cellula.nn.Recurrent` is."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np

from cellula.backends.onnx.operators import Operator, find_operator, pack
from cellula.backends.onnx.render import Cell, render_sequence, render_step
from cellula.backends.onnx.spelling import TYPES, native
from cellula.backends.onnx.writer import Writer
from cellula.graph.graph import Graph
from cellula.plan.plan import Plan, make_plan

__all__ = ["Ragged", "Side", "Stack", "write_stack"]


@dataclass(frozen=True)
class Side:
    """One layer in one direction.

    Args:
        sizes: name -> number of units.
        tensors: name -> the parameter.
        initial: slot -> where the state starts [H]; a slot that is missing starts at zero.
    """

    sizes: Mapping[str, int]
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    initial: Mapping[str, np.ndarray] = field(default_factory=dict, repr=False)


@dataclass(frozen=True)
class Stack:
    """Layers of one cell.

    Args:
        graph: the cell.
        settings: name -> number.
        layers: for each layer its sides: forward, and backward where it has one.
        dtype: of all numbers, `"float32"` or `"float64"`.
        prefix: what the names of the weights begin with.
    """

    graph: Graph
    settings: Mapping[str, float]
    layers: Sequence[Sequence[Side]]
    dtype: str = "float32"
    prefix: str = "layers"

    @property
    def directions(self) -> int:
        """1, or 2 where it also runs from the end."""
        return len(self.layers[0])

    @cached_property
    def plan(self) -> Plan:
        """What runs when, with the ops that ONNX has."""
        return make_plan(self.graph, native(self.dtype))

    @cached_property
    def operator(self) -> Operator | None:
        """ONNX's own operator for this cell; onnxruntime has them in single precision only."""
        return find_operator(self.graph) if self.dtype == "float32" else None

    def units(self, slot: str) -> list[int]:
        """How many units a state has in each layer."""
        size = {state.slot: state.size for state in self.graph.states}[slot]
        return [1 if size is None else sides[0].sizes[size] for sides in self.layers]

    @property
    def output_size(self) -> int:
        """Units of the output of all directions."""
        size = self.graph.equation[self.graph.output].node.size
        return (1 if size is None else self.layers[-1][0].sizes[size]) * self.directions


@dataclass(frozen=True)
class Ragged:
    """Rows of different lengths, as values of the ONNX graph.

    Args:
        lengths: steps of every row, int64 [B].
        alive: which rows still run at which step, bool [T, B, 1].
        some: which rows have any step, bool [B, 1].
        least: the lengths, but at least 1: ONNX's operators and `ReverseSequence` know no empty rows.
    """

    lengths: str
    alive: str
    some: str
    least: str

    @staticmethod
    def write(writer: Writer, x: str, lengths: str) -> Ragged:
        """Compare the steps of x [T, B, I] with the lengths."""
        zero, one = (writer.constant(np.array(number, np.int64)) for number in (0, 1))
        count = writer.call("Squeeze", writer.call("Shape", x, start=0, end=1), writer.constant([0]))
        steps = writer.call("Unsqueeze", writer.call("Range", zero, count, one), writer.constant([1]))
        alive = writer.call("Unsqueeze", writer.call("Less", steps, lengths), writer.constant([2]))
        some = writer.call("Unsqueeze", writer.call("Greater", lengths, zero), writer.constant([1]))
        return Ragged(lengths, alive, some, writer.call("Max", lengths, one))


States = dict[str, list[str]]


def write_stack(
    writer: Writer, stack: Stack, x: str, starts: States | None, ragged: Ragged | None = None, *, step: bool = False
) -> tuple[str, States]:
    """Write all layers.

    Args:
        writer: takes the calls and the weights.
        stack: the layers.
        x: the input [T, B, I], or [B, I] for a step.
        starts: slot -> for each layer where it starts [D, B, H]; None for the start that the stack has.
        ragged: the lengths of the rows, where they differ.
        step: run a single step.

    Returns:
        The output [T, B, D*H], or [B, H] for a step, and slot -> for each layer its last state [D, B, H].
    """
    last: States = {state.slot: [] for state in stack.graph.states}
    layer = _write_operator if stack.operator else _write_sides
    for number in range(len(stack.layers)):
        given = None if starts is None else {slot: pieces[number] for slot, pieces in starts.items()}
        x, states = layer(_Layer(writer, stack, number, ragged, step), x, given)
        for slot, name in states.items():
            last[slot].append(name)
    return x, last


@dataclass(frozen=True)
class _Layer:
    """What it takes to write one layer."""

    writer: Writer
    stack: Stack
    number: int
    ragged: Ragged | None
    step: bool

    @property
    def sides(self) -> Sequence[Side]:
        return self.stack.layers[self.number]

    def whole(self, x: str) -> str:
        """The input with a step axis [T, B, I]."""
        return self.writer.call("Unsqueeze", x, self.writer.constant([0])) if self.step else x

    def batch(self, x: str) -> str:
        """How many rows x has, [1]."""
        return self.writer.call("Shape", x, start=-2, end=-1)

    def start(self, x: str, slot: str) -> str:
        """Where a state starts that nobody gives [D, B, H]."""
        units = self.stack.units(slot)[self.number]
        zero = np.zeros(units, self.stack.dtype)
        rows = np.stack([side.initial.get(slot, zero) for side in self.sides])[:, None]
        count, last = (self.writer.constant([number]) for number in (len(self.sides), units))
        shape = self.writer.call("Concat", count, self.batch(x), last, axis=0)
        return self.writer.call("Expand", self.writer.constant(rows, f"{slot}_start"), shape)


def _write_sides(layer: _Layer, x: str, given: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """A layer as a `Scan` for each direction."""
    writer, stack = layer.writer, layer.stack
    slots = [state.slot for state in stack.graph.states]
    starts = {slot: layer.start(x, slot) for slot in slots} if given is None else given
    outputs, lasts = [], []
    for number, side in enumerate(layer.sides):
        names = {name: _weight(layer, number, name, tensor) for name, tensor in side.tensors.items()}
        cell = Cell(stack.plan, stack.settings, side.sizes, names)
        first = {
            slot: writer.call("Gather", starts[slot], writer.constant(np.array(number, np.int64)), axis=0)
            for slot in slots
        }
        output, last = _run(layer, cell, x, first, backward=number == 1)
        outputs.append(output)
        lasts.append({slot: writer.call("Unsqueeze", last[slot], writer.constant([0])) for slot in slots})
    states = {slot: _joined(writer, [last[slot] for last in lasts], 0) for slot in slots}
    return _joined(writer, outputs, -1), states


def _run(layer: _Layer, cell: Cell, x: str, first: dict[str, str], backward: bool) -> tuple[str, dict[str, str]]:
    """One direction of a layer."""
    writer, ragged = layer.writer, layer.ragged
    if layer.step:
        return render_step(writer, cell, x, first)
    if ragged is None:
        return render_sequence(writer, cell, x, first, reverse=backward)
    if not backward:
        return render_sequence(writer, cell, x, first, alive=ragged.alive)
    # Each row back to front within its own length.
    turned = writer.call("ReverseSequence", x, ragged.least, time_axis=0, batch_axis=1)
    output, last = render_sequence(writer, cell, turned, first, alive=ragged.alive)
    return writer.call("ReverseSequence", output, ragged.least, time_axis=0, batch_axis=1), last


def _weight(layer: _Layer, side: int, name: str, value: np.ndarray) -> str:
    number = layer.number * layer.stack.directions + side
    return layer.writer.weight(f"{layer.stack.prefix}.{number}.{name}", value)


def _joined(writer: Writer, names: Sequence[str], axis: int) -> str:
    return names[0] if len(names) == 1 else writer.call("Concat", *names, axis=axis)


def _write_operator(layer: _Layer, x: str, given: Mapping[str, str] | None) -> tuple[str, dict[str, str]]:
    """A layer as ONNX's own operator, which has both directions in one."""
    writer, ragged, operator = layer.writer, layer.ragged, layer.stack.operator
    assert operator is not None
    packs = [pack(operator, side.tensors) for side in layer.sides]
    weights = {
        name: writer.weight(f"{layer.stack.prefix}.{layer.number}.{name}", np.stack([one[name] for one in packs]))
        for name in packs[0]
    }
    if given is None and (ragged or any(side.initial for side in layer.sides)):
        given = {slot: layer.start(x, slot) for slot in operator.states}
    lengths = writer.call("Cast", ragged.least, to=TYPES["int32"]) if ragged else ""
    starts = ["" if given is None else given[slot] for slot in operator.states]
    inputs = [layer.whole(x), weights["W"], weights["R"], weights.get("B", ""), lengths, *starts]
    inputs += [weights.get("P", "")] if operator.kind == "LSTM" else []
    results = writer.calls_for(
        operator.kind,
        inputs,
        ["every", *(f"{slot}_last" for slot in operator.states)],
        **_attributes(layer, operator, len(layer.sides)),
    )
    states = dict(zip(operator.states, results[1:], strict=True))
    if ragged and given:
        # An empty row was given one step; it keeps where it started.
        states = {slot: writer.call("Where", ragged.some, states[slot], given[slot]) for slot in states}
    return _units_joined(layer, results[0]), states


def _attributes(layer: _Layer, operator: Operator, directions: int) -> dict[str, int | str | tuple[str, ...]]:
    found: dict[str, int | str | tuple[str, ...]] = {
        "hidden_size": layer.sides[0].sizes["hidden"],
        "direction": "bidirectional" if directions == 2 else "forward",
        "activations": operator.activations * directions,
    }
    return found | ({"linear_before_reset": int(operator.reset_after)} if operator.kind == "GRU" else {})


def _units_joined(layer: _Layer, output: str) -> str:
    """The operator's output [T, D, B, H] as [T, B, D*H], or [B, H] for a step."""
    writer, ragged = layer.writer, layer.ragged
    if len(layer.sides) == 1:
        output = writer.call("Squeeze", output, writer.constant([0, 1] if layer.step else [1]))
    else:
        shape = writer.constant([0, 0, layer.sides[0].sizes["hidden"] * 2])
        output = writer.call("Reshape", writer.call("Transpose", output, perm=(0, 2, 1, 3)), shape)
    return writer.call("Where", ragged.alive, output, writer.constant(0.0, "number")) if ragged else output
