"""A whole ONNX model of recurrent layers: what goes in and what comes out, by name."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from cellula.backends.onnx.model import Model, Port
from cellula.backends.onnx.stack import Ragged, Stack, States, write_stack
from cellula.backends.onnx.writer import Writer

__all__ = ["Form", "recurrent_model"]

TIME, BATCH = "time", "batch"


@dataclass(frozen=True)
class Form:
    """What a model takes beside its input.

    Args:
        streaming: one step at a time, states in and out.
        states: where the states start is given too; else they start where the module has them start.
        lengths: each row has its own number of steps.
        batch_first: inputs and outputs are [B, T, ...]; states are not concerned.
    """

    streaming: bool = False
    states: bool = False
    lengths: bool = False
    batch_first: bool = False


def recurrent_model(stack: Stack, form: Form, metadata: Mapping[str, str]) -> Model:
    """Layers of a cell as an ONNX model with dynamic batch and length.

    Inputs are `x`, with the form's options `lengths` and a state `h_0` for every state `h`; outputs are `output` and
    the last states `h_n`. States are [L*D, B, H]; where layers differ in size, each has its own, `x_0.layer_1`.

    Args:
        stack: the layers with their weights.
        form: what it takes beside its input.
        metadata: texts that the file holds.
    """
    writer = Writer(stack.dtype)
    ports = _inputs(stack, form)
    outputs = _outputs(stack, form)
    for port in (*ports, *outputs):
        writer.name(port.name)
    x = ports[0].name
    turn = form.batch_first and not form.streaming
    x = writer.call("Transpose", x, perm=(1, 0, 2)) if turn else x
    starts = _starts(writer, stack) if form.states or form.streaming else None
    ragged = Ragged.write(writer, x, "lengths") if form.lengths else None
    output, last = write_stack(writer, stack, x, starts, ragged, step=form.streaming)
    output = writer.call("Transpose", output, perm=(1, 0, 2)) if turn else output
    finals = [output, *(name for slot in last for name in _finals(writer, stack, slot, last[slot]))]
    for port, value in zip(outputs, finals, strict=True):
        writer.deliver(value, port.name)
    return writer.model("cellula", ports, outputs, stack.graph.title or stack.graph.name, metadata)


def _is_even(stack: Stack, slot: str) -> bool:
    """Whether a state has the same units in all layers, and so is one tensor."""
    return len(set(stack.units(slot))) == 1


def _state_ports(stack: Stack, ending: str) -> list[Port]:
    ports = []
    for state in stack.graph.states:
        units, slot = stack.units(state.slot), state.slot
        if _is_even(stack, slot):
            shape = (len(stack.layers) * stack.directions, BATCH, units[0])
            ports.append(Port(f"{slot}{ending}", stack.dtype, shape))
        else:
            names = [f"{slot}{ending}.layer_{number}" for number in range(len(units))]
            ports += [Port(n, stack.dtype, (stack.directions, BATCH, u)) for n, u in zip(names, units, strict=True)]
    return ports


def _lead(form: Form) -> tuple[str, ...]:
    if form.streaming:
        return (BATCH,)
    return (BATCH, TIME) if form.batch_first else (TIME, BATCH)


def _inputs(stack: Stack, form: Form) -> list[Port]:
    ports = [Port("x", stack.dtype, (*_lead(form), stack.layers[0][0].sizes["input"]))]
    ports += [Port("lengths", "int64", (BATCH,))] if form.lengths else []
    return ports + (_state_ports(stack, "_0") if form.states or form.streaming else [])


def _outputs(stack: Stack, form: Form) -> list[Port]:
    return [Port("output", stack.dtype, (*_lead(form), stack.output_size)), *_state_ports(stack, "_n")]


def _starts(writer: Writer, stack: Stack) -> States:
    """The states that are given, layer by layer [D, B, H]."""
    starts: States = {}
    for state in stack.graph.states:
        name, count = f"{state.slot}_0", len(stack.layers)
        if not _is_even(stack, state.slot):
            starts[state.slot] = [f"{name}.layer_{number}" for number in range(count)]
        elif count == 1:
            starts[state.slot] = [name]
        else:
            sizes = writer.constant([stack.directions] * count)
            starts[state.slot] = writer.calls_for("Split", [name, sizes], [f"{name}.layer"] * count, axis=0)
    return starts


def _finals(writer: Writer, stack: Stack, slot: str, pieces: list[str]) -> list[str]:
    """The last states of a slot as they leave."""
    if not _is_even(stack, slot) or len(pieces) == 1:
        return pieces
    return [writer.call("Concat", *pieces, axis=0)]
