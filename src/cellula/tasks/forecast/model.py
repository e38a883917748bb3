"""What a fitted forecaster consists of beside its description: the network and a few tables of numbers."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import nn

from cellula.models import ForecastNetwork
from cellula.tasks.forecast.windows import Windows
from cellula.tasks.trainer import Loss

__all__ = ["Block", "ForecastModel", "calibrate", "forecasts", "move_bounds", "pinball_loss"]

# Windows of the validation part that the intervals are calibrated on, at most.
MOST_CALIBRATION = 20_000


class ForecastModel(nn.Module):
    """The network, how far its intervals are moved, and the newest rows of each series.

    Args:
        network: quantile forecasts in scaled units.
        levels: intervals, in percent; the network's quantiles are theirs and the median.
        context: the newest rows of each series, scaled, [S, W, C].

    Buffers, in scaled units; NaN until calibrated: `offsets`, [levels, T, Y], by how much each interval grows on both
    sides at the end of the calibration; `rates`, [levels, T, Y], how far one truth can move it later; `newest_offsets`,
    [S, levels, T, Y], by how much it grows after the newest rows of each series.
    """

    offsets: torch.Tensor
    rates: torch.Tensor
    newest_offsets: torch.Tensor
    context: torch.Tensor

    def __init__(self, network: ForecastNetwork, levels: tuple[int, ...], context: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.levels = levels
        shape = (len(levels), network.sizes.horizon, network.sizes.targets)
        self.register_buffer("offsets", torch.full(shape, float("nan")))
        self.register_buffer("rates", torch.full(shape, float("nan")))
        self.register_buffer("newest_offsets", torch.full((len(context), *shape), float("nan")))
        self.register_buffer("context", context)

    def forward(self, history: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """Quantiles as the network gives them, [B, T, Y, Q]."""
        return self.network(history, future)

    @torch.no_grad()
    def intervals(self, history: torch.Tensor, future: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The median and the intervals as the network gives them, in scaled units.

        Args:
            history: [B, W, C].
            future: [B, T, known].

        Returns:
            Median [B, T, Y], lower and upper bounds [levels, B, T, Y].
        """
        device = self.offsets.device
        quantiles = self(history.to(device), future.to(device)).float().sort(dim=-1).values
        middle = quantiles.shape[-1] // 2
        # Quantiles ascend, so the widest level has the outermost pair.
        order = [sorted(self.levels, reverse=True).index(level) for level in self.levels]
        rank = torch.tensor(order, dtype=torch.long, device=device)
        lower = quantiles[..., rank].movedim(-1, 0)
        upper = quantiles[..., quantiles.shape[-1] - 1 - rank].movedim(-1, 0)
        return quantiles[..., middle].cpu().numpy(), lower.cpu().numpy(), upper.cpu().numpy()


@dataclass(frozen=True)
class Block:
    """Forecasts of some windows beside what came, in scaled units.

    Args:
        indices: which windows, [B].
        median: [B, T, Y].
        lower: lower bounds, [levels, B, T, Y].
        upper: upper bounds, [levels, B, T, Y].
        truth: [B, T, Y].
        weight: 1 where the truth was measured, else 0, [B, T, Y].
    """

    indices: np.ndarray
    median: np.ndarray
    lower: np.ndarray
    upper: np.ndarray
    truth: np.ndarray
    weight: np.ndarray

    @property
    def outside(self) -> np.ndarray:
        """How far the truth lies outside each interval, negative inside, [levels, B, T, Y]."""
        return np.maximum(self.lower - self.truth, self.truth - self.upper)

    def moved(self, offsets: np.ndarray) -> Block:
        """The same with bounds moved outwards, by [levels, B, T, Y]."""
        lower, upper = move_bounds(self.median, self.lower, self.upper, offsets)
        return replace(self, lower=lower, upper=upper)

    def in_units(self, mean: np.ndarray, spread: np.ndarray) -> Block:
        """The same in the data's own units; mean and spread of each window, [B, 1, Y]."""
        names = ("median", "lower", "upper", "truth")
        return replace(self, **{name: getattr(self, name) * spread + mean for name in names})


def move_bounds(
    median: np.ndarray, lower: np.ndarray, upper: np.ndarray, offsets: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Bounds moved outwards (inwards where negative), but never past the median; offsets that are NaN move nothing."""
    shift = np.nan_to_num(offsets)
    return np.minimum(lower - shift, median), np.maximum(upper + shift, median)


def quantiles_of(levels: tuple[int, ...]) -> tuple[float, ...]:
    """The probabilities of the bounds of all intervals and of the median, ascending."""
    below = [round((100 - level) / 200, 6) for level in sorted(levels, reverse=True)]
    return (*below, 0.5, *(round(1 - share, 6) for share in reversed(below)))


def pinball_loss(quantiles: tuple[float, ...]) -> Loss:
    """The loss whose minimum is the quantiles: under- and overestimates weighed by their probability."""

    def loss(model: nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        history, future, truth, weight = batch
        forecast = model(history, future).float()
        share = torch.tensor(quantiles, device=forecast.device)
        error = truth[..., None] - forecast
        penalty = torch.maximum(share * error, (share - 1) * error).mean(dim=-1)
        return (penalty * weight).sum() / weight.sum().clamp(min=1.0)

    return loss


def forecasts(model: ForecastModel, windows: Windows) -> Iterator[Block]:
    """Forecasts of all windows in blocks, their intervals as the network gives them."""
    for indices in windows.blocks():
        history, future, truth, weight = windows.batch(indices)
        yield Block(indices, *model.intervals(history, future), truth.numpy(), weight.numpy())


def calibrate(model: ForecastModel, validation: Windows, rate: float = 0.0) -> None:
    """Moves the bounds of every interval so that it covers its share of the validation part.

    Each level, step of the horizon and target gets its own offset: the empirical quantile of how far the truth lay
    outside the interval (negative: inside), with the finite-sample correction.

    Args:
        model: its `offsets` and `rates` are set.
        validation: windows that were not trained on.
        rate: how far a truth can move the bounds later, as a share of the mean half width of the calibrated interval.

    Reference: Romano, Patterson & Candès 2019, Conformalized Quantile Regression.
    """
    outside, weights, half_widths = [], [], []
    for block in forecasts(model, validation.thinned(MOST_CALIBRATION)):
        outside.append(block.outside)
        weights.append(block.weight > 0)
        half_widths.append((block.upper - block.lower) / 2)
    scores, present = np.concatenate(outside, axis=1), np.concatenate(weights)  # [levels, N, T, Y], [N, T, Y]
    offsets = np.zeros(model.offsets.shape, np.float32)
    for level, step, target in np.ndindex(*offsets.shape):
        kept = np.sort(scores[level, present[:, step, target], step, target])
        rank = int(np.ceil((len(kept) + 1) * model.levels[level] / 100))
        if len(kept):
            offsets[level, step, target] = kept[min(rank, len(kept)) - 1]
    widths = np.maximum(np.concatenate(half_widths, axis=1).mean(axis=1) + offsets, 0)
    with torch.no_grad():
        model.offsets.copy_(torch.from_numpy(offsets))
        model.rates.copy_(torch.from_numpy(rate * widths))
