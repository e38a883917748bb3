"""An ONNX model as plain values: they print, compare and test without any package."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Union

import numpy as np

__all__ = ["Attribute", "Body", "Call", "Model", "Port", "live"]

Attribute = Union[int, float, str, tuple[int, ...], tuple[float, ...], tuple[str, ...], "Body"]


@dataclass(frozen=True)
class Call:
    """One node: an operator on named values.

    Args:
        op: the operator, such as `"MatMul"`.
        inputs: names of values; `""` for an optional one that is left out.
        outputs: the names that its results get.
        attributes: by name, in order.
    """

    op: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    attributes: tuple[tuple[str, Attribute], ...] = ()


@dataclass(frozen=True)
class Port:
    """An input or output of a graph.

    Args:
        name: under which callers know it.
        type: a numpy type, such as `"float32"`.
        shape: a number, or the name of a size that is known when it runs (`"batch"`).
    """

    name: str
    type: str
    shape: tuple[int | str, ...]


@dataclass(frozen=True)
class Body:
    """A graph: the whole model's, or that of one step within a `Scan`."""

    name: str
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]
    calls: tuple[Call, ...]

    @property
    def operators(self) -> list[str]:
        """The operators in order, those of inner graphs too."""
        found = []
        for call in self.calls:
            found.append(call.op)
            for _, value in call.attributes:
                found += value.operators if isinstance(value, Body) else []
        return found


@dataclass(frozen=True)
class Model:
    """What an ONNX file holds.

    Args:
        body: the graph.
        weights: the constants that it reads, by name.
        title: what it is, for people.
        metadata: texts by name; `"formula"` is that of the cell.
    """

    body: Body
    weights: Mapping[str, np.ndarray] = field(repr=False)
    title: str = ""
    metadata: Mapping[str, str] = field(default_factory=dict)

    def ports(self) -> dict[str, list[dict[str, Any]]]:
        """Inputs and outputs as JSON can hold them."""
        sides = {"inputs": self.body.inputs, "outputs": self.body.outputs}
        return {
            side: [{"name": port.name, "type": port.type, "shape": list(port.shape)} for port in ports]
            for side, ports in sides.items()
        }


def live(body: Body) -> tuple[Body, set[str]]:
    """A graph without the calls whose results nobody reads, and the names that it reads, inner graphs included."""
    needed = {port.name for port in body.outputs}
    kept: list[Call] = []
    for call in reversed(body.calls):
        if not needed & set(call.outputs):
            continue
        attributes: list[tuple[str, Attribute]] = []
        for name, value in call.attributes:
            if isinstance(value, Body):
                value, inside = live(value)
                needed |= inside
            attributes.append((name, value))
        needed |= set(call.inputs)
        kept.append(replace(call, attributes=tuple(attributes)))
    return replace(body, calls=tuple(reversed(kept))), needed
