"""`Recurrent` -> ONNX."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch

from cellula.backends.onnx.model import Model
from cellula.backends.onnx.recurrent import Form, recurrent_model
from cellula.backends.onnx.stack import Side, Stack
from cellula.errors import UsageError
from cellula.nn.direction import Direction
from cellula.nn.recurrent import Recurrent

__all__ = ["describe", "module_metadata", "to_model", "to_stack"]

DTYPES = {torch.float32: "float32", torch.float64: "float64"}


def to_model(module: Recurrent, *, streaming: bool = False, states: bool = False, lengths: bool = False) -> Model:
    """The ONNX model of a module.

    Raises:
        UsageError: the options contradict each other, or the module's numbers are of a type that ONNX runtimes lack.
    """
    if streaming and module.bidirectional:
        raise UsageError("a bidirectional module needs the whole sequence; export it without streaming")
    if streaming and lengths:
        raise UsageError("a step has no lengths; leave out lengths, or streaming")
    form = Form(streaming, states or streaming, lengths, module.batch_first)
    return recurrent_model(to_stack(module), form, module_metadata(module, form))


def to_stack(module: Recurrent, prefix: str = "layers") -> Stack:
    """The layers of a module with their weights as arrays."""
    dtype = _dtype(module)
    sides = [_side(direction) for direction in module.layers]
    count = module.directions
    layers = [sides[number : number + count] for number in range(0, len(sides), count)]
    return Stack(module.graph, module.settings, layers, dtype, prefix)


def _dtype(module: torch.nn.Module) -> str:
    """The type of all parameters, learned and given."""
    kept = [*module.parameters(), *(buffer for buffer in module.buffers() if buffer.is_floating_point())]
    found = {tensor.dtype for tensor in kept} or {torch.get_default_dtype()}
    if len(found) > 1 or not found <= DTYPES.keys():
        names = ", ".join(sorted(str(dtype).removeprefix("torch.") for dtype in found))
        raise UsageError(f"the parameters are {names}; ONNX files hold float32 or float64: export module.float()")
    return DTYPES[found.pop()]


def _side(direction: torch.nn.Module) -> Side:
    assert isinstance(direction, Direction)
    tensors = {name: _array(tensor) for name, tensor in direction.tensors().items()}
    initial = {name.removesuffix("_0"): _array(tensor) for name, tensor in direction.initial.items()}
    return Side(dict(direction.all_sizes), tensors, initial)


def _array(tensor: torch.Tensor) -> np.ndarray:
    return tensor.detach().cpu().numpy()


def describe(module: Recurrent) -> dict[str, Any]:
    """What it takes beside formula and weights to make the module again, as JSON can hold it."""
    return {
        "name": module.graph.name,
        "dtype": _dtype(module),
        "input_size": module.input_size,
        "hidden_size": module.hidden_size,
        "num_layers": module.num_layers,
        "bidirectional": module.bidirectional,
        "batch_first": module.batch_first,
        "initial_state": module.initial_state,
        "settings": {**module.settings, **module.sizes},
    }


def module_metadata(module: Recurrent, form: Form) -> Mapping[str, str]:
    """The texts in the file: the formula, and the rest as JSON."""
    made: dict[str, Any] = {"version": 1, "kind": "recurrent", "module": describe(module)}
    made["form"] = {"streaming": form.streaming, "states": form.states, "lengths": form.lengths}
    if module.initial_state == "learned":
        # Where the caller gives the first state, here is what was learned.
        starts = [_side(direction).initial for direction in module.layers]
        made["start"] = [{slot: value.tolist() for slot, value in start.items()} for start in starts]
    return {"formula": module.cell_text, "cellula": json.dumps(made, sort_keys=True)}
