"""The ONE op table: what may stand in a formula, and all that is known about it.

A row gives the meaning, the arguments with the range in which tests sample them, the rule for shapes, and - in the
formula language itself - the definition in terms of simpler rows and the gradient of each argument. In `definition` and
`gradient` the arguments stand by their names, `y` is the result, `dy` its gradient and `mask` the row's random draw.
A gradient of `None` is zero everywhere (or the argument is not differentiated).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

__all__ = ["OPS", "Argument", "Draw", "Op"]

Shape = Literal["elementwise", "reduce", "normalize", "expand"]


@dataclass(frozen=True)
class Argument:
    """One argument of an op.

    Args:
        name: as used in the row's definition and gradients.
        low, high: the interval from which tests sample it.
        default: its value where the formula does not give it.
        number: whether it must be a number or a setting; then `low` to `high` is also what is allowed.
    """

    name: str
    low: float = -3.0
    high: float = 3.0
    default: float | None = None
    number: bool = False


@dataclass(frozen=True)
class Draw:
    """A random mask that a row uses while it trains; its mean stands for it otherwise.

    Args:
        inverted: 0 with probability `rate`, else 1 / (1 - rate), mean 1; if false, 1 with probability `rate`, else 0.
        per: `"step"` draws anew at every step, `"sequence"` once for all steps.
    """

    inverted: bool
    per: Literal["step", "sequence"]


@dataclass(frozen=True)
class Op:
    """One row of the table; see the module's docstring."""

    name: str
    meaning: str
    arguments: tuple[Argument, ...]
    gradient: tuple[str | None, ...]
    shape: Shape = "elementwise"
    definition: str | None = None
    # The meaning on plain numbers, for rows that have no definition; reductions take a list.
    value: Callable[..., float] | None = None
    symbol: str | None = None
    # Between which bounds every result lies.
    range: tuple[float, float] = (-math.inf, math.inf)
    draw: Draw | None = None

    @property
    def required(self) -> int:
        """How many arguments have no default."""
        return sum(argument.default is None for argument in self.arguments)


_A, _B = Argument("a"), Argument("b")
_POSITIVE = Argument("a", 0.1, 4.0)
_RATE = Argument("rate", 0.0, 0.95, number=True)
_EPSILON = Argument("epsilon", 0.0, 1.0, default=1e-5, number=True)
_UNIT, _NON_NEGATIVE = (0.0, 1.0), (0.0, math.inf)


def _comparison(name: str, symbol: str, value: Callable[[float, float], bool]) -> Op:
    meaning = f"1 where a {symbol} b, else 0"
    return Op(
        name,
        meaning,
        (_A, _B),
        (None, None),
        value=lambda a, b: float(value(a, b)),
        symbol=symbol,
        range=_UNIT,
    )


_ARITHMETIC = (
    Op("add", "the sum of a and b", (_A, _B), ("dy", "dy"), value=lambda a, b: a + b, symbol="+"),
    Op("subtract", "a less b", (_A, _B), ("dy", "-dy"), value=lambda a, b: a - b, symbol="-"),
    Op(
        "multiply",
        "the product of a and b, unit by unit",
        (_A, _B),
        ("dy * b", "dy * a"),
        value=lambda a, b: a * b,
        symbol="*",
    ),
    Op(
        "divide",
        "a divided by b",
        (_A, Argument("b", 0.3, 3.0)),
        ("dy / b", "-dy * y / b"),
        value=lambda a, b: a / b,
        symbol="/",
    ),
    Op(
        "power",
        "a to the power of b",
        (Argument("a", 0.2, 3.0), Argument("b", -2.0, 3.0)),
        ("dy * b * a ** (b - 1)", "dy * y * log(a)"),
        value=lambda a, b: a**b,
        symbol="**",
    ),
    Op("negative", "minus a", (_A,), ("-dy",), value=lambda a: -a, symbol="-"),
    _comparison("less", "<", lambda a, b: a < b),
    _comparison("less_equal", "<=", lambda a, b: a <= b),
    _comparison("greater", ">", lambda a, b: a > b),
    _comparison("greater_equal", ">=", lambda a, b: a >= b),
    _comparison("equal", "==", lambda a, b: a == b),
    _comparison("not_equal", "!=", lambda a, b: a != b),
)

_ELEMENTARY = (
    Op("exp", "e to the power of a", (_A,), ("dy * y",), value=math.exp, range=_NON_NEGATIVE),
    Op("log", "natural logarithm", (_POSITIVE,), ("dy / a",), value=math.log),
    Op("sqrt", "square root", (_POSITIVE,), ("dy / (2 * y)",), value=math.sqrt, range=_NON_NEGATIVE),
    Op("abs", "absolute value", (_A,), ("dy * sign(a)",), value=math.fabs, range=_NON_NEGATIVE),
    Op("sign", "-1, 0 or 1", (_A,), (None,), value=lambda a: float((a > 0) - (a < 0)), range=(-1.0, 1.0)),
    Op("sin", "sine of a in radians", (_A,), ("dy * cos(a)",), value=math.sin, range=(-1.0, 1.0)),
    Op("cos", "cosine of a in radians", (_A,), ("-dy * sin(a)",), value=math.cos, range=(-1.0, 1.0)),
    Op(
        "erf",
        "the error function",
        (_A,),
        ("dy * 1.1283791670955126 * exp(-a * a)",),
        value=math.erf,
        range=(-1.0, 1.0),
    ),
    Op(
        "tanh",
        "hyperbolic tangent, squashes to -1..1",
        (_A,),
        ("dy * (1 - y * y)",),
        value=math.tanh,
        range=(-1.0, 1.0),
    ),
    Op("min", "the smaller of a and b", (_A, _B), ("dy * (a <= b)", "dy * (b < a)"), value=min),
    Op("max", "the larger of a and b", (_A, _B), ("dy * (a >= b)", "dy * (b > a)"), value=max),
    Op(
        "where",
        "a where the condition is not 0, else b",
        (Argument("condition", -1.0, 1.0), _A, _B),
        (None, "where(condition, dy, 0)", "where(condition, 0, dy)"),
        value=lambda condition, a, b: a if condition else b,
    ),
)

_ACTIVATIONS = (
    Op(
        "sigmoid",
        "logistic function, squashes to 0..1",
        (_A,),
        ("dy * y * (1 - y)",),
        definition="0.5 + 0.5 * tanh(0.5 * a)",
        range=_UNIT,
    ),
    Op("relu", "a, but not below 0", (_A,), ("dy * (y > 0)",), definition="max(a, 0)", range=_NON_NEGATIVE),
    Op(
        "leaky_relu",
        "a, times slope where negative",
        (_A, Argument("slope", 0.0, 1.0, default=0.01)),
        ("where(a > 0, dy, slope * dy)", "where(a > 0, 0, a * dy)"),
        definition="where(a > 0, a, slope * a)",
    ),
    Op(
        "elu",
        "a, or alpha * (exp(a) - 1) where negative",
        (_A, Argument("alpha", 0.1, 2.0, default=1.0)),
        ("where(a > 0, dy, dy * alpha * exp(min(a, 0)))", "where(a > 0, 0, dy * (exp(min(a, 0)) - 1))"),
        definition="where(a > 0, a, alpha * (exp(min(a, 0)) - 1))",
    ),
    Op(
        "softplus",
        "log(1 + exp(a)), a smooth relu",
        (_A,),
        ("dy * sigmoid(a)",),
        definition="max(a, 0) + log(1 + exp(-abs(a)))",
        range=_NON_NEGATIVE,
    ),
    Op(
        "gelu",
        "a times the normal distribution function of a",
        (_A,),
        ("dy * (0.5 * (1 + erf(0.7071067811865476 * a)) + 0.3989422804014327 * a * exp(-0.5 * a * a))",),
        definition="0.5 * a * (1 + erf(0.7071067811865476 * a))",
    ),
    Op(
        "silu",
        "a * sigmoid(a), also called swish",
        (_A,),
        ("dy * sigmoid(a) * (1 + a * (1 - sigmoid(a)))",),
        definition="a * sigmoid(a)",
    ),
    Op(
        "hard_sigmoid",
        "straight line a/6 + 1/2 between 0 and 1",
        (Argument("a", -4.0, 4.0),),
        ("dy * (abs(a) < 3) / 6",),
        definition="clip(a / 6 + 0.5, 0, 1)",
        range=_UNIT,
    ),
    Op(
        "hard_tanh", "a, cut at -1 and 1", (_A,), ("dy * (abs(a) < 1)",), definition="clip(a, -1, 1)", range=(-1.0, 1.0)
    ),
    Op(
        "softsign",
        "a / (1 + |a|)",
        (_A,),
        ("dy / (1 + abs(a)) ** 2",),
        definition="a / (1 + abs(a))",
        range=(-1.0, 1.0),
    ),
    Op(
        "clip",
        "a, cut at low and high",
        (_A, Argument("low", -2.0, -0.5), Argument("high", 0.5, 2.0)),
        (
            "dy * (a >= low) * (max(a, low) <= high)",
            "dy * (a < low) * (low <= high)",
            "dy * (max(a, low) > high)",
        ),
        definition="min(max(a, low), high)",
    ),
)

_UNITS = (
    Op("sum", "the sum over the units", (_A,), ("expand(dy, a)",), shape="reduce", value=math.fsum),
    Op("units", "how many units a has", (_A,), (None,), shape="reduce", value=len, range=_NON_NEGATIVE),
    Op("peak", "the largest of the units", (_A,), ("dy * (a == y) / sum(a == y)",), shape="reduce", value=max),
    Op(
        "mean",
        "the mean over the units",
        (_A,),
        ("expand(dy, a) / units(a)",),
        shape="reduce",
        definition="sum(a) / units(a)",
    ),
    Op("expand", "a, repeated for every unit of b", (_A, _B), ("sum(dy)", None), shape="expand"),
    Op(
        "softmax",
        "exp(a) divided by its sum over the units",
        (_A,),
        ("y * (dy - sum(dy * y))",),
        shape="normalize",
        definition="exp(a - peak(a)) / sum(exp(a - peak(a)))",
        range=_UNIT,
    ),
    Op(
        "layer_norm",
        "a less its mean, divided by its standard deviation over the units",
        (_A, _EPSILON),
        ("(dy - mean(dy) - y * mean(dy * y)) / sqrt(mean((a - mean(a)) ** 2) + epsilon)", None),
        shape="normalize",
        definition="(a - mean(a)) / sqrt(mean((a - mean(a)) ** 2) + epsilon)",
    ),
    Op(
        "rms_norm",
        "a divided by its root mean square over the units",
        (_A, _EPSILON),
        ("(dy - y * mean(dy * y)) / sqrt(mean(a * a) + epsilon)", None),
        shape="normalize",
        definition="a / sqrt(mean(a * a) + epsilon)",
    ),
)

_RANDOM = (
    Op(
        "dropout",
        "a with units set to 0 at random, other ones at every step, while training",
        (_A, _RATE),
        ("dy * mask", None),
        definition="a * mask",
        draw=Draw(True, "step"),
    ),
    Op(
        "variational_dropout",
        "a with units set to 0 at random, the same ones at all steps, while training",
        (_A, _RATE),
        ("dy * mask", None),
        definition="a * mask",
        draw=Draw(True, "sequence"),
    ),
    Op(
        "zoneout",
        "new, but units keep old at random while training; the expectation of that otherwise",
        (Argument("new"), Argument("old"), _RATE),
        ("dy * (1 - mask)", "dy * mask", None),
        definition="new + mask * (old - new)",
        draw=Draw(False, "step"),
    ),
)

OPS: dict[str, Op] = {op.name: op for op in (*_ARITHMETIC, *_ELEMENTARY, *_ACTIVATIONS, *_UNITS, *_RANDOM)}
