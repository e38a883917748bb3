"""What a forward step writes down for the backward one, and what is computed again instead."""

from __future__ import annotations

from collections.abc import Collection, Iterable

from cellula.graph.node import Node, State
from cellula.plan.schedule import PRODUCTS, walk_to

__all__ = ["choose_saved", "states_read", "values_read"]


def values_read(roots: Iterable[Node], forward: Collection[Node]) -> list[Node]:
    """The values of the forward step that a backward step reads, leaves left out."""
    found = walk_to(roots, lambda node: node in forward)
    return [node for node in found if node in forward and node.op != "leaf"]


def states_read(roots: Iterable[Node], stop: Collection[Node]) -> set[str]:
    """The names of the values of earlier steps that are read below the roots, but not below what is there."""
    found = walk_to(roots, lambda node: node in stop and node.op != "leaf")
    return {node.attribute.name for node in found if isinstance(node.attribute, State)}


def choose_saved(needed: list[Node], order: list[Node], kept: Collection[Node], names: Collection[str]) -> list[Node]:
    """What must be written down at every step, so that everything needed can be had without a product or a reduction.

    A value is computed again where that takes arithmetic unit by unit on what is there anyway: reading it back from
    memory would cost as much. No value of the result can be left out.

    Args:
        needed: the forward values that the backward step reads.
        order: all forward values, inputs first.
        kept: values that are there at no cost: the output, and what is kept for the steps after.
        names: the values of earlier steps that are there.

    Returns:
        The values to save, in the order of the step.
    """
    saved = {*needed, *kept}
    for node in reversed(order):
        if node in saved and node not in kept and _can_be_computed(node, saved - {node}, names):
            saved.remove(node)
    return [node for node in order if node in saved and node not in kept]


def _can_be_computed(node: Node, saved: Collection[Node], names: Collection[str]) -> bool:
    for inner in walk_to([node], lambda one: one in saved):
        if inner in saved:
            continue
        if inner.op in PRODUCTS or (inner.op in ("sum", "peak")):
            return False
        if isinstance(inner.attribute, State) and inner.attribute.name not in names:
            return False
    return True
