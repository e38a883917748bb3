"""The products that follow the steps of a small call, by one call of C: torch would spend longer calling."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence

from torch import Tensor

from cellula.backends.c.launch.products import Buffer, InputGroup, Place, Products

__all__ = ["SmallProducts"]


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
