"""How C spells the ops of the table: on vectors of `WIDTH` units, with the functions of `vector_math.h`."""

from __future__ import annotations

from collections.abc import Callable

from cellula.graph.node import Constant, Node

__all__ = ["NATIVE", "spell"]


def _call(name: str) -> Callable[..., str]:
    return lambda *arguments: f"{name}({', '.join(arguments)})"


SPELLING: dict[str, Callable[..., str]] = {
    "add": "{} + {}".format,
    "subtract": "{} - {}".format,
    "multiply": "{} * {}".format,
    "divide": "{} / {}".format,
    "negative": "-{}".format,
    "less": _call("v_less"),
    "less_equal": _call("v_less_equal"),
    "greater": _call("v_greater"),
    "greater_equal": _call("v_greater_equal"),
    "equal": _call("v_equal"),
    "not_equal": _call("v_not_equal"),
    "exp": _call("v_exp"),
    "log": _call("v_log"),
    "sqrt": _call("v_sqrt"),
    "abs": _call("v_abs"),
    "sign": _call("v_sign"),
    "sin": _call("v_sin"),
    "cos": _call("v_cos"),
    "erf": _call("v_erf"),
    "tanh": _call("v_tanh"),
    "sigmoid": _call("v_sigmoid"),
    "min": _call("v_min"),
    "max": _call("v_max"),
    "power": _call("v_pow"),
    "relu": "v_max({}, splat(0))".format,
    "where": "v_select((ivec)({} != splat(0)), {}, {})".format,
    # A single number is in every lane already.
    "expand": "{}".format,
}

# Passes over the units of a row, and their number.
REDUCTIONS = ("sum", "peak", "units")
# Every op that the renderer writes without its definition.
NATIVE = frozenset({*SPELLING, *REDUCTIONS})
# Up to this exponent a power is a chain of products.
_LONGEST_CHAIN = 8


def spell(node: Node, arguments: list[str]) -> str:
    """The C expression of an op on these operands."""
    if node.op == "power":
        exponent = node.inputs[1].attribute
        if isinstance(exponent, Constant):
            short = _power(arguments[0], exponent.value)
            if short is not None:
                return short
    if node.op == "expand":
        return arguments[0]
    return SPELLING[node.op](*arguments)


def _power(base: str, exponent: float) -> str | None:
    if exponent == 0.5:
        return f"v_sqrt({base})"
    if exponent == -1:
        return f"splat(1) / {base}"
    if exponent != int(exponent) or not 1 <= exponent <= _LONGEST_CHAIN:
        return None
    return " * ".join([base] * int(exponent))
