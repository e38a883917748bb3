"""Rows in order, on a grid, without holes: what is wrong is refused with its row, or mended as asked and said."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from cellula.errors import DataError, UsageError
from cellula.tasks.forecast.clock import Clock, find_clock
from cellula.tasks.forecast.table import Panel

__all__ = ["IRREGULAR", "MISSING", "DataWarning", "Grid", "fill_gaps", "put_on_grid", "say"]

MISSING = ("refuse", "forward", "interpolate")
IRREGULAR = ("refuse", "regularize")


class DataWarning(UserWarning):
    """Data was mended as asked: what, and how much."""


@dataclass(frozen=True)
class Grid:
    """A panel whose rows lie on a grid, one step apart.

    Args:
        panel: the rows; values may be missing until `fill_gaps`.
        clock: the grid.
        positions: where each row lies, [R].
        filled: whether each value was missing and has been put in, [R, C].
        notes: what was mended, in words.
        looks_ahead: whether values were put in with the help of later ones.
    """

    panel: Panel
    clock: Clock
    positions: np.ndarray
    filled: np.ndarray
    notes: tuple[str, ...] = ()
    looks_ahead: bool = False


def say(notes: tuple[str, ...]) -> None:
    """Warns of what was mended: data is never changed silently."""
    for note in notes:
        warnings.warn(note, DataWarning, stacklevel=4)


def put_on_grid(panel: Panel, irregular: str, *, clock: Clock | None = None, calendar_zone: str | None = None) -> Grid:
    """Checks that the stamps ascend by equal steps, or makes it so.

    Args:
        panel: rows as read.
        irregular: "refuse" or "regularize": sort, keep the last of equal stamps, and take at each point of the grid
            the last row of the step before it (a value never moves to an earlier time); holes stay missing.
        clock: the grid that a fitted model expects; None finds it.
        calendar_zone: the time zone of the calendar features, for a new clock.

    Raises:
        DataError: where a stamp is out of order, doubled or off the grid and `irregular` is "refuse", or the step is
            not that of `clock`.
    """
    notes: tuple[str, ...] = ()
    if irregular == "regularize":
        panel, notes = sort_rows(panel)
    refuse_disorder(panel)
    found = find_clock([panel.stamps[part] for _, part in panel.parts()], panel.origin.zone, index=panel.origin.index)
    if clock is None:
        clock = replace(found, calendar_zone=calendar_zone)
    elif panel.origin.index != (clock.kind == "index") or (panel.origin.zone is None) != (clock.zone is None):
        raise DataError(
            f"the time column is of another kind than the model was fitted on: {describe(found)}, not {describe(clock)}"
        )
    else:
        # Stamps in another zone are the same moments; days are counted by the clock that the model knows.
        panel = replace(panel, origin=replace(panel.origin, zone=clock.zone))
    if irregular == "regularize":
        panel, more = regularize(panel, clock)
        notes += more
    positions = clock.positions(panel.stamps)
    refuse_holes(panel, clock, positions)
    return Grid(panel, clock, positions, np.zeros(panel.values.shape, bool), notes)


def describe(clock: Clock) -> str:
    """The kind of a time column in words."""
    if clock.kind == "index":
        return "whole numbers"
    return f"times of zone {clock.zone}" if clock.zone else "times without a zone"


def sort_rows(panel: Panel) -> tuple[Panel, tuple[str, ...]]:
    """Rows by time within each series; of rows with equal stamps the last one given."""
    notes, order, lengths = [], [], []
    for name, part in panel.parts():
        stamps = panel.stamps[part]
        rows = np.argsort(stamps, kind="stable")
        last = np.append(np.diff(stamps[rows]) > 0, True)
        moved = int((rows != np.arange(len(rows))).sum())
        where = f" of series {name!r}" if panel.columns.series else ""
        if moved:
            notes.append(f"irregular='regularize': {moved} rows{where} were out of order and have been sorted")
        if not last.all():
            doubles = counted(int((~last).sum()), "row", "rows")
            notes.append(
                f"irregular='regularize': {doubles}{where} had the stamp of another row; the last one given was kept"
            )
        order.append(part.start + rows[last])
        lengths.append(int(last.sum()))
    return select(panel, np.concatenate(order), lengths), tuple(notes)


def select(panel: Panel, order: np.ndarray, lengths: list[int]) -> Panel:
    """Some rows of a panel, in this order; `lengths` are the new lengths of the series."""
    return replace(
        panel,
        starts=np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64),
        stamps=panel.stamps[order],
        values=panel.values[order],
        rows=panel.rows[order],
    )


def counted(number: int, one: str, more: str) -> str:
    """A number and what is counted: "1 value", "3 values"."""
    return f"{number} {one if number == 1 else more}"


def refuse_disorder(panel: Panel) -> None:
    """DataError at the first stamp that does not come after the one before."""
    clock = Clock("index" if panel.origin.index else "time", 1, zone=panel.origin.zone)
    for name, part in panel.parts():
        steps = np.diff(panel.stamps[part])
        bad = np.flatnonzero(steps <= 0)
        if not len(bad):
            continue
        row = part.start + int(bad[0]) + 1
        what = "has the same stamp as" if steps[bad[0]] == 0 else "comes before"
        several = f" ({len(bad)} such rows)" if len(bad) > 1 else ""
        hint = "sort the data by time and drop doubles, or say irregular='regularize'"
        if not panel.origin.index and panel.origin.zone is None:
            hint += "; for a local clock with summer time, give the column a time zone"
        if panel.columns.series is None:
            hint += "; for several series in one table, give series="
        raise DataError(
            f"{panel.place(row, name)}: column {panel.columns.time!r} is {clock.words(int(panel.stamps[row]))}, which "
            f"{what} the row above it ({clock.words(int(panel.stamps[row - 1]))}){several}: {hint}"
        )


def refuse_holes(panel: Panel, clock: Clock, positions: np.ndarray) -> None:
    """DataError at the first row that is not one step after the row before."""
    for name, part in panel.parts():
        steps = np.diff(positions[part])
        bad = np.flatnonzero(steps != clock.step)
        if not len(bad):
            continue
        row = part.start + int(bad[0]) + 1
        stamps = [clock.words(int(positions[row - 1])), clock.words(int(positions[row]))]
        raise DataError(
            f"{panel.place(row, name)}: column {panel.columns.time!r} goes from {stamps[0]} to {stamps[1]}, "
            f"but the step is {clock.label} ({len(bad)} of {len(steps)} steps differ): "
            "mend the data, or say irregular='regularize' (and missing= for the holes)"
        )


def regularize(panel: Panel, clock: Clock) -> tuple[Panel, tuple[str, ...]]:
    """At each point of the grid the last row of the step that ends there; rows of NaN where there is none."""
    pieces, notes = [], []
    for name, part in panel.parts():
        positions = clock.positions(panel.stamps[part])
        # The grid runs through the commonest phase, so that the fewest rows move.
        phases, counts = np.unique(positions % clock.step, return_counts=True)
        phase = int(phases[np.argmax(counts)])
        # Up, never down: a value that became known at 5:07 is not used at 5:00.
        cells = -((phase - positions) // clock.step)
        grid = np.arange(cells[0], cells[-1] + 1)
        last = np.searchsorted(cells, grid, side="right") - 1
        here = cells[last] == grid
        values = np.where(here[:, None], panel.values[part][last], np.nan)
        rows = np.where(here, panel.rows[part][last], -1)
        pieces.append((clock.stamps(grid * clock.step + phase), values, rows))
        where = f" of series {name!r}" if panel.columns.series else ""
        moved = int((positions % clock.step != phase).sum())
        if moved:
            notes.append(f"irregular='regularize': {moved} rows{where} were moved to the next full {clock.label}")
        dropped = len(positions) - int(here.sum())
        if dropped:
            notes.append(f"irregular='regularize': {dropped} rows{where} were followed by another in the same step")
        if not here.all():
            notes.append(f"irregular='regularize': {int((~here).sum())} missing rows{where} were put in")
    stamps, values, rows = (np.concatenate(column) for column in zip(*pieces, strict=True))
    starts = np.concatenate([[0], np.cumsum([len(piece[0]) for piece in pieces])])
    return replace(panel, starts=starts, stamps=stamps, values=values, rows=rows), tuple(notes)


def fill_gaps(grid: Grid, missing: str, borders: tuple[int, ...] = ()) -> Grid:
    """Refuses missing values, or fills them.

    Args:
        grid: rows on a grid.
        missing: "refuse"; "forward": the last value before (known at that time); "interpolate": a straight line
            between the values on both sides, within the same part of the split. A window whose newest row was
            interpolated would know a later value: such windows are left out of training and evaluation.
        borders: positions at which a new part of the split begins: no line is drawn across.

    Raises:
        DataError: at the first missing value with "refuse", or where a series has no value at all.
    """
    gaps = np.isnan(grid.panel.values)
    if not gaps.any():
        return grid
    if missing == "refuse":
        raise refusal(grid, gaps)
    grid, gaps, notes = trim_start(grid, gaps)
    values = grid.panel.values.copy()
    fill = FILLERS[missing]
    for _, part in grid.panel.parts():
        cuts = np.searchsorted(grid.positions[part], borders).tolist() if borders else []
        for column in np.flatnonzero(gaps[part].any(axis=0)):
            values[part, column] = fill(values[part, column], gaps[part, column], cuts)
    for number, column in enumerate(grid.panel.columns.numbers):
        count = int(gaps[:, number].sum())
        if count:
            share = 100 * count / len(gaps)
            many = counted(count, "value", "values")
            was = "was" if count == 1 else "were"
            notes += (f"missing={missing!r}: {many} ({share:.2g} %) of {column!r} {was} filled; {HOW[missing]}",)
    return replace(
        grid,
        panel=replace(grid.panel, values=values),
        filled=gaps,
        notes=grid.notes + notes,
        looks_ahead=missing == "interpolate",
    )


def refusal(grid: Grid, gaps: np.ndarray) -> DataError:
    """The error for the first missing value."""
    row, column = (int(index) for index in np.argwhere(gaps)[0])
    panel = grid.panel
    part = int(np.searchsorted(panel.starts, row, side="right")) - 1
    count = counted(int(gaps.sum()), "value is", "values are")
    return DataError(
        f"column {panel.columns.numbers[column]!r} is missing in {panel.place(row, panel.names[part])}, at "
        f"{grid.clock.words(int(grid.positions[row]))} ({count} missing in all): "
        "fill it, or say missing='forward' or missing='interpolate'"
    )


def trim_start(grid: Grid, gaps: np.ndarray) -> tuple[Grid, np.ndarray, tuple[str, ...]]:
    """Leaves out the first rows of a series until every column has had a value: nothing before could fill them."""
    keep, lengths, notes = np.ones(len(gaps), bool), [], ()
    panel = grid.panel
    for name, part in panel.parts():
        present = ~gaps[part]
        where = f" of series {name!r}" if panel.columns.series else ""
        if not present.any(axis=0).all():
            column = panel.columns.numbers[int(np.argmin(present.any(axis=0)))]
            raise DataError(f"column {column!r}{where} has no value at all: leave it out")
        first = int(present.argmax(axis=0).max())
        keep[part.start : part.start + first] = False
        lengths.append(part.stop - part.start - first)
        if first:
            notes += (f"the first {first} rows{where} were left out: a column has no value before",)
    if not notes:
        return grid, gaps, ()
    kept = select(panel, np.flatnonzero(keep), lengths)
    return replace(grid, panel=kept, positions=grid.positions[keep], filled=grid.filled[keep]), gaps[keep], notes


def carry_forward(values: np.ndarray, gaps: np.ndarray, cuts: list[int]) -> np.ndarray:
    """The last value before each gap; it was known at that time, so the parts of a split do not matter."""
    last = np.maximum.accumulate(np.where(gaps, 0, np.arange(len(values))))
    return values[last]


def draw_lines(values: np.ndarray, gaps: np.ndarray, cuts: list[int]) -> np.ndarray:
    """Straight lines over the gaps; where a part of the split ends within one, the last value before it."""
    filled = carry_forward(values, gaps, cuts)
    for start, end in zip([0, *cuts], [*cuts, len(values)], strict=True):
        known = start + np.flatnonzero(~gaps[start:end])
        if not len(known):
            continue
        inside = np.arange(known[0], known[-1] + 1)
        filled[inside] = np.interp(inside, known, values[known])
    return filled


FILLERS: dict[str, Callable[[np.ndarray, np.ndarray, list[int]], np.ndarray]] = {
    "forward": carry_forward,
    "interpolate": draw_lines,
}
HOW = {
    "forward": "with the last value before",
    "interpolate": "on a line between their neighbours; windows that end in such a row are left out",
}


def check_choice(name: str, value: Any, choices: tuple[str, ...]) -> None:
    """UsageError where a word is none of the choices."""
    if value not in choices:
        raise UsageError(f"{name}={value!r}: expected one of {', '.join(map(repr, choices))}")
