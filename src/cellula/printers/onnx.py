"""An ONNX model as text, close to the syntax that ONNX prints itself."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from cellula.backends.onnx.model import Attribute, Body, Call, Model, Port
from cellula.backends.onnx.recurrent import Form, recurrent_model
from cellula.backends.onnx.stack import Side, Stack
from cellula.graph.graph import Graph

__all__ = ["print_onnx", "print_onnx_of"]

# What `Writer.constant` calls constants of one or two numbers.
_PLAIN = ("constant", "number", "last_axis")


def print_onnx_of(graph: Graph, sizes: Mapping[str, int], settings: Mapping[str, float] | None = None) -> str:
    """The ONNX graph of one layer of a cell, over a sequence; its weights by their shapes.

    Args:
        graph: a checked cell.
        sizes: the number of units for every size that occurs.
        settings: those that differ from the formula's own.

    Example:
        >>> from cellula import load_cell
        >>> print(print_onnx_of(load_cell("mlp"), {"input": 3, "hidden": 4}))
        cellula (float32[time, batch, 3] x) => (float32[time, batch, 4] output)
          weights
            layers.0.W_a  float32[3, 4]
            layers.0.b_a  float32[4]
            layers.0.W_h  float32[4, 4]
            layers.0.b_h  float32[4]
          matmul = MatMul (x, layers.0.W_a)
          add = Add (matmul, layers.0.b_a)
          a = Tanh (add)
          matmul.1 = MatMul (a, layers.0.W_h)
          add.1 = Add (matmul.1, layers.0.b_h)
          h = Tanh (add.1)
          output = Identity (h)
    """
    shapes = {parameter.name: graph.shape(parameter, sizes) for parameter in graph.parameters}
    tensors = {name: np.zeros(shape, "float32") for name, shape in shapes.items()}
    used = {setting.name: setting.default for setting in graph.settings} | dict(settings or {})
    return print_onnx(recurrent_model(Stack(graph, used, [[Side(sizes, tensors)]]), Form(), {}))


def print_onnx(model: Model) -> str:
    """A model as text: ports, weights by their shapes, calls. Small constants stand where they are used."""
    small = {name: str(value.tolist()) for name, value in model.weights.items() if name.partition(".")[0] in _PLAIN}
    large = {name: value for name, value in model.weights.items() if name not in small}
    width = max(map(len, large), default=0)
    weights = [f"    {name:<{width}}  {_type(value.dtype.name, value.shape)}" for name, value in large.items()]
    head, *calls = _body(model.body, small, "  ")
    return "\n".join([head, *(["  weights", *weights] if weights else []), *calls])


def _body(body: Body, constants: Mapping[str, str], indent: str) -> list[str]:
    ports = (", ".join(map(_port, ports)) for ports in (body.inputs, body.outputs))
    lines = [f"{body.name} ({next(ports)}) => ({next(ports)})"]
    for call in body.calls:
        lines += _call(call, constants, indent)
    return lines


def _call(call: Call, constants: Mapping[str, str], indent: str) -> list[str]:
    words = [f"{name}={_attribute(value)}" for name, value in call.attributes if not isinstance(value, Body)]
    given = ", ".join(constants.get(name, name) or "-" for name in call.inputs)
    options = f" <{', '.join(words)}>" if words else ""
    head = f"{indent}{', '.join(call.outputs)} = {call.op}{options} ({given})"
    lines = [head]
    for _, value in call.attributes:
        if isinstance(value, Body):
            inner = _body(value, constants, indent + "    ")
            lines += [f"{indent}  {inner[0]}", *inner[1:]]
    return lines


def _port(port: Port) -> str:
    return f"{_type(port.type, port.shape)} {port.name}"


def _type(kind: str, shape: tuple[int | str, ...]) -> str:
    return f"{kind}[{', '.join(map(str, shape))}]"


def _attribute(value: Attribute) -> str:
    return f"[{', '.join(map(str, value))}]" if isinstance(value, tuple) else str(value)
