"""How good forecasts are: sums of errors over windows, and the scores that follow from them."""

from __future__ import annotations

import numpy as np

__all__ = ["Coverage", "ErrorSums"]


class ErrorSums:
    """Collects errors of one forecast method, window by window, without keeping them.

    Args:
        horizon: steps, T.
        targets: numbers forecast, Y.

    Example:
        >>> sums = ErrorSums(horizon=2, targets=1)
        >>> truth = np.array([[[1.0], [2.0]]])
        >>> sums.add(truth + 0.5, truth, np.ones_like(truth), naive_error=np.array([[0.25]]))
        >>> sums.scores(0)
        {'mae': 0.5, 'rmse': 0.5, 'mase': 2.0}
    """

    def __init__(self, horizon: int, targets: int) -> None:
        self.absolute = np.zeros((horizon, targets))
        self.squared = np.zeros((horizon, targets))
        self.relative = np.zeros((horizon, targets))
        self.count = np.zeros((horizon, targets))

    def add(self, forecast: np.ndarray, truth: np.ndarray, weight: np.ndarray, naive_error: np.ndarray) -> None:
        """Adds windows.

        Args:
            forecast: in the data's own units, [B, T, Y].
            truth: [B, T, Y].
            weight: 1 where the truth was measured, else 0, [B, T, Y].
            naive_error: what MASE divides by for the series of each window, [B, Y].
        """
        error = np.abs(forecast.astype(np.float64) - truth) * weight
        self.absolute += error.sum(axis=0)
        self.squared += (error**2).sum(axis=0)
        self.relative += (error / naive_error[:, None]).sum(axis=0)
        self.count += weight.sum(axis=0)

    def scores(self, target: int) -> dict[str, float]:
        """Mean absolute error, root of the mean squared error, and mean absolute scaled error of a target."""
        count = max(1.0, float(self.count[:, target].sum()))
        return {
            "mae": float(self.absolute[:, target].sum() / count),
            "rmse": float(np.sqrt(self.squared[:, target].sum() / count)),
            "mase": float(self.relative[:, target].sum() / count),
        }

    def by_step(self, target: int) -> list[float]:
        """The mean absolute error at each step of the horizon."""
        return (self.absolute[:, target] / np.maximum(1.0, self.count[:, target])).tolist()


class Coverage:
    """Collects how often the truth lies within the intervals, and how wide they are.

    Args:
        levels: the intervals, in percent.
        targets: numbers forecast, Y.
    """

    def __init__(self, levels: tuple[int, ...], targets: int) -> None:
        self.levels = levels
        self.inside = np.zeros((len(levels), targets))
        self.width = np.zeros((len(levels), targets))
        self.count = np.zeros(targets)

    def add(self, lower: np.ndarray, upper: np.ndarray, truth: np.ndarray, weight: np.ndarray) -> None:
        """Adds windows: bounds [levels, B, T, Y], truth and weight [B, T, Y]."""
        self.inside += (((lower <= truth) & (truth <= upper)) * weight).sum(axis=(1, 2))
        self.width += ((upper - lower).astype(np.float64) * weight).sum(axis=(1, 2))
        self.count += weight.sum(axis=(0, 1))

    def scores(self, target: int) -> dict[str, float]:
        """`coverage_80` and so on: shares from 0 to 1; `width_80`: mean widths in the data's units."""
        count = max(1.0, float(self.count[target]))
        found = {f"coverage_{level}": float(self.inside[n, target] / count) for n, level in enumerate(self.levels)}
        widths = {f"width_{level}": float(self.width[n, target] / count) for n, level in enumerate(self.levels)}
        return found | widths
