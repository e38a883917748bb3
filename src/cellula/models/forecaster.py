"""An encoder-decoder over any cell, which learns what a linear forecast leaves over."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import nn

from cellula.errors import UsageError
from cellula.graph.graph import Graph
from cellula.nn import Recurrent

__all__ = ["ForecastNetwork", "ForecastSizes", "linear_features"]


@dataclass(frozen=True)
class ForecastSizes:
    """What a forecasting network reads and writes, and how large it is.

    A row of the history holds the targets, the covariates known up to now and the covariates known ahead (first the
    user's, then the calendar's). A row of the future holds the covariates known ahead alone.

    Args:
        window: steps of history, W.
        horizon: steps to forecast, T.
        targets: series of numbers to forecast, Y.
        past: covariates that are known up to now only.
        known: covariates known ahead that the user gives.
        calendar: covariates known ahead that come from the time column.
        carried: distances, in steps, from which values of the history are carried over to the horizon (a season
            before, a week before); each at most `window`.
        quantiles: probabilities, ascending, Q.
        hidden_size: units of encoder and decoder.
        num_layers: layers of encoder and decoder.
        dropout: share of the units set to zero in training: of what the encoder reads, between layers, in the head.
        patch: rows of the history that the encoder reads in one step. Where the window is no multiple of it, the
            encoder leaves out the oldest rows.
    """

    window: int
    horizon: int
    targets: int = 1
    past: int = 0
    known: int = 0
    calendar: int = 0
    carried: tuple[int, ...] = ()
    quantiles: tuple[float, ...] = (0.1, 0.5, 0.9)
    hidden_size: int = 32
    num_layers: int = 1
    dropout: float = 0.3
    patch: int = 1

    def __post_init__(self) -> None:
        for name, least in SMALLEST.items():
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, int) or value < least:
                raise UsageError(f"{name}={value!r}: expected a whole number of {least} or more")
        for lag in self.carried:
            if not 1 <= lag <= self.window:
                raise UsageError(f"carried={self.carried}: {lag} is not within the window of {self.window} steps")
        if not 0 <= self.dropout < 1:
            raise UsageError(f"dropout={self.dropout!r}: expected a number from 0 to below 1")
        rising = all(low < high for low, high in zip(self.quantiles, self.quantiles[1:], strict=False))
        if not self.quantiles or not rising or not 0 < self.quantiles[0] <= self.quantiles[-1] < 1:
            raise UsageError(f"quantiles={self.quantiles}: expected probabilities between 0 and 1, ascending")

    @property
    def history_columns(self) -> int:
        """Numbers in a row of the history."""
        return self.targets + self.past + self.future_columns

    @property
    def future_columns(self) -> int:
        """Numbers in a row of the future."""
        return self.known + self.calendar

    @property
    def linear_columns(self) -> int:
        """Numbers in `linear_features`."""
        given = self.targets + self.past + self.known
        return self.window * given + self.horizon * self.known + self.calendar + 1


# The smallest value of each size.
SMALLEST = {
    "window": 1, "horizon": 1, "targets": 1, "past": 0, "known": 0, "calendar": 0,
    "hidden_size": 1, "num_layers": 1, "patch": 1,
}  # fmt: skip


def linear_features(history: torch.Tensor, future: torch.Tensor, sizes: ForecastSizes) -> torch.Tensor:
    """What the linear forecast reads of a window: the whole past, and what is known of the future.

    The targets are taken relative to their last value, so that weights of zero are the persistence forecast.

    Args:
        history: rows up to now, [B, W, history_columns].
        future: rows of the horizon, [B, T, future_columns].
        sizes: the meaning of the columns.

    Returns:
        Features, [B, linear_columns]; the last one is 1.
    """
    batch, targets = history.shape[0], sizes.targets
    values = history[:, :, :targets]
    parts = [
        (values - values[:, -1:]).reshape(batch, -1),
        history[:, :, targets : targets + sizes.past + sizes.known].reshape(batch, -1),
        future[:, :, : sizes.known].reshape(batch, -1),
        # The calendar of the first step tells that of all others.
        future[:, 0, sizes.known :],
        history.new_ones(batch, 1),
    ]
    return torch.cat(parts, dim=1)


class ForecastNetwork(nn.Module):
    """Quantile forecasts: a linear forecast plus what an encoder-decoder learns on top of it.

    The encoder reads the history, `patch` rows a step. The decoder starts from its state and reads, for each step of
    the horizon, what is known ahead, the values carried over from a season before, the linear forecast, and the
    encoder's last output, so that a cell without memory works too. Inputs of both are mapped to `hidden_size` numbers
    first: encoder and decoder then have states of the same sizes, whatever the formula keeps in them.

    The linear forecast is a buffer, `linear`, to be set to a ridge solution (or left at zero: persistence). It does
    not train: the recurrent part learns the correction.

    Args:
        sizes: columns and sizes.
        cell: a cell for `cellula.nn.Recurrent`: name, file, formula text or graph.
        settings: the cell's own settings.

    Example:
        >>> sizes = ForecastSizes(window=8, horizon=4, carried=(4,))
        >>> network = ForecastNetwork(sizes, "gru")
        >>> network(torch.zeros(2, 8, 1), torch.zeros(2, 4, 0)).shape
        torch.Size([2, 4, 1, 3])

    Reference: Sutskever, Vinyals & Le 2014 (encoder-decoder); Wen et al. 2017 (quantiles over the whole horizon);
    Lai et al. 2018 (a linear part beside the recurrent one); Lin et al. 2023 (several rows a step).
    """

    linear: torch.Tensor

    def __init__(
        self, sizes: ForecastSizes, cell: str | Path | Graph = "lstm", settings: Mapping[str, float] | None = None
    ) -> None:
        super().__init__()
        self.sizes = sizes
        width, targets, quantiles = sizes.hidden_size, sizes.targets, len(sizes.quantiles)
        # Rows that the encoder reads: whole patches, the newest ones.
        self.patch = min(sizes.patch, sizes.window)
        self.read = sizes.window // self.patch * self.patch
        between = sizes.dropout if sizes.num_layers > 1 else 0.0
        own: dict[str, Any] = dict(settings or {})
        self.history_input = nn.Linear(sizes.history_columns * self.patch, width)
        self.encoder = Recurrent(cell, width, width, num_layers=sizes.num_layers, dropout=between, **own)
        decoder_columns = sizes.future_columns + targets * (len(sizes.carried) + 1)
        self.future_input = nn.Linear(decoder_columns, width)
        self.context_input = nn.Linear(self.encoder.output_size, width)
        self.decoder = Recurrent(cell, width, width, num_layers=sizes.num_layers, dropout=between, **own)
        self.dropout = nn.Dropout(sizes.dropout)
        self.head = nn.Sequential(
            nn.Linear(self.decoder.output_size + width, width),
            nn.SiLU(),
            nn.Dropout(sizes.dropout),
            nn.Linear(width, targets * quantiles),
        )
        self.register_buffer("linear", torch.zeros(sizes.linear_columns, sizes.horizon * targets))
        self.start_at_the_linear_forecast()

    def start_at_the_linear_forecast(self) -> None:
        """Sets the correction to zero, but for a spread of the quantiles around the linear forecast."""
        last = self.head[-1]
        assert isinstance(last, nn.Linear)
        nn.init.zeros_(last.weight)
        with torch.no_grad():
            last.bias.copy_((torch.tensor(self.sizes.quantiles) - 0.5).repeat(self.sizes.targets))

    @property
    def cell_text(self) -> str:
        """The whole text of the cell's formula."""
        return self.encoder.cell_text

    def linear_forecast(self, history: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """The linear part alone, [B, T, Y]."""
        sizes = self.sizes
        change = linear_features(history, future, sizes) @ self.linear  # [B, T*Y]
        return history[:, -1:, : sizes.targets] + change.view(-1, sizes.horizon, sizes.targets)

    def carried_values(self, history: torch.Tensor) -> torch.Tensor:
        """For each step of the horizon the targets a season before, [B, T, Y * carried]; whole seasons repeat."""
        sizes = self.sizes
        steps = torch.arange(sizes.horizon, device=history.device)
        parts = [history[:, sizes.window - lag + steps % lag, : sizes.targets] for lag in sizes.carried]
        return torch.cat(parts, dim=2) if parts else history.new_zeros(len(history), sizes.horizon, 0)

    def forward(self, history: torch.Tensor, future: torch.Tensor) -> torch.Tensor:
        """Quantiles of the targets.

        Args:
            history: scaled rows up to now, oldest first, [B, W, history_columns].
            future: scaled rows of the horizon, [B, T, future_columns].

        Returns:
            Quantiles, [B, T, Y, Q], in scaled units. They are not sorted.
        """
        sizes, batch = self.sizes, history.shape[0]
        linear = self.linear_forecast(history, future)
        patches = history[:, sizes.window - self.read :].reshape(batch, self.read // self.patch, -1)
        encoded, state = self.encoder(self.dropout(self.history_input(patches)).transpose(0, 1))  # [W/patch, B, H]
        ahead = torch.cat([future, self.carried_values(history), linear], dim=2)
        inputs = (self.future_input(ahead) + self.context_input(encoded[-1])[:, None]).transpose(0, 1)
        decoded, _ = self.decoder(inputs, state)  # [T, B, H]
        correction = self.head(torch.cat([self.dropout(decoded), inputs], dim=2))  # [T, B, Y*Q]
        correction = correction.transpose(0, 1).reshape(batch, sizes.horizon, sizes.targets, -1)
        return linear[..., None] + correction
