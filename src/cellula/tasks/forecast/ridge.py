"""The ridge forecast: the best linear one, from the training part alone. A baseline, and where the network starts."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import torch

from cellula.models import linear_features
from cellula.tasks.forecast.windows import Windows

__all__ = ["fit_ridge"]

# Penalties to choose from, relative to the number of windows.
PENALTIES = (1e-4, 1e-3, 1e-2, 1e-1, 1.0)
# Neighbouring windows say nearly the same: more than this many change nothing but the time.
MOST_WINDOWS = 40_000
# The share of the training windows, the latest ones, on which the penalty is chosen.
HELD_OUT = 0.2


@dataclass
class Moments:
    """Sums over windows from which ridge solutions follow."""

    products: torch.Tensor
    responses: torch.Tensor

    def add(self, features: torch.Tensor, change: torch.Tensor) -> None:
        """Adds some windows."""
        self.products += features.T @ features
        self.responses += features.T @ change

    def solve(self, penalty: float) -> torch.Tensor:
        """The weights for a penalty; the constant, the last feature, is not penalised."""
        diagonal = torch.full((len(self.products),), penalty, dtype=torch.float64)
        diagonal[-1] = 1e-9
        factor = torch.linalg.cholesky(self.products + torch.diag(diagonal))
        return torch.cholesky_solve(self.responses, factor)


def fit_ridge(training: Windows) -> torch.Tensor:
    """Weights of the linear forecast, relative to the last value of each target.

    The penalty is chosen on the latest fifth of the training windows, a horizon apart from the others; then all of
    them are used. Nothing after the training part is looked at.

    Args:
        training: windows whose horizons lie in the training part.

    Returns:
        Weights, [linear_columns, T * Y], float32.
    """
    windows = training.thinned(MOST_WINDOWS)
    ordered = replace(windows, origins=windows.origins[in_time_order(windows)])
    sizes = ordered.sizes
    count = len(ordered)
    early = max(1, int(count * (1 - HELD_OUT)))
    moments = Moments(
        torch.zeros(sizes.linear_columns, sizes.linear_columns, dtype=torch.float64),
        torch.zeros(sizes.linear_columns, sizes.horizon * sizes.targets, dtype=torch.float64),
    )
    for indices in np.array_split(np.arange(early), max(1, early // 1024)):
        moments.add(*linear_problem(ordered, indices))
    # Horizons of the windows next to the border overlap with training windows: they are used, but not to choose.
    gap = min(count, early + sizes.horizon)
    trials = [moments.solve(penalty * early) for penalty in PENALTIES]
    errors = np.zeros(len(PENALTIES))
    for indices in np.array_split(np.arange(early, count), max(1, (count - early) // 1024)):
        if not len(indices):
            continue
        features, change = linear_problem(ordered, indices)
        judged = torch.from_numpy(indices >= gap)
        errors += [float((features @ trial - change)[judged].abs().sum()) for trial in trials]
        moments.add(features, change)
    return moments.solve(PENALTIES[int(np.argmin(errors))] * count).float()


def in_time_order(windows: Windows) -> np.ndarray:
    """The order in which the last windows of every series come last."""
    series = windows.series(np.arange(len(windows)))
    first = windows.starts[series]
    length = windows.starts[series + 1] - first
    return np.argsort((windows.origins - first) / length, kind="stable")


def linear_problem(windows: Windows, indices: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Features and the change from the last value that they should explain, float64; windows with a hole weigh 0."""
    history, future, truth, weight = windows.batch(indices)
    whole = weight.flatten(1).amin(dim=1, keepdim=True).double()
    features = linear_features(history, future, windows.sizes).double() * whole
    change = (truth - history[:, -1:, : windows.sizes.targets]).flatten(1).double() * whole
    return features, change
