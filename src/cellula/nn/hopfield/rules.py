"""How patterns become weights: Hebb's rule, Storkey's rule and the pseudoinverse."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from cellula.errors import DataError

__all__ = ["RULES"]


def hebb(weight: Tensor, new: Tensor, patterns: Tensor) -> Tensor:
    """w_ij grows by the mean product of the units i and j: what fires together is wired together."""
    return weight + new.T @ new / new.shape[1]


def storkey(weight: Tensor, new: Tensor, patterns: Tensor) -> Tensor:
    """Hebb's rule, less what the weights know already of the pattern: one pattern after another.

    w_ij grows by (s_i s_j - s_i h_ji - h_ij s_j) / N, where the field h_ij = sum of w_ik s_k over k other than i and j.
    """
    units = new.shape[1]
    for pattern in new:
        # With h = W s and no diagonal, h_ij is h_i - w_ij s_j. So s_i h_ji + h_ij s_j is s_i h_j + h_i s_j - 2 w_ij.
        crossed = torch.outer(pattern, weight @ pattern)
        weight = weight + (torch.outer(pattern, pattern) - (crossed + crossed.T) + 2 * weight) / units
        weight.fill_diagonal_(0.0)
    return weight


def pseudoinverse(weight: Tensor, new: Tensor, patterns: Tensor) -> Tensor:
    """W projects on the space of all patterns, so that every pattern reproduces itself exactly."""
    count, units = patterns.shape
    if count >= units:
        raise DataError(
            f"the pseudoinverse rule holds fewer patterns than units, and there would be {count} patterns "
            f"of {units} units; store fewer, or take rule='hebb' or rule='storkey'"
        )
    # In float64, which not every device has.
    basis, triangle = torch.linalg.qr(patterns.to("cpu", torch.float64).T)
    distance = triangle.diagonal().abs()
    dependent = (distance < 1e-10 * units).nonzero().flatten()
    if len(dependent):
        raise DataError(
            "the pseudoinverse rule needs linearly independent patterns, and a pattern (number "
            f"{int(dependent[0])} of all, counted from 0) is a combination of those before it, or one of them or its "
            "inverse; leave it out, or take rule='hebb' or rule='storkey'"
        )
    projection = basis @ basis.T
    return ((projection + projection.T) / 2).to(weight)


# Name -> (weights so far [N, N], new patterns [P, N], all patterns with the new ones [Q, N]) -> symmetric weights; the
# diagonal does not count.
RULES: dict[str, Callable[[Tensor, Tensor, Tensor], Tensor]] = {
    "hebb": hebb,
    "storkey": storkey,
    "pseudoinverse": pseudoinverse,
}
