"""What every contestant is given, and the form in which it answers.

All contestants get the same numbers in one layout: `W` [I, G*H], `U` [H, G*H] and `b` [G*H] with the gates side by side
in torch's order, `c` [H] where the reset gate works on a bias of its own (GRU), `p` [3H] for peepholes i, f, o.
Gradients come back under the same names, with `x` and `output` [T, B, H].
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

__all__ = [
    "CELLS", "Case", "Cell", "Contestant", "Disagreement", "Problem", "Shape", "Unavailable", "by_autograd", "compare",
    "joined", "make_problem",
]  # fmt: skip

# float32 over thousands of summed rows: what two right answers may differ by, against the largest entry of a tensor.
TOLERANCE = 5e-5


class Shape(NamedTuple):
    """Sizes of a run; the input has as many units as the state."""

    batch: int
    steps: int
    units: int

    def __str__(self) -> str:
        return f"({self.batch}, {self.steps}, {self.units})"


@dataclass(frozen=True)
class Cell:
    """A cell of the comparison.

    Args:
        formula: its name in the zoo.
        parts: tensor of the common layout -> our parameters that it holds side by side.
    """

    formula: str
    parts: Mapping[str, tuple[str, ...]]

    @property
    def gates(self) -> int:
        """Columns of `W` and `U`, in units."""
        return len(self.parts["W"])


def _gated(formula: str, gates: str, **others: tuple[str, ...]) -> Cell:
    return Cell(formula, {kind: tuple(f"{kind}_{gate}" for gate in gates) for kind in "WUb"} | others)


CELLS = {
    "lstm": _gated("lstm", "ifgo"),
    "gru": _gated("gru_torch", "rzn", c=("c_n",)),
    "elman": Cell("elman", {kind: (kind,) for kind in "WUb"}),
    "peephole_lstm": _gated("peephole_lstm", "ifgo", p=("p_i", "p_f", "p_o")),
}


class Case(NamedTuple):
    """One line of the table: a cell at a shape, in training or inference."""

    cell: str
    mode: str
    shape: Shape


@dataclass(frozen=True)
class Problem:
    """The numbers of a case.

    Args:
        case: what is measured.
        x: the input [T, B, I].
        cotangent: the gradient of the loss with respect to the output [T, B, H].
        weights: name of the common layout -> tensor.
    """

    case: Case
    x: Tensor
    cotangent: Tensor
    weights: Mapping[str, Tensor]

    @property
    def training(self) -> bool:
        """Forward and backward, or forward alone."""
        return self.case.mode == "train"


def make_problem(case: Case, seed: int = 0) -> Problem:
    """Draw the numbers: weights as torch draws them, input and cotangent normal."""
    generator = torch.Generator().manual_seed(seed)
    batch, steps, units = case.shape
    bound = 1 / math.sqrt(units)
    weights = {}
    for kind, names in CELLS[case.cell].parts.items():
        columns = len(names) * units
        shape = (units, columns) if kind in "WU" else (columns,)
        weights[kind] = torch.empty(shape).uniform_(-bound, bound, generator=generator)
    x, cotangent = torch.randn(2, steps, batch, units, generator=generator).unbind(0)
    return Problem(case, x, cotangent, weights)


class Unavailable(Exception):
    """A peer cannot take part; the text says why."""


class Disagreement(Exception):
    """A peer computes something else than we do."""


@dataclass(frozen=True)
class Contestant:
    """Someone who takes part.

    Args:
        run: one call, which is timed.
        read: what a call returned -> tensors by the names of the common layout; not timed. None where nothing that
            could be compared is computed.
        ran_by: tells which of our back ends ran the last call; None for the others.
    """

    run: Callable[[], Any]
    read: Callable[[Any], dict[str, Tensor]] | None
    ran_by: Callable[[], str] | None = None


def by_autograd(
    problem: Problem,
    forward: Callable[[Tensor], Tensor],
    wanted: Sequence[Tensor],
    named: Callable[[Sequence[Tensor]], dict[str, Tensor]],
) -> Contestant:
    """A contestant made of torch: gradients by autograd in training, inference mode else.

    Args:
        problem: the case.
        forward: input -> output.
        wanted: parameters whose gradients are computed.
        named: these gradients, in their order -> the common layout.
    """
    if not problem.training:

        def infer() -> Tensor:
            with torch.inference_mode():
                return forward(problem.x)

        return Contestant(infer, lambda output: {"output": output})
    x = problem.x.clone().requires_grad_()

    def train() -> tuple[Tensor, tuple[Tensor, ...]]:
        output = forward(x)
        return output, torch.autograd.grad(output, (x, *wanted), problem.cotangent)

    def read(found: tuple[Tensor, tuple[Tensor, ...]]) -> dict[str, Tensor]:
        output, (dx, *others) = found
        return {"output": output.detach(), "x": dx, **named(others)}

    return Contestant(train, read)


def joined(problem: Problem, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Our parameters, or their gradients, side by side in the common layout."""
    parts = CELLS[problem.case.cell].parts
    return {kind: torch.cat([tensors[name] for name in names], -1) for kind, names in parts.items()}


def compare(name: str, theirs: Mapping[str, Tensor], ours: Mapping[str, Tensor]) -> float:
    """The largest difference from ours, against the largest entry of each tensor.

    Raises:
        Disagreement: it is more than rounding explains, a result is missing, or a number is not finite.
    """
    if theirs.keys() != ours.keys():
        raise Disagreement(f"{name} gives {', '.join(theirs)}, ours {', '.join(ours)}")
    largest = 0.0
    for key, value in ours.items():
        other = theirs[key]
        if other.shape != value.shape:
            raise Disagreement(f"{name}: {key} is {list(other.shape)}, ours {list(value.shape)}")
        difference = float((other - value).abs().max() / value.abs().max().clamp_min(1e-30))
        if not difference <= TOLERANCE:
            raise Disagreement(f"{name}: {key} differs from ours by {difference:.2g} of its largest entry")
        largest = max(largest, difference)
    return largest
