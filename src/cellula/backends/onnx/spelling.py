"""The operations of a formula as ONNX operators, opset 18.

Opset 18 is the first in which all reductions take their axes in one way; every onnxruntime since 1.14 (2023) runs it.
What is not here is written as its definition in `graph/ops.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from cellula.backends.onnx.model import Attribute
from cellula.backends.onnx.writer import Writer

__all__ = ["OPSET", "SPELLING", "TYPES", "Value", "native"]

OPSET = 18


@dataclass(frozen=True)
class Value:
    """What a node of a formula has become.

    Args:
        name: of the value in the ONNX graph.
        axes: how many axes it has before the units: 0 none, 1 the batch, 2 time and batch.
        units: how many units it has, at least 1.
        number: its value where it is a constant or a setting.
    """

    name: str
    axes: int
    units: int
    number: float | None = None


Spelling = Callable[[Writer, Sequence[Value]], str]
# ONNX's number for the type that a `Cast` leads to.
TYPES = {"float32": 1, "int32": 6, "int64": 7, "bool": 9, "float64": 11}


def _plain(op: str, **attributes: Attribute) -> Spelling:
    return lambda writer, values: writer.call(op, *(value.name for value in values), **attributes)


def _comparison(op: str) -> Spelling:
    return lambda writer, values: _number(writer, writer.call(op, *(value.name for value in values)))


def _number(writer: Writer, truth: str) -> str:
    return writer.call("Cast", truth, to=TYPES[writer.dtype])


def _not_equal(writer: Writer, values: Sequence[Value]) -> str:
    return _number(writer, writer.call("Not", writer.call("Equal", *(value.name for value in values))))


def _where(writer: Writer, values: Sequence[Value]) -> str:
    condition, one, other = values
    return writer.call("Where", writer.call("Cast", condition.name, to=TYPES["bool"]), one.name, other.name)


def _reduction(op: str) -> Spelling:
    return lambda writer, values: writer.call(op, values[0].name, writer.constant([-1], "last_axis"), keepdims=1)


def _expand(writer: Writer, values: Sequence[Value]) -> str:
    return writer.call("Expand", values[0].name, writer.call("Shape", values[1].name))


def _layer_norm(writer: Writer, values: Sequence[Value]) -> str:
    value, epsilon = values
    # A rate, epsilon or slope that `number` demands is a constant or a setting.
    assert epsilon.number is not None
    ones = writer.constant(np.ones(value.units, writer.dtype), "ones")
    return writer.call("LayerNormalization", value.name, ones, axis=-1, epsilon=epsilon.number)


SPELLING: dict[str, Spelling] = {
    "add": _plain("Add"),
    "subtract": _plain("Sub"),
    "multiply": _plain("Mul"),
    "divide": _plain("Div"),
    "power": _plain("Pow"),
    "negative": _plain("Neg"),
    "less": _comparison("Less"),
    "less_equal": _comparison("LessOrEqual"),
    "greater": _comparison("Greater"),
    "greater_equal": _comparison("GreaterOrEqual"),
    "equal": _comparison("Equal"),
    "not_equal": _not_equal,
    "exp": _plain("Exp"),
    "log": _plain("Log"),
    "sqrt": _plain("Sqrt"),
    "abs": _plain("Abs"),
    "sign": _plain("Sign"),
    "sin": _plain("Sin"),
    "cos": _plain("Cos"),
    "erf": _plain("Erf"),
    "tanh": _plain("Tanh"),
    "min": _plain("Min"),
    "max": _plain("Max"),
    "where": _where,
    "sigmoid": _plain("Sigmoid"),
    "relu": _plain("Relu"),
    "softplus": _plain("Softplus"),
    "softsign": _plain("Softsign"),
    "hard_sigmoid": _plain("HardSigmoid", alpha=1 / 6, beta=0.5),
    "sum": _reduction("ReduceSum"),
    "mean": _reduction("ReduceMean"),
    "peak": _reduction("ReduceMax"),
    "units": lambda writer, values: writer.constant(values[0].units),
    "expand": _expand,
    "softmax": _plain("Softmax", axis=-1),
    "layer_norm": _layer_norm,
}

# Not for float64: these compute in single precision, or with constants of it, or onnxruntime has them for float32 only.
SINGLE = frozenset({"layer_norm", "hard_sigmoid", "softplus", "softsign"})


def native(dtype: str) -> frozenset[str]:
    """The operations that have a spelling of their own in this type."""
    return frozenset(SPELLING) - (SINGLE if dtype == "float64" else frozenset())
