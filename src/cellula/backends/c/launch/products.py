"""The products that follow the steps: gradients of matrices and of the input, over all steps at a time."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellula.graph.node import Size
from cellula.plan.kernel import BackwardKernel, Column, Kernel, LateProduct, Source, WeightProduct

__all__ = ["Buffer", "Factors", "InputGroup", "Products", "SmallProducts", "WeightGroup", "lay_out"]

# `"x"`, `"work"`, `"extra"`, the number of a kept state, or `("first", number)`: a state before the first step.
Buffer = str | int | tuple[str, int]


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
    counts: tuple[int, ...]
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
    count = place.end - place.start
    if groups:
        last = groups[-1]
        fits = last.place.key == place.key and last.place.end == place.start and last.turned == turned
        if fits and last.blocks == blocks == 1:
            joined = Place(place.buffer, last.place.start, place.end)
            return [*groups[:-1], InputGroup(joined, (*last.numbers, number), (*last.counts, count), turned, 1)]
    return [*groups, InputGroup(place, (number,), (count,), turned, blocks)]


class Factors:
    """The matrices of a call, as [steps * batch, units].

    Args:
        batch: rows of a step.
        buffers: `"x"`, `"work"`, `"extra"` and the numbers of kept states -> their values of all steps.
        state: the values before the first step.
    """

    def __init__(self, batch: int, buffers: Mapping[Buffer, Tensor | None], state: Sequence[Tensor]) -> None:
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


class SmallProducts:
    """All products in one call of C, for one shape of input. Matrices must be dense.

    Where things lie is worked out once; a call only names the first number of each buffer.

    Args:
        products: which ones.
        rows: steps * batch.
        batch: rows of a step.
        widths: name of a buffer -> its units; `("first", n)` is state n before the first step.
        wanted: of every parameter, whether its gradient is.
        wants_input: whether the gradient of the input is.
        begun: whether a part of it is there already.
    """

    def __init__(
        self, products: Products, rows: int, batch: int, widths: Mapping[Buffer, int], wanted: Sequence[bool],
        wants_input: bool, begun: bool,
    ) -> None:  # fmt: skip
        self.rows, self.batch, self.widths = rows, batch, widths
        self.buffers = {name: number for number, name in enumerate(widths)}
        self.results: dict[int, int] = {}
        self.matrices: list[int] = []
        self.jobs: list[int] = []
        parts = [(group, part) for group in products.weights for part in group.parts if wanted[part[0]]]
        for group, (number, start, end) in parts:
            begin = group.right.start
            self._weight(number, group.left, Place(group.right.buffer, begin + start, begin + end, group.right.before))
        for group in products.inputs if wants_input else ():
            start = group.place.start
            for number, count in zip(group.numbers, group.counts, strict=True):
                self._input(number, Place(group.place.buffer, start, start + count), group.turned, begun)
                start, begun = start + count, True
        self.array = array("q", self.jobs)

    def _weight(self, number: int, left: Place, right: Place) -> None:
        add = number in self.results
        result = self.results.setdefault(number, len(self.results))
        cut = left.before or right.before
        for one, other in zip(self._pieces(left, cut), self._pieces(right, cut), strict=True):
            if one[3]:
                sizes = (one[3], left.end - left.start, right.end - right.start)
                self.jobs += (0, *one[:3], *other[:3], *sizes, result, add, 0)
                add = True

    def _input(self, number: int, place: Place, turned: bool, begun: bool) -> None:
        buffer, start, step, rows = self._pieces(place, False)[0]
        columns = self.widths["x"]
        self.jobs += (
            1,
            buffer,
            start,
            step,
            len(self.matrices),
            0,
            0,
            rows,
            place.end - place.start,
            columns,
            -1,
            begun,
            turned,
        )
        self.matrices.append(number)

    def _pieces(self, place: Place, cut: bool) -> list[tuple[int, int, int, int]]:
        """(buffer, number of its first value, step from row to row, rows) of a factor; in two if it is cut."""
        buffer, width = self.buffers[place.buffer], self.widths[place.buffer]
        rest = self.rows - self.batch
        if place.before:
            first = self.buffers["first", int(str(place.buffer))]
            return [(first, 0, width, self.batch), (buffer, 0, width, rest)]
        if cut:
            return [(buffer, place.start, width, self.batch), (buffer, place.start + self.batch * width, width, rest)]
        return [(buffer, place.start, width, self.rows)]

    def run(
        self, function: Callable[..., None], buffers: Mapping[Buffer, Tensor | None], parameters: Sequence[Tensor],
        d_x: Tensor | None, gradients: list[Tensor | None],
    ) -> None:  # fmt: skip
        """Call C, and put the gradients of the parameters in their places."""
        if not self.jobs:
            return
        pointers = [0 if value is None else value.data_ptr() for value in (buffers[name] for name in self.buffers)]
        for number in self.results:
            # A matrix that is a view of another has a gradient of its own.
            made = gradients[number] = parameters[number].new_empty(parameters[number].shape)
            pointers.append(made.data_ptr())
        for number in self.matrices:
            matrix = parameters[number]
            pointers += (matrix.data_ptr(), *matrix.stride())
        pointers.append(0 if d_x is None else d_x.data_ptr())
        found = array("Q", pointers)
        jobs = self.array
        function(jobs.buffer_info()[0], len(jobs) // 13, found.buffer_info()[0], len(self.buffers), len(self.results))


def _product(left: Tensor, right: Tensor, blocks: int, total: Tensor | None) -> Tensor:
    """left.T @ right, block by block, added to a total."""
    if blocks == 1:
        return left.T @ right if total is None else total.addmm_(left.T, right)
    one = left.unflatten(-1, (blocks, -1)).permute(1, 2, 0)
    found = torch.bmm(one, right.unflatten(-1, (blocks, -1)).transpose(0, 1))
    return found if total is None else total + found
