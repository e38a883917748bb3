"""Small series and small networks for the tests of the forecaster."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd

from cellula.tasks.forecast.forecaster import Forecaster
from cellula.tasks.options import TrainingOptions

# A training that takes well under a second.
QUICK = TrainingOptions(epochs=1, batch_size=32, steps_per_epoch=3, device="cpu")
SMALL = {"horizon": 6, "window": 24, "season": 12, "hidden_size": 6, "training": QUICK}


def small(cell: str = "gru", **changes: Any) -> Forecaster:
    """A forecaster that fits in a moment."""
    return Forecaster(cell, **{**SMALL, **changes})


def wave(rows: int = 400, seed: int = 0, noise: float = 0.1) -> np.ndarray:
    """A noisy wave with a season of 12 steps."""
    generator = np.random.default_rng(seed)
    return 10 + 3 * np.sin(np.arange(rows) * 2 * np.pi / 12) + noise * generator.normal(size=rows)


def hourly(rows: int = 400, seed: int = 0, **more: Any) -> pd.DataFrame:
    """An hourly table with the usual names `ds` and `y`."""
    return pd.DataFrame({"ds": pd.date_range("2020-01-01", periods=rows, freq="h"), "y": wave(rows, seed), **more})


def panel(rows: int = 300) -> pd.DataFrame:
    """Two series of very different size, one below the other."""
    parts = [hourly(rows, seed).assign(unique_id=name) for seed, name in enumerate("ab")]
    parts[1]["y"] = 1000 * parts[1]["y"] - 5000
    return pd.concat(parts, ignore_index=True)
