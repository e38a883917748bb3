"""The forecaster: scikit-learn's verbs over any cell."""

from __future__ import annotations

import inspect
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, is_dataclass, replace
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellula.cells.catalogue import load_cell
from cellula.errors import DataError, RunError, UsageError
from cellula.graph.graph import Graph
from cellula.inspection.subject import Inspected
from cellula.tasks.forecast.backtest import Backtest, evaluate
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.future import Newest, forecast_frame, stored_origin
from cellula.tasks.forecast.inspected import inspect_forecaster
from cellula.tasks.forecast.model import ForecastModel, calibrate, pinball_loss
from cellula.tasks.forecast.preparing import (
    MOST_VALIDATION,
    Prepared,
    build_model,
    newest_rows,
    prepare,
    prepare_again,
    split_words,
    training_parts,
)
from cellula.tasks.forecast.settings import FORECAST_TRAINING, ForecastSettings, checked_levels
from cellula.tasks.forecast.storage import read_forecaster, run_directory, shown, training_record
from cellula.tasks.forecast.tracking import RATE, first_offsets, newest_offsets
from cellula.tasks.options import TrainingOptions
from cellula.tasks.run import RunDirectory, data_fingerprint, save_model
from cellula.tasks.training import History, train

__all__ = ["Forecaster"]


class Forecaster:
    """Forecasts series of numbers by an encoder-decoder over any recurrent cell.

    The network learns a correction to a ridge forecast and gives quantiles; its intervals are calibrated on data that
    it was not trained on. The verbs are those of scikit-learn.

    Args:
        cell: a cell of the zoo, the path of a `.cell` file, the text of a formula, or a graph.
        horizon: steps to forecast; None: one season (a day of hourly rows).
        window: steps of history to read; None: seven seasons where the rows are less than a day apart, at most 512.
        target: the column to forecast, or several; None: `y` (for an array: every column).
        time: the column of times (or whole numbers); None: `ds` where there is one, else rows are numbered.
        series: the column that tells several series apart; None: `unique_id` where there is one.
        known: covariates whose future is known, such as holidays; `predict` asks for them. Hour, weekday and time of
            year are added from the time column.
        past: covariates whose future is not known; "rest": all columns that have no other part.
        season: steps of a season; None: a day, a week of days, a year of weeks or months.
        timezone: the local clock for hour and weekday, where the times carry a zone; None: that of the column.
        level: intervals to learn, in percent.
        adaptive: whether intervals follow the latest errors: at each forecast they are calibrated by all truths that
            have come in by then. False keeps them as the validation part calibrated them.
        split: shares of training, validation and test part, in time.
        missing: what to do with missing values: "refuse", "forward" (the last value before), "interpolate".
        irregular: what to do with rows out of order or off the grid: "refuse" or "regularize".
        hidden_size: units of encoder and decoder.
        num_layers: layers of each.
        dropout: share of units set to zero in training.
        patch: rows of the history that the encoder reads in one step: 1 is the plain encoder, more is faster.
        settings: the cell's own settings and sizes.
        training: how to train.

    Attributes:
        history_: what the training did.
        notes_: what was mended in the data, in words.
        description_: columns, sizes, scales, formula.

    Example:
        >>> import numpy as np
        >>> wave = np.sin(np.arange(400) * 2 * np.pi / 8)
        >>> quick = TrainingOptions(epochs=1, steps_per_epoch=2)
        >>> forecaster = Forecaster("gru", horizon=4, window=16, season=8, hidden_size=4, training=quick).fit(wave)
        >>> sorted(forecaster.predict())
        ['y', 'y_hi_80', 'y_hi_95', 'y_lo_80', 'y_lo_95']
        >>> forecaster.backtest().scores["persistence"]["mae"] > 0.1
        True

    Reference: Romano, Patterson & Candès 2019 and Gibbs & Candès 2021 for the intervals; Hyndman & Koehler 2006 for
    MASE.
    """

    def __init__(
        self,
        cell: str | PathLike[str] | Graph = "lstm",
        *,
        horizon: int | None = None,
        window: int | None = None,
        target: str | Sequence[str] | None = None,
        time: str | None = None,
        series: str | None = None,
        known: str | Sequence[str] = (),
        past: str | Sequence[str] = (),
        season: int | None = None,
        timezone: str | None = None,
        level: Sequence[int] = (80, 95),
        adaptive: bool = True,
        split: Sequence[float] = (0.7, 0.1, 0.2),
        missing: str = "refuse",
        irregular: str = "refuse",
        hidden_size: int = 32,
        num_layers: int = 1,
        dropout: float = 0.3,
        patch: int = 6,
        settings: Mapping[str, float] | None = None,
        training: TrainingOptions = FORECAST_TRAINING,
    ) -> None:
        self.cell = cell
        self.horizon = horizon
        self.window = window
        self.target = target
        self.time = time
        self.series = series
        self.known = known
        self.past = past
        self.season = season
        self.timezone = timezone
        self.level = level
        self.adaptive = adaptive
        self.split = split
        self.missing = missing
        self.irregular = irregular
        self.hidden_size = hidden_size
        self.num_layers = num_layers
        self.dropout = dropout
        self.patch = patch
        self.settings = settings
        self.training = training

    def fit(
        self,
        data: Any,
        y: None = None,
        *,
        run: str | PathLike[str] | None = None,
        overwrite: bool = False,
        resume: bool = False,
        progress: bool | None = None,
    ) -> Forecaster:
        """Trains on the first part of the data, in time; validates and calibrates on the second.

        Args:
            data: a dataframe (pandas, polars, pyarrow, ...) or an array, [rows] or [rows, columns].
            y: not used; it is there because scikit-learn's tools give it.
            run: the run directory, where the model, the checkpoints and the log go; None keeps no files.
            overwrite: replace the run that is there.
            resume: go on with the run that is there.
            progress: True shows a bar, None shows it where stderr is a terminal.

        Returns:
            The forecaster itself.

        Raises:
            DataError: where the data cannot be used; row and column are named.
            UsageError: where a parameter is out of range or does not fit the data.
            RunError: where the run directory cannot be used, or the training diverges.
        """
        if y is not None:
            raise UsageError("y= is not used: give one dataframe with all columns, and target=")
        settings = self._settings()
        graph = load_cell(self.cell if isinstance(self.cell, (str, Graph)) else Path(self.cell))
        prepared = prepare(data, settings, graph)
        description = prepared.description
        training, validation = training_parts(prepared)
        parameters = self._plain_parameters(description.cell)
        rows = [prepared.grid.positions, prepared.grid.panel.values]
        config = {
            "task": "forecast",
            "parameters": parameters,
            "data": {"fingerprint": data_fingerprint(*rows), "rows": len(rows[0]), "form": description.form},
        }
        metadata = {"forecaster": description.to_plain(), "parameters": parameters}
        with run_directory(run, overwrite, resume) as directory:
            directory.describe(config, metadata)
            model = build_model(prepared, graph, settings.training.seed, description.settings)
            loss = pinball_loss(description.sizes.quantiles)
            history = train(
                model,
                loss,
                training,
                validation.thinned(MOST_VALIDATION),
                settings.training,
                directory,
                resume=resume,
                progress=progress,
            )
            calibrate(model, validation, RATE if settings.adaptive else 0.0)
            model.newest_offsets.copy_(torch.from_numpy(first_offsets(model, prepared)))
            directory.save_model(model.state_dict(), training_record(history))
        self._become(model, description, history)
        self._prepared = prepared
        self._run = None if run is None else Path(run)
        return self

    def predict(self, data: Any = None, level: Sequence[int] | int | None = None, known: Any = None) -> Any:
        """Forecasts the horizon after the end of the data.

        Args:
            data: as for `fit`, at least one window of rows; None: the data of `fit`.
            level: intervals, in percent, of those that were learned; None: all of them.
            known: the known covariates of the rows to forecast, where the model has some.

        Returns:
            A dataframe of the kind that the data was (a dict of arrays for an array), one row for each step of each
            series: series, time, each target's forecast (the median) and its bounds, such as `y_lo_80` and `y_hi_80`.

        Raises:
            DataError: where the data, or `known`, cannot be used.
            UsageError: where a level was not learned, or `known` is needed and not given.
        """
        model, description = self._fitted()
        levels = description.levels if level is None else checked_levels(level)
        for entry in levels:
            if entry not in description.levels:
                raise UsageError(
                    f"level={entry} was not learned: expected some of {list(description.levels)}, "
                    "or fit again with level="
                )
        return forecast_frame(model, description, self._newest(data), known, levels)

    def backtest(self, data: Any = None) -> Backtest:
        """Forecasts every window of the test part and compares with persistence, seasonal-naive and ridge.

        Args:
            data: rows that reach past the validation part of the fitted data; None: the data of `fit`. Only windows
                whose horizon lies in the test part, or after it, are used.

        Returns:
            Scores, errors by step, examples. A forecaster fitted with `run=` also writes them to `metrics.json` there.

        Raises:
            DataError: where there is no such window.
        """
        model, description = self._fitted()
        prepared = self._prepared_of(data)
        split = replace(description.split, test_end=int(prepared.grid.positions.max()))
        windows = prepared.windows(split.test_start, None)
        if not len(windows):
            raise DataError(
                f"there is nothing to test on: the model has seen the rows up to "
                f"{description.clock.words(split.test_start - description.clock.step)}, and fewer than "
                f"{description.sizes.horizon} rows come after; give later data, or fit with a larger test share"
            )
        found = evaluate(model, prepared, windows, split_words(split, description.clock))
        if self._run is not None and data is None:
            record = {name: value for name, value in found.to_dict().items() if name != "examples"}
            RunDirectory.open(self._run).write_json("metrics.json", record)
        return found

    def score(self, data: Any = None, y: None = None) -> float:
        """The skill over the seasonal-naive forecast: 1 is perfect, 0 is no better, below 0 is worse.

        Args:
            data: as for `backtest`.
            y: not used.

        Returns:
            One minus the ratio of the mean absolute errors in the test part, for the first target.
        """
        scores = self.backtest(data).scores
        naive = scores["seasonal_naive"]["mae"]
        return 1.0 - scores["network"]["mae"] / naive if naive > 0 else float("nan")

    def save(self, path: str | PathLike[str]) -> None:
        """Saves the fitted forecaster in one file: weights, formula, scales and the newest rows, but no code.

        Args:
            path: the file; an existing one is replaced.

        Raises:
            RunError: where it cannot be written.
        """
        model, description = self._fitted()
        metadata = {
            "forecaster": description.to_plain(),
            "parameters": self._plain_parameters(description.cell),
            "training": training_record(self.history_),
        }
        save_model(path, model.state_dict(), metadata)

    @classmethod
    def load(cls, path: str | PathLike[str]) -> Forecaster:
        """Loads what `save` saved, or the model of a run directory. No code of the file is run.

        Args:
            path: the file or the run directory.

        Raises:
            RunError: where it is missing, damaged or not a forecaster.
        """
        model, description, parameters = read_forecaster(Path(path))
        try:
            forecaster = cls(**parameters)
            forecaster._settings()
        except (TypeError, ValueError) as error:
            raise RunError(f"{path} cannot be used as a forecaster: its parameters do not fit: {error}") from error
        forecaster._become(model, description, None)
        if bool(torch.isnan(model.offsets).any()):
            warnings.warn(
                f"{path}: the training did not come to its end, so the intervals are not calibrated; "
                "go on with it by resume=True (--resume)",
                stacklevel=2,
            )
        return forecaster

    def inspected(self, data: Any = None, within: str | None = None) -> Inspected:
        """What `cellula.lens` looks at: the network on the newest window of each series.

        Args:
            data: as for `predict`, or a tuple of that and of `known`; None: the rows that the model has.
            within: "encoder", which is meant by None, or "decoder".

        Raises:
            DataError: where the data cannot be used.
            UsageError: another part, or known covariates that the decoder needs and that are not given.
        """
        model, description = self._fitted()
        data, known = data if isinstance(data, tuple) else (data, None)
        return inspect_forecaster(model, description, self._newest(data), known, within or "encoder")

    def get_params(self, deep: bool = True) -> dict[str, Any]:
        """The parameters by name, as scikit-learn does.

        Args:
            deep: also the fields of `training`, as `training__epochs`.
        """
        names = [name for name in inspect.signature(type(self).__init__).parameters if name != "self"]
        found = {name: getattr(self, name) for name in names}
        if deep and is_dataclass(self.training):
            found |= {f"training__{field.name}": getattr(self.training, field.name) for field in fields(self.training)}
        return found

    def set_params(self, **params: Any) -> Forecaster:
        """Sets parameters by name; `training__epochs=3` sets a field of `training`.

        Returns:
            The forecaster itself.

        Raises:
            UsageError: where there is no such parameter.
        """
        valid = self.get_params()
        for name in params:
            if name not in valid:
                raise UsageError(f"Forecaster has no parameter {name!r}: expected one of {', '.join(valid)}")
        nested = {name: value for name, value in params.items() if name.startswith("training__")}
        for name, value in params.items():
            if name not in nested:
                setattr(self, name, value)
        if nested:
            changes = {name.removeprefix("training__"): value for name, value in nested.items()}
            self.training = replace(self.training, **changes)
        return self

    def __sklearn_tags__(self) -> Any:
        """What scikit-learn's tools ask an estimator for: it needs no `y`, and takes tables of any content."""
        # Asked for by scikit-learn alone, so it is there; the rest of the project does without it.
        from sklearn.utils import InputTags, Tags, TargetTags

        given = InputTags(two_d_array=True, one_d_array=True, string=True, allow_nan=True)
        return Tags(estimator_type=None, target_tags=TargetTags(required=False), input_tags=given)

    def __sklearn_is_fitted__(self) -> bool:
        """Whether `fit` or `load` has been called."""
        return hasattr(self, "_model")

    def __repr__(self) -> str:
        defaults = inspect.signature(type(self).__init__).parameters
        given = self.get_params(deep=False)
        changed = [f"{name}={shown(value)}" for name, value in given.items() if value != defaults[name].default]
        return f"Forecaster({', '.join(changed)})"

    def _settings(self) -> ForecastSettings:
        """The parameters, checked."""
        found = self.get_params(deep=False)
        found.pop("cell")
        return ForecastSettings(**found)

    def _plain_parameters(self, cell: str) -> dict[str, Any]:
        """The parameters as JSON can hold them; the cell is its formula."""
        return {**asdict(self._settings()), "cell": cell}

    def _become(self, model: ForecastModel, description: Description, history: History | None) -> None:
        """Takes over what was fitted or loaded."""
        self._model = model.eval()
        self.description_ = description
        self.history_ = history
        self._prepared: Prepared | None = None
        self._run: Path | None = None

    @property
    def notes_(self) -> tuple[str, ...]:
        """What was mended in the data of `fit`, in words."""
        self._fitted()
        return self._prepared.grid.notes if self._prepared is not None else ()

    def _fitted(self) -> tuple[ForecastModel, Description]:
        """The model and its description; UsageError before `fit`."""
        if not hasattr(self, "_model"):
            raise UsageError("this forecaster is not fitted: call fit(data) first, or Forecaster.load(path)")
        return self._model, self.description_

    def _prepared_of(self, data: Any) -> Prepared:
        """Data for the fitted model."""
        _, description = self._fitted()
        if data is not None:
            return prepare_again(data, description, self.missing, self.irregular)
        if self._prepared is None:
            raise UsageError("a loaded forecaster has no data to test on: give data=")
        return self._prepared

    def _newest(self, data: Any) -> Newest:
        """The rows from which a forecast starts."""
        model, description = self._fitted()
        if data is None and self._prepared is None:
            numbers = np.arange(len(description.series))
            offsets = model.newest_offsets.cpu().numpy()
            origin = stored_origin(description)
            return Newest(model.context.cpu().numpy(), np.array(description.ends), numbers, origin, offsets)
        prepared = self._prepared_of(data)
        panel = prepared.grid.panel
        ends = prepared.grid.positions[panel.starts[1:] - 1]
        return Newest(newest_rows(prepared), ends, prepared.numbers, panel.origin, newest_offsets(model, prepared))
