"""Floating-point operations of a cell, from its kernel: what the zoo's times are divided by."""

from __future__ import annotations

from collections.abc import Mapping

from cellula.backends.c.spelling import NATIVE
from cellula.graph.graph import Graph
from cellula.plan.costs import costs
from cellula.plan.kernel import make_kernel

__all__ = ["training_operations"]


def training_operations(graph: Graph, sizes: Mapping[str, int]) -> float:
    """Operations of one step of one row, forward and backward, with the products that follow the last step.

    A product costs 2 x rows x columns; what is done unit by unit counts as in the table of `cellula.plan.costs`.
    """
    return costs(make_kernel(graph, NATIVE, training=True, backward=True), sizes).operations
