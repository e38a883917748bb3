"""Fill parameters as their formula says, or with a sane default for their kind."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cellula.graph.graph import Graph
from cellula.graph.node import Init, Parameter, State, walk

__all__ = ["default_init", "initialize"]


def _blocks(tensor: Tensor, fill: Callable[[Tensor], object]) -> None:
    """Fill every block of a matrix by itself."""
    for block in tensor if tensor.ndim == 3 else [tensor]:
        fill(block)


_FILL: dict[str, Callable[..., object]] = {
    "constant": lambda tensor, value: tensor.fill_(value),
    "uniform": lambda tensor, low, high: tensor.uniform_(low, high),
    "normal": lambda tensor, deviation: tensor.normal_(0.0, deviation),
    "xavier": lambda tensor: _blocks(tensor, torch.nn.init.xavier_uniform_),
    "orthogonal": lambda tensor, gain: _blocks(tensor, lambda block: torch.nn.init.orthogonal_(block, gain)),
    "identity": lambda tensor, scale: _blocks(tensor, lambda block: torch.nn.init.eye_(block).mul_(scale)),
}


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


@torch.no_grad()
def initialize(graph: Graph, parameter: Parameter, tensor: Tensor) -> None:
    """Fill the tensor of a parameter in place.

    Args:
        graph: the cell.
        parameter: one of its parameters.
        tensor: of the parameter's shape, any floating dtype.
    """
    init = parameter.init or default_init(graph, parameter)
    # orthogonal_ needs a QR decomposition, which half precision lacks on the CPU.
    exact = tensor.to(torch.float32) if tensor.dtype in (torch.float16, torch.bfloat16) else tensor
    _FILL[init.kind](exact, *init.arguments)
    if exact is not tensor:
        tensor.copy_(exact)
