"""The products that follow the steps: gradients of matrices and of the input, over all steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from cellula.graph.node import Size
from cellula.plan.kernel import BackwardKernel, Column, Kernel, LateProduct, Source, WeightProduct

__all__ = ["Buffer", "InputGroup", "Place", "Products", "WeightGroup", "lay_out"]

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
    for product in sorted(back.weights, key=lambda one: places.of(one.right).start):
        weights = _join_weight(weights, product, places)
    inputs: list[InputGroup] = []
    for late in sorted(back.inputs, key=lambda one: places.of(one.source).start):
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
