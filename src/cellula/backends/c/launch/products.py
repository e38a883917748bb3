"""The products that follow the steps: gradients of matrices and of the input, over all steps at a time."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellula.plan.kernel import BackwardKernel, Column, LateProduct, Source, WeightProduct

__all__ = ["Factors", "add_late_products", "weight_gradients"]


@dataclass(frozen=True)
class Factors:
    """The factors of the products that follow the steps, as [steps * batch, units]."""

    back: BackwardKernel
    saved: Sequence[Column]
    units: Callable[[str | None], int]
    x: Tensor
    state: Mapping[str, Tensor]
    output: Tensor
    series: Mapping[str, Tensor]
    work: Tensor | None
    extra: Tensor | None

    def buffer(self, factor: Source) -> tuple[Tensor, int, int]:
        """A matrix, and the first and one past the last of its columns."""
        if factor.column is None:
            value = self.x if factor.kind == "x" else self.series.get(factor.slot, self.output)
            return value.view(-1, value.shape[-1]), 0, value.shape[-1]
        work = factor.column.buffer == "work"
        columns = list(self.saved if work else self.back.extra)
        before = columns[: columns.index(factor.column)]
        start = sum(self.units(column.size) for column in before)
        value = self.work if work else self.extra
        assert value is not None
        return value.view(-1, value.shape[-1]), start, start + self.units(factor.column.size)

    def parts(self, factor: Source) -> list[tuple[int, Tensor]]:
        """(first row, values): two parts for a state before each step, its first value standing elsewhere."""
        value, start, end = self.buffer(factor)
        if factor.kind != "before":
            return [(0, value[:, start:end])]
        batch = self.x.shape[1]
        return [(0, self.state[factor.slot]), (batch, value[: len(value) - batch])]


def weight_gradients(
    products: Sequence[WeightProduct], factors: Factors, parameters: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for group in _neighbours(products, factors):
        first = group[0]
        if first.parameter.blocks > 1:
            _keep(found, first.parameter.name, _block_product(first, factors, parameters))
            continue
        total = _product(first.left, first.right, factors, sum(factors.units(p.parameter.size) for p in group))
        start = 0
        for product in group:
            end = start + factors.units(product.parameter.size)
            _keep(found, product.parameter.name, total[:, start:end])
            start = end
    return found


def _keep(found: dict[str, Tensor], name: str, value: Tensor) -> None:
    """A parameter that is used twice has two gradients."""
    found[name] = found[name] + value if name in found else value


def _neighbours(products: Sequence[WeightProduct], factors: Factors) -> list[list[WeightProduct]]:
    """Products of the same left factor whose right ones lie side by side: one product does for all."""
    groups: list[list[WeightProduct]] = []
    ends: list[tuple[Source, int, int]] = []
    for product in products:
        value, start, end = factors.buffer(product.right)
        key = (product.left, value.data_ptr(), start)
        joined = product.parameter.blocks == 1 and product.right.column is not None
        if joined and key in ends:
            at = ends.index(key)
            groups[at].append(product)
            ends[at] = (product.left, value.data_ptr(), end)
        else:
            groups.append([product])
            ends.append((product.left, value.data_ptr(), end) if joined else (product.left, 0, -1))
    return groups


def _product(left: Source, right: Source, factors: Factors, units: int) -> Tensor:
    """left.T @ right over all steps and sequences, the right factor as wide as `units`."""
    value, start, _ = factors.buffer(right)
    lefts = factors.parts(left)
    rights = factors.parts(right) if right.kind == "before" else [(0, value[:, start : start + units])]
    total = None
    cuts = sorted({first for first, _ in (*lefts, *rights)}) + [len(value)]
    for begin, end in zip(cuts, cuts[1:], strict=False):
        one, other = _rows(lefts, begin, end).T, _rows(rights, begin, end)
        if end > begin:
            total = one @ other if total is None else total.addmm_(one, other)
    assert total is not None
    return total


def _rows(parts: list[tuple[int, Tensor]], begin: int, end: int) -> Tensor:
    first, value = next((first, value) for first, value in reversed(parts) if first <= begin)
    return value[begin - first : end - first]


def _block_product(product: WeightProduct, factors: Factors, parameters: Mapping[str, Tensor]) -> Tensor:
    blocks, rows, columns = parameters[product.parameter.name].shape
    left = torch.cat([value for _, value in factors.parts(product.left)])
    right = torch.cat([value for _, value in factors.parts(product.right)])
    return torch.bmm(
        left.view(-1, blocks, rows).permute(1, 2, 0), right.unflatten(-1, (blocks, columns)).transpose(0, 1)
    )


def add_late_products(
    d_x: Tensor, products: Sequence[LateProduct], factors: Factors, parameters: Mapping[str, Tensor], started: bool
) -> None:
    """Add to the gradient of the input what the products of the steps give it."""
    for product in products:
        value, start, end = factors.buffer(product.source)
        matrix = parameters[product.parameter.name]
        matrix = matrix.mT if product.op == "transposed" else matrix
        part = value[:, start:end]
        if matrix.ndim == 3:
            parts = part.unflatten(-1, matrix.shape[:2]).transpose(0, 1)
            whole = torch.bmm(parts, matrix).transpose(0, 1).flatten(1)
            d_x.copy_(whole + d_x if started else whole)
        elif started:
            d_x.addmm_(part, matrix)
        else:
            torch.mm(part, matrix, out=d_x)
        started = True


