"""Fill parameters as their formula says, or with a sane default for their kind."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping

import torch
from torch import Tensor

from cellula.errors import UsageError
from cellula.graph.graph import Graph
from cellula.graph.inits import default_init
from cellula.graph.node import Parameter

__all__ = ["initialize", "triangle"]


def _blocks(tensor: Tensor, fill: Callable[[Tensor], object]) -> None:
    """Fill every block of a matrix by itself."""
    for block in tensor if tensor.ndim == 3 else [tensor]:
        fill(block)


def _within(tensor: Tensor, bound: float) -> None:
    tensor.uniform_(-bound, bound)


def _rows(tensor: Tensor) -> int:
    """How many rows a matrix has, or each of its blocks."""
    return tensor.shape[-2]


def _ring(tensor: Tensor, low: float, high: float) -> None:
    """The modulus is the root of a number that is uniform between the squares: even over the area."""
    square = tensor.uniform_(low * low, high * high).clamp_(1e-12, 1 - 1e-6)
    tensor.copy_(torch.log(-0.5 * torch.log(square)))


def _places(tensor: Tensor, groups: float) -> tuple[Tensor, Tensor]:
    """The number of every unit and of its group; a scalar is one unit."""
    units = tensor.shape[-1] if tensor.ndim else 1
    number = torch.arange(units, dtype=torch.float64, device=tensor.device)
    group = torch.floor(number * groups / units)
    return (number, group) if tensor.ndim else (number[0], group[0])


def _spaced(tensor: Tensor, first: float, last: float, power: float, groups: float) -> None:
    """Anew in each group of units; groups differ by one unit where their number does not divide the units."""
    units = tensor.shape[-1] if tensor.ndim else 1
    number, group = _places(tensor, groups)
    start, end = (torch.ceil((group + later) * units / groups) for later in (0, 1))
    place = (number - start) / (end - 1 - start).clamp(min=1)
    tensor.copy_(first + (last - first) * place**power)


def _powers(tensor: Tensor, base: float, groups: float) -> None:
    tensor.copy_(base ** _places(tensor, groups)[1])


def _spectral(tensor: Tensor, radius: float, density: float) -> None:
    """A small or sparse draw may have no eigenvalue but 0: then others are drawn, at last a dense one."""
    for attempt in range(64):
        kept = torch.empty_like(tensor).uniform_() < max(density, attempt / 63)
        largest = torch.linalg.eigvals(tensor.uniform_(-1, 1).mul_(kept)).abs().max()
        if largest > 1e-3:
            tensor.mul_(radius / largest)
            return


def _legendre(tensor: Tensor, window: float) -> None:
    """The delay network theta dm/dt = A m + B u, with u held through every step; transposed, as states are rows."""
    number = torch.arange(tensor.shape[-1] if tensor.ndim else 1, dtype=torch.float64, device=tensor.device)
    row, column = number[:, None], number[None, :]
    sign = torch.where(row < column, -1.0, (-1.0) ** (row - column + 1))
    system, inlet = (2 * row + 1) * sign / window, ((2 * row + 1) * (-1.0) ** row) / window
    step = torch.linalg.matrix_exp(system)
    held = torch.linalg.solve(system, (step - torch.eye(len(number), dtype=step.dtype, device=step.device)) @ inlet)
    tensor.copy_(step.T if tensor.ndim > 1 else held[:, 0].view(tensor.shape))


def _ones_at(tensor: Tensor, unit: Callable[[Tensor, int, int], Tensor]) -> None:
    """A 1 for every row or column of the longer side, in the place of its unit of the smaller one."""
    tensor.zero_()
    long, short = max(tensor.shape), min(tensor.shape)
    at = torch.arange(long, device=tensor.device)
    places = (at, unit(at, long, short)) if tensor.shape[0] == long else (unit(at, long, short), at)
    tensor[places] = 1


_FILL: dict[str, Callable[..., object]] = {
    "constant": lambda tensor, value: tensor.fill_(value),
    "uniform": lambda tensor, low, high: tensor.uniform_(low, high),
    "normal": lambda tensor, deviation: tensor.normal_(0.0, deviation),
    "log_uniform": lambda tensor, low, high: tensor.uniform_(low, high).clamp_(min=1e-6).log_(),
    "chrono": lambda tensor, span: tensor.uniform_(1, span - 1).log_(),
    "ring": _ring,
    "signs": lambda tensor, share: tensor.bernoulli_(share).mul_(2).sub_(1),
    "spaced": _spaced,
    "powers": _powers,
    "normal_fan_in": lambda tensor, gain: tensor.normal_(0.0, gain / math.sqrt(_rows(tensor))),
    "uniform_fan_in": lambda tensor, gain: _within(tensor, gain / math.sqrt(_rows(tensor))),
    "uniform_fan_out": lambda tensor, gain: _within(tensor, gain / math.sqrt(tensor.shape[-1] if tensor.ndim else 1)),
    "spectral": lambda tensor, radius, density: _blocks(tensor, lambda block: _spectral(block, radius, density)),
    "legendre": lambda tensor, window: (
        _blocks(tensor, lambda block: _legendre(block, window)) if tensor.ndim > 1 else _legendre(tensor, window)
    ),
    "tile": lambda tensor: _blocks(tensor, lambda block: _ones_at(block, lambda at, long, short: at % short)),
    "stretch": lambda tensor: _blocks(
        tensor, lambda block: _ones_at(block, lambda at, long, short: at * short // long)
    ),
    "xavier": lambda tensor: _blocks(tensor, torch.nn.init.xavier_uniform_),
    "orthogonal": lambda tensor, gain: _blocks(tensor, lambda block: torch.nn.init.orthogonal_(block, gain)),
    "identity": lambda tensor, scale: _blocks(tensor, lambda block: torch.nn.init.eye_(block).mul_(scale)),
}


# Only square matrices start so.
_SQUARE = ("spectral", "legendre")


def triangle(parameter: Parameter, tensor: Tensor) -> Tensor:
    """1 where a block-triangular matrix may have weights: from a group to itself and to the groups before it."""
    groups = [torch.arange(units, device=tensor.device) * parameter.triangle // units for units in tensor.shape]
    return (groups[0][:, None] >= groups[1][None, :]).to(tensor)


@torch.no_grad()
def initialize(graph: Graph, parameter: Parameter, tensor: Tensor, settings: Mapping[str, float]) -> None:
    """Fill the tensor of a parameter in place.

    Args:
        graph: the cell.
        parameter: one of its parameters.
        tensor: of the parameter's shape, any floating dtype.
        settings: name -> number, for starts that name one.

    Raises:
        UsageError: this way to start needs a square matrix, and this one is not.
    """
    init = parameter.init or default_init(graph, parameter)
    # orthogonal_ needs a QR decomposition, which half precision lacks on the CPU.
    exact = tensor.to(torch.float32) if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    if init.kind in _SQUARE and exact.ndim > 1 and exact.shape[-1] != exact.shape[-2]:
        shape = " x ".join(map(str, exact.shape))
        raise UsageError(f"{parameter.name} is {shape}; `{init.kind}` needs a square matrix")
    _FILL[init.kind](exact, *init.numbers(settings))
    if parameter.triangle > 1:
        exact.mul_(triangle(parameter, exact))
    if exact is not tensor:
        tensor.copy_(exact)
