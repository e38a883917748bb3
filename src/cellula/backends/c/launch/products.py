"""The products that follow the steps: gradients of matrices and of the input, over all steps at a time."""

from __future__ import annotations

from array import array
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
        buffer: `"x"`, `"work"`, `"extra"` or the number of a state.
        start, end: its columns.
        before: a state before each step: the rows are one step late, and the first ones stand elsewhere.
    """

    buffer: str | int
    start: int
    end: int
    before: bool = False

    @property
    def key(self) -> tuple[str | int, bool]:
        """Which matrix it is part of."""
        return self.buffer, self.before


@dataclass(frozen=True)
class WeightGroup:
    """Matrices whose gradients are one product, side by side: of each its number and columns."""

    left: Place
    right: Place
    parts: tuple[tuple[int, int, int], ...]
    blocks: int


@dataclass(frozen=True)
class InputGroup:
    """Matrices that give to the gradient of the input in one product."""

    place: Place
    numbers: tuple[int, ...]
    turned: bool
    blocks: int


@dataclass(frozen=True)
class Products:
    """All products that follow the steps, with numbers for sizes."""

    weights: tuple[WeightGroup, ...]
    inputs: tuple[InputGroup, ...]


def lay_out(kernel: Kernel, units: Callable[[Size], int], parameters: Sequence[str], slots: Sequence[str]) -> Products:
    """Join products of neighbouring columns: a wide product is faster than several narrow ones."""
    back = kernel.backward
    if back is None:
        return Products((), ())
    places = _Places(kernel, back, units, parameters, slots)
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
    parameters: Sequence[str]
    slots: Sequence[str]

    def of(self, factor: Source) -> Place:
        column = factor.column
        if factor.kind == "x":
            return Place("x", 0, self.units("input"))
        if column is None:
            number = self.slots.index(factor.slot)
            size = self.kernel.plan.graph.states[number].size
            return Place(number, 0, self.units(size), factor.kind == "before")
        columns: Sequence[Column] = self.kernel.saved if column.buffer == "work" else self.back.extra
        start = sum(self.units(one.size) for one in columns[: columns.index(column)])
        return Place(column.buffer, start, start + self.units(column.size))


def _join_weight(groups: list[WeightGroup], product: WeightProduct, places: _Places) -> list[WeightGroup]:
    left, right = places.of(product.left), places.of(product.right)
    number, blocks = places.parameters.index(product.parameter.name), product.parameter.blocks
    for place, group in enumerate(groups):
        fits = group.left == left and group.right.key == right.key and group.right.end == right.start
        if fits and group.blocks == blocks == 1 and right.buffer in ("work", "extra"):
            begin = group.parts[-1][2]
            joined = Place(right.buffer, group.right.start, right.end)
            parts = (*group.parts, (number, begin, begin + right.end - right.start))
            return [*groups[:place], WeightGroup(left, joined, parts, 1), *groups[place + 1 :]]
    return [*groups, WeightGroup(left, right, ((number, 0, right.end - right.start),), blocks)]


def _join_input(groups: list[InputGroup], late: LateProduct, places: _Places) -> list[InputGroup]:
    place, blocks = places.of(late.source), late.parameter.blocks
    turned, number = late.op == "transposed", places.parameters.index(late.parameter.name)
    if groups:
        last = groups[-1]
        fits = last.place.key == place.key and last.place.end == place.start and last.turned == turned
        if fits and last.blocks == blocks == 1:
            joined = Place(place.buffer, last.place.start, place.end)
            return [*groups[:-1], InputGroup(joined, (*last.numbers, number), turned, 1)]
    return [*groups, InputGroup(place, (number,), turned, blocks)]


class Factors:
    """The matrices of a call, as [steps * batch, units].

    Args:
        batch: rows of a step.
        buffers: `"x"`, `"work"`, `"extra"` and the numbers of kept states -> their values of all steps.
        state: the values before the first step.
    """

    def __init__(self, batch: int, buffers: Mapping[str | int, Tensor | None], state: Sequence[Tensor]) -> None:
        self.batch, self.buffers, self.state = batch, buffers, state

    def flat(self, name: str | int) -> Tensor:
        """A buffer as a matrix."""
        value = self.buffers[name]
        assert value is not None
        return value.view(-1, value.shape[-1])

    def values(self, place: Place) -> Tensor:
        """The columns of a factor that is not one step late."""
        value = self.flat(place.buffer)
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
            value = self.flat(place.buffer)
            return self.state[int(place.buffer)], value[: len(value) - self.batch]
        value = self.values(place)
        return value[: self.batch], value[self.batch :]

    def large(
        self, products: Products, parameters: Sequence[Tensor], wanted: Sequence[bool], d_x: Tensor | None, begun: bool,
        gradients: list[Tensor | None],
    ) -> None:  # fmt: skip
        """All products by torch.

        Args:
            products: which ones.
            parameters: of the kernel.
            wanted: of every parameter, whether its gradient is.
            d_x: where the gradient of the input goes; None where it is not wanted.
            begun: whether it holds a part already.
            gradients: where those of the parameters go.
        """
        for group in products.weights:
            if any(wanted[number] for number, _, _ in group.parts):
                self._weights(group, gradients)
        if d_x is not None:
            self._add_to_input(d_x.view(-1, d_x.shape[-1]), products.inputs, parameters, begun)

    def _weights(self, group: WeightGroup, gradients: list[Tensor | None]) -> None:
        total = None
        for left, right in self.pairs(group.left, group.right):
            total = _product(left, right, group.blocks, total)
        assert total is not None
        for number, start, end in group.parts:
            value, before = total if len(group.parts) == 1 else total[:, start:end], gradients[number]
            # A parameter that is used twice has two gradients.
            gradients[number] = value if before is None else before + value

    def _add_to_input(
        self, d_x: Tensor, groups: Sequence[InputGroup], parameters: Sequence[Tensor], begun: bool
    ) -> None:
        for group in groups:
            value = self.values(group.place)
            found = [parameters[number] for number in group.numbers]
            if group.blocks > 1:
                matrix = found[0].mT if group.turned else found[0]
                parts = value.unflatten(-1, matrix.shape[:2]).transpose(0, 1)
                whole = torch.bmm(parts, matrix).transpose(0, 1).flatten(1)
                d_x.copy_(whole + d_x if begun else whole)
                begun = True
                continue
            matrix = found[0] if len(found) == 1 else torch.cat(found, 1 if group.turned else 0)
            matrix = matrix.T if group.turned else matrix
            if begun:
                d_x.addmm_(value, matrix)
            else:
                torch.mm(value, matrix, out=d_x)
            begun = True

    def small(
        self, run: Callable[..., None], products: Products, parameters: Sequence[Tensor], wanted: Sequence[bool],
        d_x: Tensor | None, begun: bool, gradients: list[Tensor | None],
    ) -> None:  # fmt: skip
        """All products in one call of C; the arguments are those of `large`. Matrices must be dense."""
        numbers: list[int] = []
        for group in products.weights:
            for number, start, end in group.parts:
                if wanted[number]:
                    add = gradients[number] is not None
                    if not add:
                        gradients[number] = parameters[number].new_empty(parameters[number].shape)
                    right = Place(group.right.buffer, group.right.start + start, group.right.start + end, group.right.before)
                    numbers += self._outer(group.left, right, gradients[number], add)
        if d_x is not None:
            for group in products.inputs:
                start = group.place.start
                for number in group.numbers:
                    matrix = parameters[number]
                    matrix = matrix.T if group.turned else matrix
                    rows, columns = matrix.shape
                    at, step, count = self._address(Place(group.place.buffer, start, start + rows))[0]
                    numbers += (1, at, step, matrix.data_ptr(), *matrix.stride(), count, rows, columns, d_x.data_ptr(), begun)
                    start, begun = start + rows, True
        if numbers:
            found = array("q", numbers)
            run(found.buffer_info()[0], len(numbers) // 11)

    def _outer(self, left: Place, right: Place, out: Tensor | None, add: bool) -> list[int]:
        """The numbers of left.T @ right, in as many pieces as there are."""
        assert out is not None
        numbers: list[int] = []
        if left.before or right.before:
            pieces = zip(self._address(left, True), self._address(right, True), strict=True)
        else:
            pieces = zip(self._address(left), self._address(right), strict=True)
        for (one, one_step, count), (other, other_step, _) in pieces:
            if count:
                sizes = (left.end - left.start, right.end - right.start)
                numbers += (0, one, one_step, other, other_step, 0, count, *sizes, out.data_ptr(), add)
                add = True
        return numbers

    def _address(self, place: Place, cut: bool = False) -> list[tuple[int, int, int]]:
        """(where the first row starts, step from row to row, rows) of a factor; of both its parts if it is cut."""
        value = self.buffers[place.buffer]
        assert value is not None
        width, rows, bytes_ = value.shape[-1], value.shape[0] * value.shape[1], value.element_size()
        at = value.data_ptr() + place.start * bytes_
        if place.before:
            first = self.state[int(place.buffer)]
            return [(first.data_ptr(), width, self.batch), (at, width, rows - self.batch)]
        if cut:
            return [(at, width, self.batch), (at + self.batch * width * bytes_, width, rows - self.batch)]
        return [(at, width, rows)]


def _product(left: Tensor, right: Tensor, blocks: int, total: Tensor | None) -> Tensor:
    """left.T @ right, block by block, added to a total."""
    if blocks == 1:
        return left.T @ right if total is None else total.addmm_(left.T, right)
    one = left.unflatten(-1, (blocks, -1)).permute(1, 2, 0)
    found = torch.bmm(one, right.unflatten(-1, (blocks, -1)).transpose(0, 1))
    return found if total is None else total + found
