"""One node of a cell as it was over time, and what its units did."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from cellula.graph.classify import Range

__all__ = ["EDGE", "ORDERS", "Recorded", "order_units"]

# A node is saturated within this share of its bound: a gate below 0.1 or above 0.9, a tanh beyond -0.9 and 0.9.
EDGE = 0.1
# A unit that moves less than this, next to what it is, stands still.
STILL = 1e-6

ORDERS = ("none", "time", "similarity")


@dataclass(frozen=True, eq=False)
class Recorded:
    """One node over time.

    Args:
        name: the node.
        layer: the layer it stands in, counted over directions too: 0 ... L*D-1.
        role: "gate", "layer" or "combination", as in `classify`.
        is_state: whether the next step reads it.
        bounds: between which numbers it lies for certain.
        comment: what the formula says of it.
        values: [T, B, H].
    """

    name: str
    layer: int
    role: str
    is_state: bool
    bounds: Range
    comment: str
    values: np.ndarray

    @property
    def units(self) -> int:
        return self.values.shape[2]

    @property
    def limits(self) -> tuple[float, float] | None:
        """Below and above which numbers it is saturated; None where it cannot be: no bounds, or a sum of others.

        A rectified node has one bound: it is saturated where it is 0, and its second limit is infinite.
        """
        low, high = self.bounds
        if self.role == "combination" or not math.isfinite(low):
            return None
        edge = EDGE * max(abs(low), abs(high)) if math.isfinite(high) else 0.0
        return low + edge, high - edge

    @cached_property
    def low_share(self) -> np.ndarray:
        """For every unit the share of steps and rows in which it is saturated at its lower bound [H]."""
        if self.limits is None:
            return np.zeros(self.units)
        low = self.limits[0]
        # With an edge of nothing, only the bound itself counts.
        return ((self.values < low) | (self.values == self.bounds[0])).mean((0, 1))

    @cached_property
    def high_share(self) -> np.ndarray:
        """For every unit the share of steps and rows in which it is saturated at its upper bound [H]."""
        return np.zeros(self.units) if self.limits is None else (self.values > self.limits[1]).mean((0, 1))

    @cached_property
    def mean(self) -> np.ndarray:
        """The mean of every unit [H], over what is finite."""
        return self._finite.mean((0, 1)).filled(math.nan)

    @cached_property
    def spread(self) -> np.ndarray:
        """The standard deviation of every unit [H], over what is finite."""
        return self._finite.std((0, 1)).filled(math.nan)

    @cached_property
    def _finite(self) -> np.ma.MaskedArray:
        return np.ma.masked_invalid(self.values.astype(np.float64))

    @property
    def is_still(self) -> np.ndarray:
        """Which units stand still over all steps and rows [H]."""
        return self.spread <= STILL * np.maximum(1.0, np.abs(self.mean))

    @property
    def not_finite_from(self) -> int | None:
        """The first step with a number that is not finite; None where there is none."""
        wrong = ~np.isfinite(self.values).all((1, 2))
        return int(np.argmax(wrong)) if wrong.any() else None

    @cached_property
    def time_constant(self) -> np.ndarray:
        """Over how many steps every unit resembles itself [H]: -1 / log r, where r is its correlation from one step to
        the next; 0 where that is not above 0, infinite where the unit stands still.
        """
        centred = (self._finite - self._finite.mean((0, 1))).filled(0.0)
        products = (centred[1:] * centred[:-1]).sum((0, 1))
        # Of each pair the mean square of its two ends: a correlation cannot be above 1.
        squares = (centred[1:] ** 2 + centred[:-1] ** 2).sum((0, 1)) / 2
        r = np.divide(products, squares, out=np.ones(self.units), where=squares > 0.0)
        with np.errstate(divide="ignore"):
            found = np.where(r > 0.0, -1.0 / np.log(np.clip(r, 1e-300, 1.0)), 0.0)
        return np.where(self.is_still, math.inf, np.abs(found))

    def to_dict(self) -> dict[str, Any]:
        """Its statistics as plain data, with a number for every unit."""
        limits = None if self.limits is None else [None if math.isinf(end) else end for end in self.limits]
        per_unit = {
            "mean": self.mean,
            "spread": self.spread,
            "low_share": self.low_share,
            "high_share": self.high_share,
            "time_constant": self.time_constant,
        }
        return {
            "name": self.name,
            "layer": self.layer,
            "role": self.role,
            "is_state": self.is_state,
            "comment": self.comment,
            "units": self.units,
            "limits": limits,
            "low_share": float(self.low_share.mean()),
            "high_share": float(self.high_share.mean()),
            "still_units": np.flatnonzero(self.is_still).tolist(),
            "not_finite_from": self.not_finite_from,
            "per_unit": {name: _plain(values) for name, values in per_unit.items()},
        }


def order_units(node: Recorded, order: str) -> np.ndarray:
    """The units of a node in an order in which a picture shows more.

    Args:
        node: with values [T, B, H].
        order: "none": as they are; "time": slow units first; "similarity": units that move together side by side,
            along the first principal component of their correlations.

    Returns:
        Numbers of units [H].
    """
    if order == "none" or node.units == 1:
        return np.arange(node.units)
    if order == "time":
        # Units that stand still come last: nothing is to be seen there.
        return np.argsort(np.where(node.is_still, 1.0, -node.time_constant), kind="stable")
    rows = node._finite.filled(0.0).reshape(-1, node.units)
    rows = (rows - rows.mean(0)) / np.where(node.is_still, math.inf, np.maximum(rows.std(0), 1e-300))
    _, vectors = np.linalg.eigh(rows.T @ rows / len(rows))
    # The angle between the first two components puts opposite units at opposite ends, and keeps neighbours together.
    first, second = vectors[:, -1], vectors[:, -2]
    first = first * (1.0 if first[np.argmax(np.abs(first))] > 0 else -1.0)
    second = second * (1.0 if second[np.argmax(np.abs(second))] > 0 else -1.0)
    angle = np.where(node.is_still, math.inf, -np.arctan2(first, second))
    return np.argsort(angle, kind="stable")


def _plain(values: np.ndarray) -> list[float | None]:
    return [float(value) if math.isfinite(value) else None for value in values]
