"""The products that follow the steps: gradients of matrices and of the input, over all steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellula.graph.node import Size
from cellula.plan.kernel import BackwardKernel, Column, Kernel, LateProduct, Source, WeightProduct

__all__ = ["Factors", "InputGroup", "Products", "WeightGroup", "lay_out"]


@dataclass(frozen=True)
class Place:
    """A factor as columns of a matrix [steps * batch, units].

    Args:
        buffer: `"x"`, `"work"`, `"extra"` or the slot of a state.
        start, end: its columns.
        before: a state before each step: the rows are one step late, and the first ones stand elsewhere.
    """

    buffer: str
    start: int
    end: int
    before: bool = False

    @property
    def key(self) -> tuple[str, bool]:
        """Which matrix it is part of."""
        return self.buffer, self.before


@dataclass(frozen=True)
class WeightGroup:
    """Matrices whose gradients are one product, side by side: of each its name and columns."""

    left: Place
    right: Place
    parts: tuple[tuple[str, int, int], ...]
    blocks: int


@dataclass(frozen=True)
class InputGroup:
    """Matrices that give to the gradient of the input in one product."""

    place: Place
    names: tuple[str, ...]
    turned: bool
    blocks: int


@dataclass(frozen=True)
class Products:
    """All products that follow the steps, with numbers for sizes."""

    weights: tuple[WeightGroup, ...]
    inputs: tuple[InputGroup, ...]


def lay_out(kernel: Kernel, units: Callable[[Size], int]) -> Products:
    """Join products of neighbouring columns: a wide product is faster than several narrow ones."""
    back = kernel.backward
    if back is None:
        return Products((), ())
    places = _Places(kernel, back, units)
    weights: list[WeightGroup] = []
    for product in back.weights:
        weights = _join_weight(weights, product, places)
    inputs: list[InputGroup] = []
    for late in back.inputs:
        inputs = _join_input(inputs, late, places)
    return Products(tuple(weights), tuple(inputs))


@dataclass(frozen=True)
class _Places:
    kernel: Kernel
    back: BackwardKernel
    units: Callable[[Size], int]

    def of(self, factor: Source) -> Place:
        column = factor.column
        if factor.kind == "x":
            return Place("x", 0, self.units("input"))
        if column is None:
            size = next(state.size for state in self.kernel.plan.graph.states if state.slot == factor.slot)
            return Place(factor.slot, 0, self.units(size), factor.kind == "before")
        columns: Sequence[Column] = self.kernel.saved if column.buffer == "work" else self.back.extra
        start = sum(self.units(one.size) for one in columns[: columns.index(column)])
        return Place(column.buffer, start, start + self.units(column.size))


def _join_weight(groups: list[WeightGroup], product: WeightProduct, places: _Places) -> list[WeightGroup]:
    left, right = places.of(product.left), places.of(product.right)
    name, blocks = product.parameter.name, product.parameter.blocks
    for number, group in enumerate(groups):
        fits = group.left == left and group.right.key == right.key and group.right.end == right.start
        if fits and group.blocks == blocks == 1 and right.buffer in ("work", "extra"):
            begin = group.parts[-1][2]
            joined = Place(right.buffer, group.right.start, right.end)
            parts = (*group.parts, (name, begin, begin + right.end - right.start))
            return [*groups[:number], WeightGroup(left, joined, parts, 1), *groups[number + 1 :]]
    return [*groups, WeightGroup(left, right, ((name, 0, right.end - right.start),), blocks)]


def _join_input(groups: list[InputGroup], late: LateProduct, places: _Places) -> list[InputGroup]:
    place, blocks = places.of(late.source), late.parameter.blocks
    turned = late.op == "transposed"
    if groups:
        last = groups[-1]
        fits = last.place.key == place.key and last.place.end == place.start and last.turned == turned
        if fits and last.blocks == blocks == 1:
            joined = Place(place.buffer, last.place.start, place.end)
            return [*groups[:-1], InputGroup(joined, (*last.names, late.parameter.name), turned, 1)]
    return [*groups, InputGroup(place, (late.parameter.name,), turned, blocks)]


class Factors:
    """The matrices of a call, as [steps * batch, units].

    Args:
        batch: rows of a step.
        buffers: `"x"`, `"work"`, `"extra"` and the slots of kept states -> their values of all steps.
        state: slot -> its value before the first step.
    """

    def __init__(self, batch: int, buffers: Mapping[str, Tensor | None], state: Mapping[str, Tensor]) -> None:
        self.batch, self.state = batch, state
        self.flat = {name: value.view(-1, value.shape[-1]) for name, value in buffers.items() if value is not None}

    def values(self, place: Place) -> Tensor:
        """The columns of a factor that is not one step late."""
        value = self.flat[place.buffer]
        whole = place.start == 0 and place.end == value.shape[1]
        return value if whole else value[:, place.start : place.end]

    def pairs(self, left: Place, right: Place) -> list[tuple[Tensor, Tensor]]:
        """Both factors, cut where one of them stands in two places."""
        if not (left.before or right.before):
            return [(self.values(left), self.values(right))]
        one, other = self._cut(left), self._cut(right)
        return [pair for pair in zip(one, other, strict=True) if len(pair[0])]

    def _cut(self, place: Place) -> tuple[Tensor, Tensor]:
        if place.before:
            value = self.flat[place.buffer]
            return self.state[place.buffer], value[: len(value) - self.batch]
        value = self.values(place)
        return value[: self.batch], value[self.batch :]

    def weight_gradients(self, groups: Sequence[WeightGroup], wanted: Callable[[str], bool]) -> dict[str, Tensor]:
        """The gradients of all wanted matrices."""
        found: dict[str, Tensor] = {}
        for group in groups:
            if not any(wanted(name) for name, _, _ in group.parts):
                continue
            total = None
            for left, right in self.pairs(group.left, group.right):
                total = _product(left, right, group.blocks, total)
            assert total is not None
            for name, start, end in group.parts:
                value = total if len(group.parts) == 1 else total[:, start:end]
                # A parameter that is used twice has two gradients.
                found[name] = found[name] + value if name in found else value
        return found

    def add_to_input(self, d_x: Tensor, groups: Sequence[InputGroup], matrices: Mapping[str, Tensor], begun: bool) -> None:
        """Add to the gradient of the input [steps * batch, I] what the products of the steps give it."""
        for group in groups:
            value = self.values(group.place)
            found = [matrices[name] for name in group.names]
            if group.blocks > 1:
                matrix = found[0].mT if group.turned else found[0]
                parts = value.unflatten(-1, matrix.shape[:2]).transpose(0, 1)
                whole = torch.bmm(parts, matrix).transpose(0, 1).flatten(1)
                d_x.copy_(whole + d_x if begun else whole)
                begun = True
                continue
            axis = 1 if group.turned else 0
            matrix = found[0] if len(found) == 1 else torch.cat(found, axis)
            matrix = matrix.T if group.turned else matrix
            if begun:
                d_x.addmm_(value, matrix)
            else:
                torch.mm(value, matrix, out=d_x)
            begun = True


def _product(left: Tensor, right: Tensor, blocks: int, total: Tensor | None) -> Tensor:
    """left.T @ right, block by block, added to a total."""
    if blocks == 1:
        return left.T @ right if total is None else total.addmm_(left.T, right)
    one = left.unflatten(-1, (blocks, -1)).permute(1, 2, 0)
    found = torch.bmm(one, right.unflatten(-1, (blocks, -1)).transpose(0, 1))
    return found if total is None else total + found
