"""The products that follow the steps of a large call, by torch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from cellula.backends.c.launch.products import Buffer, InputGroup, Place, Products, WeightGroup

__all__ = ["Factors"]


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


def _product(left: Tensor, right: Tensor, blocks: int, total: Tensor | None) -> Tensor:
    """left.T @ right, block by block, added to a total."""
    if blocks == 1:
        return left.T @ right if total is None else total.addmm_(left.T, right)
    one = left.unflatten(-1, (blocks, -1)).permute(1, 2, 0)
    found = torch.bmm(one, right.unflatten(-1, (blocks, -1)).transpose(0, 1))
    return found if total is None else total + found
