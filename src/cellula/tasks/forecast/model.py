"""What a fitted forecaster consists of beside its description: the network and a few tables of numbers."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import nn

from cellula.models import ForecastNetwork
from cellula.tasks.forecast.windows import Windows
from cellula.tasks.trainer import Loss

__all__ = ["ForecastModel", "calibrate", "forecasts", "pinball_loss"]

# Windows of the validation part that the intervals are calibrated on, at most.
MOST_CALIBRATION = 20_000


class ForecastModel(nn.Module):
    """The network, how far its intervals are moved, and the newest rows of each series.

    Args:
        network: quantile forecasts in scaled units.
        levels: intervals, in percent; the network's quantiles are theirs and the median.
        context: the newest rows of each series, scaled, [S, W, C].

    `offsets`, [levels, T, Y], is by how much each interval grows on both sides, in scaled units; NaN until calibrated.
    """

    offsets: torch.Tensor
    context: torch.Tensor

    def __init__(self, network: ForecastNetwork, levels: tuple[int, ...], context: torch.Tensor) -> None:
        super().__init__()
        self.network = network
        self.levels = levels
        sizes = network.sizes
        self.register_buffer("offsets", torch.full((len(levels), sizes.horizon, sizes.targets), float("nan")))
        self.register_buffer("context", context)

    def forward(self, history: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """Quantiles as the network gives them, [B, T, Y, Q]."""
        return self.network(history, future)

    @torch.no_grad()
    def intervals(self, history: torch.Tensor, future: torch.Tensor) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The median and the calibrated intervals, in scaled units.

        Args:
            history: [B, W, C].
            future: [B, T, known].

        Returns:
            Median [B, T, Y], lower and upper bounds [levels, B, T, Y].
        """
        device = self.offsets.device
        quantiles = self(history.to(device), future.to(device)).float().sort(dim=-1).values
        middle = quantiles.shape[-1] // 2
        median = quantiles[..., middle]
        shift = torch.nan_to_num(self.offsets)[:, None]
        # Quantiles ascend, so the widest level has the outermost pair.
        order = [sorted(self.levels, reverse=True).index(level) for level in self.levels]
        rank = torch.tensor(order, dtype=torch.long, device=device)
        lower = quantiles[..., rank].movedim(-1, 0) - shift
        upper = quantiles[..., quantiles.shape[-1] - 1 - rank].movedim(-1, 0) + shift
        # A calibration may shrink an interval, but never past the forecast.
        lower, upper = torch.minimum(lower, median), torch.maximum(upper, median)
        return median.cpu().numpy(), lower.cpu().numpy(), upper.cpu().numpy()


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


def forecasts(
    model: ForecastModel, windows: Windows
) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray, np.ndarray]]:
    """Forecasts of all windows in blocks: indices, median, lower, upper, truth, weight; in scaled units."""
    for indices in windows.blocks():
        history, future, truth, weight = windows.batch(indices)
        median, lower, upper = model.intervals(history, future)
        yield indices, median, lower, upper, truth.numpy(), weight.numpy()


def calibrate(model: ForecastModel, validation: Windows) -> None:
    """Moves the bounds of every interval so that it covers its share of the validation part.

    Each level, step of the horizon and target gets its own offset: the empirical quantile of how far the truth lay
    outside the interval (negative: inside), with the finite-sample correction.

    Args:
        model: its `offsets` are set.
        validation: windows that were not trained on.

    Reference: Romano, Patterson & Candès 2019, Conformalized Quantile Regression.
    """
    with torch.no_grad():
        model.offsets.zero_()
    outside, weights = [], []
    for _, _, lower, upper, truth, weight in forecasts(model, validation.thinned(MOST_CALIBRATION)):
        outside.append(np.maximum(lower - truth, truth - upper))
        weights.append(weight > 0)
    scores, present = np.concatenate(outside, axis=1), np.concatenate(weights)  # [levels, N, T, Y], [N, T, Y]
    offsets = np.zeros(model.offsets.shape, np.float32)
    for level, step, target in np.ndindex(*offsets.shape):
        kept = np.sort(scores[level, present[:, step, target], step, target])
        rank = int(np.ceil((len(kept) + 1) * model.levels[level] / 100))
        if len(kept):
            offsets[level, step, target] = kept[min(rank, len(kept)) - 1]
    with torch.no_grad():
        model.offsets.copy_(torch.from_numpy(offsets))
