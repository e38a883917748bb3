"""Floating-point operations of a cell, from its plan: what the zoo's times are divided by."""

from __future__ import annotations

import math
from collections.abc import Mapping

from cellula import make_plan
from cellula.graph.graph import Graph
from cellula.graph.node import Node, Parameter

__all__ = ["training_operations"]


def training_operations(graph: Graph, sizes: Mapping[str, int]) -> float:
    """Operations of one step of one row, forward and backward.

    A product costs 2 x rows x columns, three times: forward, the gradient of its input, and that of its matrix. Every
    other node costs one operation a unit, forward, and as much backward.
    """
    plan = make_plan(graph)
    nodes = (*plan.before, *plan.loop, *plan.after)
    return sum(_operations(node, sizes) for node in nodes)


def _operations(node: Node, sizes: Mapping[str, int]) -> float:
    if node.op == "equation":
        return 0
    units = 1 if node.size is None else sizes[node.size]
    if node.op not in ("matmul", "transposed"):
        return 2 * units
    matrix = node.inputs[1].attribute
    assert isinstance(matrix, Parameter)
    return 3 * 2 * math.prod(sizes[size] for size in matrix.sizes) / matrix.blocks
