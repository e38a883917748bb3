"""What a fitted forecaster needs to be built again, as plain values: this is what its file holds beside the weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from cellula.errors import CellulaError
from cellula.models import ForecastSizes
from cellula.tasks.forecast.clock import Clock
from cellula.tasks.forecast.table import Columns
from cellula.tasks.forecast.windows import Scale, Split

__all__ = ["Description", "read_description"]

VERSION = 2


@dataclass(frozen=True)
class Description:
    """All of a fitted forecaster but its weights.

    Args:
        cell: the whole text of the cell's formula.
        settings: the cell's own settings.
        sizes: columns and sizes of the network.
        levels: intervals, in percent.
        season: steps of a season.
        columns: which column is what.
        clock: the grid of the rows.
        series: the names of the series, S.
        scale: mean and spread of the training part.
        split: when the parts begin and end, as positions.
        ends: the position of the last row of each series, S.
        form: the kind of dataframe that the data was ("pandas", "polars", ...); empty for an array.
    """

    cell: str
    settings: Mapping[str, float]
    sizes: ForecastSizes
    levels: tuple[int, ...]
    season: int
    columns: Columns
    clock: Clock
    series: tuple[str | int, ...]
    scale: Scale
    split: Split
    ends: tuple[int, ...]
    form: str

    def to_plain(self) -> dict[str, Any]:
        """Values that JSON can hold."""
        return {"task": "forecast", "version": VERSION, **asdict(self)}


def read_description(found: Mapping[str, Any]) -> Description:
    """Builds a description from the values of a file, checking all of them: the file may be anybody's.

    Raises:
        ValueError: where a value is missing or does not fit; the message says which.
    """
    if found.get("task") != "forecast":
        raise ValueError(f"it is not a forecaster's (task {found.get('task')!r})")
    if found.get("version") != VERSION:
        raise ValueError(f"its version is {found.get('version')!r}, this Cellula reads {VERSION}: fit it again")
    try:
        description = Description(
            cell=text(found["cell"], "cell"),
            settings={text(k, "settings"): number(v, "settings") for k, v in found["settings"].items()},
            sizes=read_sizes(found["sizes"]),
            levels=tuple(whole(level, "levels") for level in found["levels"]),
            season=whole(found["season"], "season"),
            columns=read_columns(found["columns"]),
            clock=read_clock(found["clock"]),
            series=tuple(name if isinstance(name, int) else text(name, "series") for name in found["series"]),
            scale=Scale(**{name: table(found["scale"][name], name) for name in ("mean", "spread", "naive_error")}),
            split=Split(**{name: whole(value, name) for name, value in found["split"].items()}),
            ends=tuple(whole(end, "ends") for end in found["ends"]),
            form=text(found["form"], "form"),
        )
    except (KeyError, TypeError, AttributeError, CellulaError) as error:
        raise ValueError(f"a value is missing or does not fit: {error}") from error
    refuse_contradictions(description)
    return description


def refuse_contradictions(description: Description) -> None:
    """ValueError where two parts of a description cannot both be true."""
    columns, sizes, scale = description.columns, description.sizes, description.scale
    series, numbers, targets = len(description.series), len(columns.numbers), len(columns.targets)
    counts = (sizes.targets, sizes.past, sizes.known)
    checks = {
        "the columns and the sizes": counts == (targets, len(columns.past), len(columns.known)),
        "the scale": scale.mean.shape == scale.spread.shape == (series, numbers) and bool((scale.spread > 0).all()),
        "the naive error": scale.naive_error.shape == (series, targets) and bool((scale.naive_error > 0).all()),
        "the ends": len(description.ends) == series > 0,
        "the season": description.season >= 1,
        "the levels": len(sizes.quantiles) == 2 * len(description.levels) + 1,
    }
    for name, fits in checks.items():
        if not fits:
            raise ValueError(f"{name} and the rest contradict each other")


def read_sizes(found: Mapping[str, Any]) -> ForecastSizes:
    """Sizes of the network; they check themselves."""
    lists = {"carried": tuple(found["carried"]), "quantiles": tuple(found["quantiles"])}
    return ForecastSizes(**{**found, **lists})


def read_columns(found: Mapping[str, Any]) -> Columns:
    """Which column is what."""
    targets, past, known = (tuple(text(e, part) for e in found[part]) for part in ("targets", "past", "known"))
    time, series = (None if found[part] is None else text(found[part], part) for part in ("time", "series"))
    return Columns(time, series, targets, past, known)


def read_clock(found: Mapping[str, Any]) -> Clock:
    """The grid of the rows."""
    clock = Clock(**{**found, "cycles": tuple(text(cycle, "cycles") for cycle in found["cycles"])})
    if clock.kind not in ("index", "time", "wall", "months") or whole(clock.step, "step") < 1:
        raise ValueError(f"the clock is {clock.kind!r} with step {clock.step!r}")
    whole(clock.anchor, "anchor")
    # A zone that this system does not know is found out here and not in the middle of a forecast.
    clock.local(np.zeros(1, np.int64))
    return clock


def text(value: object, name: str) -> str:
    """A text, or TypeError."""
    if not isinstance(value, str):
        raise TypeError(f"{name} is {value!r}, expected text")
    return value


def whole(value: object, name: str) -> int:
    """A whole number, or TypeError."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is {value!r}, expected a whole number")
    return value


def number(value: object, name: str) -> float:
    """A number, or TypeError."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is {value!r}, expected a number")
    return value


def table(value: object, name: str) -> np.ndarray:
    """A table of finite numbers, or TypeError."""
    found = np.array(value, dtype=np.float64)
    if found.ndim != 2 or not np.isfinite(found).all():
        raise TypeError(f"{name} is no table of finite numbers")
    return found
