"""A forecaster under the lens: what goes into its encoder and its decoder, and what a person knows that by."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from cellula.errors import UsageError
from cellula.inspection.subject import Inspected, Shown
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.future import Newest, future_rows
from cellula.tasks.forecast.model import ForecastModel

__all__ = ["PARTS", "inspect_forecaster"]

PARTS = ("encoder", "decoder")


def inspect_forecaster(
    model: ForecastModel, description: Description, newest: Newest, known: Any, within: str
) -> Inspected:
    """The network with the newest window of each series.

    Args:
        model: fitted.
        description: of the model.
        newest: where the forecast starts.
        known: the covariates known ahead; the encoder does not look at them.
        within: "encoder" or "decoder".

    Returns:
        What a lens takes. Beside the units of the encoder stand the targets that it reads, beside those of the decoder
        the forecast, both in their own units.

    Raises:
        UsageError: another part, or `known` is needed and not given.
    """
    if within not in PARTS:
        raise UsageError(f"within={within!r}: a forecaster has an encoder and a decoder; write one of these")
    sizes, network = description.sizes, model.network
    history = torch.from_numpy(newest.history).to(model.context.device)  # [S, W, C]
    if known is None and description.columns.known and within == "encoder":
        future = history.new_zeros(len(history), sizes.horizon, sizes.future_columns)
    else:
        future = future_rows(known, description, newest).to(history.device)
    mean = description.scale.mean[newest.numbers, None, : sizes.targets]
    spread = description.scale.spread[newest.numbers, None, : sizes.targets]
    if within == "encoder":
        values = history[:, sizes.window - network.read :, : sizes.targets].cpu().numpy()
        title, rows = "input", network.patch
    else:
        with torch.no_grad():
            quantiles = model(history, future).float().sort(dim=-1).values  # [S, T, Y, Q]
        values, title, rows = quantiles[..., quantiles.shape[-1] // 2].cpu().numpy(), "forecast", 1
    shown = Shown(
        values=(values * spread + mean).swapaxes(0, 1).astype(np.float64),
        names=tuple(description.columns.targets),
        rows_per_step=rows,
        title=title,
        step=f"{rows} rows of {description.clock.label}" if rows > 1 else description.clock.label,
    )
    names = description.series if description.columns.series is not None else ()
    return Inspected(
        module=network,
        arguments=(history, future),
        within=within,
        shown=shown,
        row_names=tuple(str(names[number]) for number in newest.numbers) if names else (),
    )
