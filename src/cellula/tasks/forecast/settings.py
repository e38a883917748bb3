"""What a forecaster is asked to do, checked."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from cellula.errors import UsageError
from cellula.tasks.forecast.checks import IRREGULAR, MISSING, check_choice
from cellula.tasks.options import TrainingOptions

__all__ = ["FORECAST_TRAINING", "ForecastSettings"]

# Measured on hourly weather and half-hourly demand: neighbouring windows say nearly the same, so a few passes and a
# strong decay are enough.
FORECAST_TRAINING = TrainingOptions(
    epochs=6, batch_size=256, learning_rate=2e-3, weight_decay=2.0, patience=3, steps_per_epoch=200
)


@dataclass(frozen=True)
class ForecastSettings:
    """The arguments of `Forecaster`, where they are explained, in a form that can be relied on."""

    horizon: int | None = None
    window: int | None = None
    target: str | Sequence[str] | None = None
    time: str | None = None
    series: str | None = None
    past: str | Sequence[str] = ()
    known: str | Sequence[str] = ()
    season: int | None = None
    timezone: str | None = None
    level: tuple[int, ...] = (80, 95)
    adaptive: bool = True
    split: tuple[float, float, float] = (0.7, 0.1, 0.2)
    missing: str = "refuse"
    irregular: str = "refuse"
    hidden_size: int = 32
    num_layers: int = 1
    dropout: float = 0.3
    patch: int = 6
    settings: Mapping[str, float] | None = None
    training: TrainingOptions = field(default=FORECAST_TRAINING)

    def __post_init__(self) -> None:
        for name in ("horizon", "window", "season"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 1):
                raise UsageError(f"{name}={value!r}: expected a whole number of 1 or more, or None")
        check_choice("missing", self.missing, MISSING)
        check_choice("irregular", self.irregular, IRREGULAR)
        if not isinstance(self.adaptive, bool):
            raise UsageError(f"adaptive={self.adaptive!r}: expected True or False")
        object.__setattr__(self, "level", checked_levels(self.level))
        object.__setattr__(self, "split", checked_split(self.split))
        if not isinstance(self.training, TrainingOptions):
            raise UsageError(f"training={self.training!r}: expected TrainingOptions(...)")


def checked_levels(level: Any) -> tuple[int, ...]:
    """Levels as a tuple; UsageError where one is no whole percentage."""
    given = tuple(level) if isinstance(level, (list, tuple, range)) else (level,)
    for entry in given:
        if (
            isinstance(entry, bool)
            or not isinstance(entry, (int, float))
            or entry != int(entry)
            or not 1 <= entry <= 99
        ):
            raise UsageError(f"level={level!r}: expected whole percentages from 1 to 99, such as [80, 95]")
    if len(set(given)) < len(given):
        raise UsageError(f"level={level!r}: a level is given twice")
    return tuple(int(entry) for entry in given)


def checked_split(split: Any) -> tuple[float, float, float]:
    """Three shares; UsageError where they are not."""
    try:
        shares = tuple(float(share) for share in split)
    except (TypeError, ValueError):
        shares = ()
    if len(shares) != 3 or not math.isclose(sum(shares), 1.0, abs_tol=1e-6) or min(shares) < 0 or 0 in shares[:2]:
        raise UsageError(
            f"split={split!r}: expected the shares of training, validation and test, such as (0.7, 0.1, 0.2): "
            "they add up to 1, and only the test share may be 0"
        )
    return shares[0], shares[1], shares[2]
