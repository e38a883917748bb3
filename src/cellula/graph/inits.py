"""How parameters start: one row a way, with how many numbers it takes and what it is for."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["INITS", "InitKind"]


@dataclass(frozen=True)
class InitKind:
    """One row: `init=normal(0.1)` is the row `normal` with the number 0.1."""

    meaning: str
    arguments: tuple[str, ...] = ()
    defaults: tuple[float, ...] = ()
    matrix_only: bool = False


INITS: dict[str, InitKind] = {
    "constant": InitKind("every element is this number; `init=1` is short for it", ("value",)),
    "uniform": InitKind("uniform between low and high", ("low", "high")),
    "normal": InitKind("normal with mean 0 and this standard deviation", ("deviation",), (1.0,)),
    "xavier": InitKind("uniform within sqrt(6 / (rows + columns)) (Glorot & Bengio 2010)", matrix_only=True),
    "orthogonal": InitKind("a random orthogonal matrix times gain (Saxe et al. 2014)", ("gain",), (1.0,), True),
    "identity": InitKind("the identity matrix times scale (Le et al. 2015)", ("scale",), (1.0,), True),
}
