"""The forecasting task from a file to a finished run directory, as the command line does it."""

from __future__ import annotations

import json
from dataclasses import dataclass
from os import PathLike
from pathlib import Path
from typing import Any

import pyarrow

from cellula.errors import RunError
from cellula.tasks.forecast.backtest import Backtest
from cellula.tasks.forecast.facts import report_on
from cellula.tasks.forecast.files import read_table
from cellula.tasks.forecast.forecaster import Forecaster
from cellula.tasks.forecast.report import write_report
from cellula.tasks.forecast.samples import SAMPLE, load_sample
from cellula.tasks.run import RunDirectory

__all__ = ["Outcome", "backtest_run", "next_run", "read_source", "train_forecast"]

_SOURCE = "data.json"  # beside the model: which file the run was trained on


@dataclass(frozen=True)
class Outcome:
    """What a training run ended with.

    Args:
        run: the run directory.
        stopped: "finished", "early" or "interrupted".
        backtest: the scores on the test part; None after an interruption.
        files: the names of the report and the pictures.
        notes: what was mended in the data.
    """

    run: Path
    stopped: str
    backtest: Backtest | None
    files: tuple[str, ...]
    notes: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        """Plain values for JSON."""
        scores = {} if self.backtest is None else {k: v for k, v in self.backtest.to_dict().items() if k != "examples"}
        return {
            "run": str(self.run),
            "stopped": self.stopped,
            "files": list(self.files),
            "notes": list(self.notes),
        } | scores


def next_run(folder: str | PathLike[str], name: str) -> Path:
    """The first of `name-1`, `name-2`, ... in a folder that does not exist yet."""
    number = 1
    while (Path(folder) / f"{name}-{number}").exists():
        number += 1
    return Path(folder) / f"{name}-{number}"


def read_source(data: str | Path | None) -> tuple[pyarrow.Table, dict[str, Any]]:
    """The table of a file, or the weather that ships, and what is known of it.

    Raises:
        DataError: the file cannot be read.
    """
    if data is None:
        facts = {"name": SAMPLE.title, "source": SAMPLE.source, "licence": SAMPLE.licence}
        return load_sample(), {"path": None, "facts": facts, "units": dict(SAMPLE.units)}
    path = Path(data)
    return read_table(path), {"path": str(path.resolve()), "facts": {"name": path.name}, "units": {}}


def train_forecast(
    forecaster: Forecaster,
    data: str | Path | None,
    run: str | PathLike[str],
    *,
    overwrite: bool = False,
    resume: bool = False,
    progress: bool | None = None,
) -> Outcome:
    """Train a forecaster, test it, and leave model, scores, pictures and report in a run directory.

    Args:
        forecaster: not yet fitted.
        data: the file; None for the weather that ships, whose columns are filled in where the forecaster names none.
        run: the run directory.
        overwrite: replace the run that is there.
        resume: go on with the run that is there.
        progress: True shows a bar, None shows it where stderr is a terminal.

    Raises:
        CellulaError: the data, an argument or the run directory cannot be used.
    """
    table, source = read_source(data)
    if data is None:
        own: dict[str, Any] = {"past": "rest"}
        own |= {"target": SAMPLE.target, "time": SAMPLE.time, "series": SAMPLE.series, "timezone": SAMPLE.timezone}
        forecaster.set_params(**{name: value for name, value in own.items() if not forecaster.get_params()[name]})
    forecaster.fit(table, run=run, overwrite=overwrite, resume=resume, progress=progress)
    directory = RunDirectory.open(run)
    directory.write_json(_SOURCE, source)
    stopped = forecaster.history_.stopped if forecaster.history_ is not None else "finished"
    if stopped == "interrupted":
        return Outcome(Path(run), stopped, None, (), forecaster.notes_)
    backtest = forecaster.backtest()
    report = report_on(forecaster, backtest, data=source["facts"], units=source["units"])
    return Outcome(Path(run), stopped, backtest, write_report(directory, report), forecaster.notes_)


def backtest_run(run: str | PathLike[str], data: str | Path | None = None) -> Backtest:
    """Test a finished run again, on its own data or on later data.

    Args:
        run: the run directory, or a model file.
        data: a file whose rows reach past the validation part of the run's data; None for the run's own file.

    Raises:
        RunError: the run cannot be used, or does not say which file it was trained on.
        DataError: the data cannot be used.
    """
    forecaster = Forecaster.load(run)
    table = read_table(data) if data is not None else read_source(_source_path(Path(run)))[0]
    return forecaster.backtest(table)


def _source_path(run: Path) -> str | None:
    """The file that a run was trained on; None for the weather that ships."""
    try:
        path = json.loads((run / _SOURCE).read_text(encoding="utf-8"))["path"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise RunError(
            f"{run} does not say which data it was trained on ({_SOURCE}: {error}); give the data file"
        ) from error
    if path is not None and not isinstance(path, str):
        raise RunError(f"{run / _SOURCE} names no file: {path!r}; give the data file")
    return path
