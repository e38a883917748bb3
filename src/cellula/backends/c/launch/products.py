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

# `"x"`, `"output"`, `"d_output"`, `"work"`, `"extra"`, the number of a kept state, or `("first", number)`: a state
# before the first step.
Buffer = str | int | tuple[str, int]


@dataclass(frozen=True)
class Place:
    """A factor as columns of a matrix [steps * batch, units].

    Args:
        buffer: which matrix it is part of.
        start, end: its columns.
        first: of a state before each step the numbers of the states that hold it in the first steps; so many steps late
            are the rows.
    """

    buffer: str | int
    start: int
    end: int
    first: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str | int, tuple[int, ...]]:
        """Which matrix it is part of, and how late."""
        return self.buffer, self.first


@dataclass(frozen=True)
class WeightGroup:
    """Matrices whose gradients are one product, or the negative of it, side by side: of each its number and columns."""

    left: Place
    right: Place
    parts: tuple[tuple[int, int, int], ...]
    blocks: int
    negative: bool


@dataclass(frozen=True)
class InputGroup:
    """Matrices that give to the gradient of the input in one product."""

    place: Place
    numbers: tuple[int, ...]
    counts: tuple[int, ...]
    turned: bool
    blocks: int
    negative: bool


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
        if factor.kind in ("output", "d_output"):
            return Place(factor.kind, 0, self.units(self.kernel.output.size))
        if column is None:
            number = self.slots.index(factor.slot)
            state = self.kernel.plan.graph.states[number]
            # The states of one value stand side by side, the youngest first.
            youngest = number - state.lag + 1
            first = tuple(range(number, youngest - 1, -1)) if factor.kind == "before" else ()
            return Place(self.series(state.name, youngest), 0, self.units(state.size), first)
        columns: Sequence[Column] = self.kernel.saved if column.buffer == "work" else self.back.extra
        start = sum(self.units(one.size) for one in columns[: columns.index(column)])
        return Place(column.buffer, start, start + self.units(column.size))

    def series(self, name: str, number: int) -> str | int:
        """Where the values of a state after every step lie."""
        return "x" if name == "x" else "output" if name == self.kernel.output_slot else number


def _join_weight(groups: list[WeightGroup], product: WeightProduct, places: _Places) -> list[WeightGroup]:
    left, right = places.of(product.left), places.of(product.right)
    number, blocks = places.parameters.index(product.parameter.name), product.parameter.blocks
    for place, group in enumerate(groups):
        fits = group.left == left and group.right.key == right.key and group.right.end == right.start
        fits = fits and group.negative == product.negative
        if fits and group.blocks == blocks == 1 and right.buffer in ("work", "extra"):
            begin = group.parts[-1][2]
            joined = Place(right.buffer, group.right.start, right.end)
            parts = (*group.parts, (number, begin, begin + right.end - right.start))
            return [*groups[:place], WeightGroup(left, joined, parts, 1, group.negative), *groups[place + 1 :]]
    return [*groups, WeightGroup(left, right, ((number, 0, right.end - right.start),), blocks, product.negative)]


def _join_input(groups: list[InputGroup], late: LateProduct, places: _Places) -> list[InputGroup]:
    place, blocks = places.of(late.source), late.parameter.blocks
    turned, number = late.op == "transposed", places.parameters.index(late.parameter.name)
    count = place.end - place.start
    if groups:
        last = groups[-1]
        fits = last.place.key == place.key and last.place.end == place.start
        fits = fits and (last.turned, last.negative) == (turned, late.negative)
        if fits and last.blocks == blocks == 1:
            joined, numbers, counts = (
                Place(place.buffer, last.place.start, place.end),
                (*last.numbers, number),
                last.counts,
            )
            return [*groups[:-1], InputGroup(joined, numbers, (*counts, count), turned, 1, late.negative)]
    return [*groups, InputGroup(place, (number,), (count,), turned, blocks, late.negative)]


class Factors:
    """The matrices of a call, as [steps * batch, units].

    Args:
        batch: rows of a step.
        buffers: where factors lie -> their values of all steps.
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
        late = max(len(left.first), len(right.first))
        if not late:
            return [(self.values(left), self.values(right))]
        pieces = zip(self._cut(left, late), self._cut(right, late), strict=True)
        return [pair for pair in pieces if len(pair[0])]

    def _cut(self, place: Place, late: int) -> list[Tensor]:
        """The rows of each of the first steps, and all others."""
        value = self.values(place)
        heads = [value[step * self.batch : (step + 1) * self.batch] for step in range(late)]
        if place.first:
            # A call may have fewer steps.
            heads = [self.state[number][: len(head)] for number, head in zip(place.first, heads, strict=True)]
        rows = late * self.batch
        return [*heads, value[: max(len(value) - rows, 0)] if place.first else value[rows:]]

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
        total = total.neg_() if group.negative else total
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
                whole = whole.neg_() if group.negative else whole
                d_x.copy_(whole + d_x if begun else whole)
                begun = True
                continue
            matrix = found[0] if len(found) == 1 else torch.cat(found, 1 if group.turned else 0)
            matrix = matrix.T if group.turned else matrix
            if begun:
                d_x.addmm_(value, matrix, alpha=-1 if group.negative else 1)
            else:
                torch.mm(value, matrix, out=d_x)
                if group.negative:
                    d_x.neg_()
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
            right, begin = group.right, group.right.start
            self._weight(
                number, group.left, Place(right.buffer, begin + start, begin + end, right.first), group.negative
            )
        self._sort()
        for group in products.inputs if wants_input else ():
            start = group.place.start
            for number, count in zip(group.numbers, group.counts, strict=True):
                self._input(number, Place(group.place.buffer, start, start + count), group, begun)
                start, begun = start + count, True
        self.array = array("q", self.jobs)

    def _weight(self, number: int, left: Place, right: Place, negative: bool) -> None:
        result = self.results.setdefault(number, len(self.results))
        late = max(len(left.first), len(right.first))
        for one, other in zip(self._pieces(left, late), self._pieces(right, late), strict=True):
            if one[3]:
                sizes = (one[3], left.end - left.start, right.end - right.start)
                self.jobs += (0, *one[:3], *other[:3], *sizes, result, 0, negative)

    def _sort(self) -> None:
        """Products with the same left factor one after the other; the first of a result begins it."""
        jobs = [self.jobs[at : at + 13] for at in range(0, len(self.jobs), 13)]
        lefts = [(*job[1:4], *job[7:9]) for job in jobs]
        order = sorted(range(len(jobs)), key=lambda number: lefts.index(lefts[number]))
        begun: set[int] = set()
        self.jobs = []
        for job in (jobs[number] for number in order):
            job[11] = job[10] in begun
            begun.add(job[10])
            self.jobs += job

    def _input(self, number: int, place: Place, group: InputGroup, begun: bool) -> None:
        buffer, start, step, rows = self._pieces(place, 0)[0]
        columns = self.widths["x"]
        self.jobs += (
            1,
            buffer,
            start,
            step,
            len(self.matrices),
            group.negative,
            0,
            rows,
            place.end - place.start,
            columns,
            -1,
            begun,
            group.turned,
        )
        self.matrices.append(number)

    def _pieces(self, place: Place, late: int) -> list[tuple[int, int, int, int]]:
        """(buffer, number of its first value, step from row to row, rows) of a factor; cut as in `Factors.pairs`."""
        buffer, width = self.buffers[place.buffer], self.widths[place.buffer]
        batch, rest = self.batch, self.rows - late * self.batch
        counts = [batch if (step + 1) * batch <= self.rows else 0 for step in range(late)]
        if place.first:
            heads = [
                (self.buffers["first", number], 0, width, n) for number, n in zip(place.first, counts, strict=True)
            ]
            return [*heads, (buffer, 0, width, max(rest, 0))]
        heads = [(buffer, place.start + step * batch * width, width, n) for step, n in enumerate(counts)]
        return [*heads, (buffer, place.start + late * batch * width, width, max(rest, 0))]

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
