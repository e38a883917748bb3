"""What a cell does before any training: its nodes and states over some steps of noise."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor

from cellula.checks.case import Case, make_case
from cellula.graph.graph import Graph
from cellula.inspection.memory import GradientOverLags

__all__ = ["Start", "look_at_start"]

STEPS, ROWS = 128, 2


@dataclass(frozen=True, eq=False)
class Start:
    """A cell as it starts.

    Args:
        graph: the cell.
        nodes: name -> the node over steps of normal noise [T, B, H], from states of 0.
        quiet: name -> the node after one step where input and states are 0 [H].
        dead: the parameters whose gradient is 0 everywhere.
        lags: the gradient over lags.
    """

    graph: Graph
    nodes: Mapping[str, Tensor] = field(repr=False)
    quiet: Mapping[str, Tensor] = field(repr=False)
    dead: tuple[str, ...]
    lags: GradientOverLags


def look_at_start(case: Case, moved: Case, lags: GradientOverLags) -> Start:
    """Run a cell as it starts.

    Args:
        case: sizes and settings.
        moved: the same cell with parameters that are not where they start, for gradients.
        lags: what was measured over lags.
    """
    graph = case.graph
    fresh = make_case(graph, case.sizes, case.settings, STEPS, ROWS, moved=0.0).without_start()
    fresh = fresh.with_leaves({name: value.detach() for name, value in fresh.leaves.items()})
    silent = fresh.with_leaves({**fresh.leaves, "x": torch.zeros_like(fresh.x[:1])})
    names = tuple(graph.equation)
    nodes, quiet = (
        one.reference(one.x, one.start, one.parameters, one.settings, one.sizes, record=names).recorded
        for one in (fresh, silent)
    )
    return Start(graph, nodes, {n: v[0, 0] for n, v in quiet.items()}, _without_gradient(moved), lags)


def _without_gradient(case: Case) -> tuple[str, ...]:
    """The parameters that the output does not follow."""
    output = case.run(case.reference).output
    leaves = {p.name: case.parameters[p.name] for p in case.graph.parameters if p.learned}
    if not output.requires_grad or not leaves:
        return tuple(leaves)
    weighted = (output * torch.linspace(-1, 2, output.numel(), dtype=output.dtype).view_as(output)).sum()
    found = torch.autograd.grad(weighted, list(leaves.values()), allow_unused=True)
    return tuple(name for name, g in zip(leaves, found, strict=True) if g is None or not bool(g.any()))
