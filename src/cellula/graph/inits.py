"""How parameters start: one row a way, with the numbers that it takes and what it is for."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from cellula.graph.graph import Graph
from cellula.graph.node import Init, Parameter, State, walk

__all__ = ["INITS", "InitKind", "InitNumber", "complaint", "default_init"]


@dataclass(frozen=True)
class InitNumber:
    """One number of a row: `low` to `high` is what is allowed, `default` what stands for it where it is left out."""

    name: str
    default: float | None = None
    low: float = -math.inf
    high: float = math.inf
    whole: bool = False


@dataclass(frozen=True)
class InitKind:
    """One row: `init=normal(0.1)` is the row `normal` with the number 0.1.

    Args:
        meaning: for people.
        numbers: in order; those with a default stand last.
        matrix_only: whether vectors and scalars cannot start so.
        ordered: whether the first number must not exceed the second.
    """

    meaning: str
    numbers: tuple[InitNumber, ...] = ()
    matrix_only: bool = False
    ordered: bool = False

    @property
    def arguments(self) -> tuple[str, ...]:
        """The names of the numbers."""
        return tuple(number.name for number in self.numbers)

    @property
    def defaults(self) -> tuple[float, ...]:
        """What stands for the last numbers."""
        return tuple(number.default for number in self.numbers if number.default is not None)


_LOW, _HIGH = InitNumber("low"), InitNumber("high")
_GAIN, _GROUPS = InitNumber("gain", 1.0), InitNumber("groups", 1.0, 1, 4096, whole=True)
_MODULUS = (InitNumber("low", None, 0, 1), InitNumber("high", None, 0, 1))

INITS: dict[str, InitKind] = {
    "constant": InitKind("every element is this number; `init=1` is short for it", (InitNumber("value"),)),
    "uniform": InitKind("uniform between low and high", (_LOW, _HIGH), ordered=True),
    "normal": InitKind("normal with mean 0 and this standard deviation", (InitNumber("deviation", 1.0),)),
    "log_uniform": InitKind(
        "the logarithm of a number that is uniform between low and high",
        (InitNumber("low", None, 0), InitNumber("high", None, 0)),
        ordered=True,
    ),
    "chrono": InitKind(
        "log(u), u uniform from 1 to span - 1: gates that remember for up to span steps (Tallec & Ollivier 2018)",
        (InitNumber("span", None, 2),),
    ),
    "ring": InitKind(
        "nu with exp(-exp(nu)) the modulus of points even over the ring from low to high (Orvieto et al. 2023)",
        _MODULUS,
        ordered=True,
    ),
    "signs": InitKind("1 with this probability, else -1", (InitNumber("share", 0.5, 0, 1),)),
    "spaced": InitKind(
        "first + (last - first) * s ** power, s from 0 to 1 over the units; anew in each group of units",
        (InitNumber("first"), InitNumber("last"), InitNumber("power", 1.0, 0), _GROUPS),
    ),
    "powers": InitKind(
        "1, base, base ** 2, ...: one power a group of units, as many groups as said",
        (InitNumber("base"), InitNumber("groups", None, 1, 4096, whole=True)),
    ),
    "xavier": InitKind("uniform within sqrt(6 / (rows + columns)) (Glorot & Bengio 2010)", matrix_only=True),
    "normal_fan_in": InitKind(
        "normal with deviation gain / sqrt(rows); gain 1 after LeCun, 1.4142 for relu after He", (_GAIN,), True
    ),
    "uniform_fan_in": InitKind("uniform within gain / sqrt(rows); 1 is how torch.nn.Linear starts", (_GAIN,), True),
    "uniform_fan_out": InitKind("uniform within gain / sqrt(columns or units); 1 as torch.nn.LSTM starts", (_GAIN,)),
    "orthogonal": InitKind("a random orthogonal matrix times gain (Saxe et al. 2014)", (_GAIN,), True),
    "identity": InitKind("the identity matrix times scale (Le et al. 2015)", (InitNumber("scale", 1.0),), True),
    "spectral": InitKind(
        "uniform, a share `density` of the weights not 0, scaled so that the largest eigenvalue has this modulus",
        (InitNumber("radius", None, 0), InitNumber("density", 1.0, 0, 1)),
        True,
    ),
    "legendre": InitKind(
        "matrix and inlet of a memory that holds the last `window` steps in Legendre polynomials (Voelker et al. 2019)",
        (InitNumber("window", None, 1),),
    ),
    "tile": InitKind("0 and 1: the units of the smaller size again and again, 1 2 3 1 2 3", matrix_only=True),
    "stretch": InitKind("0 and 1: each unit of the smaller size several times, 1 1 2 2 3 3", matrix_only=True),
}  # fmt: skip


def complaint(kind: str, numbers: Sequence[float]) -> str | None:
    """What is wrong with the numbers of a row, None where nothing is."""
    row = INITS[kind]
    for number, value in zip(row.numbers, numbers, strict=True):
        if not number.low <= value <= number.high or (number.whole and value != int(value)):
            what = "a whole number" if number.whole else "a number"
            least = f"from {number.low:g}" if number.low > -math.inf else ""
            most = f"to {number.high:g}" if number.high < math.inf else "up"
            return f"`{number.name}` of `{kind}` is {value:g}; write {what} {least} {most}"
    if row.ordered and numbers[0] > numbers[1]:
        return f"`{kind}` from {numbers[0]:g} to {numbers[1]:g} is empty; put the lower number first"
    return None


def default_init(graph: Graph, parameter: Parameter) -> Init:
    """How a parameter starts whose formula does not say.

    Matrices that lead from the past to a value of the same size start orthogonal, other matrices after Glorot and
    Bengio; a recurrent diagonal starts uniform in -1..1, vectors and scalars start at 0.
    """
    if parameter.kind == "diagonal":
        return Init("uniform", (-1.0, 1.0))
    if parameter.kind != "matrix":
        return Init("constant", (0.0,))
    square = parameter.sizes[0] == parameter.sizes[1]
    products = [
        node for node in graph.nodes if node.op in ("matmul", "transposed") and node.inputs[1].attribute == parameter
    ]
    recurrent = any(isinstance(below.attribute, State) for node in products for below in walk([node.inputs[0]]))
    return Init("orthogonal", (1.0,)) if square and recurrent else Init("xavier")
