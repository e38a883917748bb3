"""Sizes for a cell of the zoo: its own sizes, and a hidden size that its blocks divide."""

import math

OWN = 2


def own_sizes(graph):
    """The sizes that a caller must give: `{"proj": 2}`."""
    return dict.fromkeys(graph.extra_sizes, OWN)


def fitting(graph, hidden):
    """The smallest hidden size from this one on that the blocks and triangles of the cell's matrices divide."""
    parts = math.lcm(*(parameter.blocks * parameter.triangle for parameter in graph.parameters))
    return hidden + -hidden % parts


def sizes_of(graph, inputs, hidden):
    """All sizes of a cell."""
    return {"input": inputs, "hidden": fitting(graph, hidden), **own_sizes(graph)}
