"""`cellula train`: one command a task."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import click

from cellula.cli.options import examples, output_options, settings_of
from cellula.cli.program import INTERRUPTED, cli
from cellula.errors import UsageError

__all__ = ["train", "train_forecast_command"]


@cli.group(epilog=examples("cellula train forecast", "cellula train forecast --help"))
def train() -> None:
    """Train a network on a task."""


def _columns(texts: tuple[str, ...]) -> tuple[str, ...]:
    """Column names from options that may be repeated and may hold commas."""
    return tuple(name for text in texts for name in text.split(",") if name)


@train.command(
    "forecast",
    short_help="Train a forecaster on a table, or on the weather that ships.",
    epilog=examples(
        "cellula train forecast",
        "cellula train forecast power.csv --time Time --target Demand --known Holiday --horizon 48",
        "cellula train forecast --cell my.cell --run runs/mine",
        "cellula train forecast --run runs/mine --resume",
    ),
)
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option("--target", multiple=True, metavar="COLUMN", help="What to forecast; may be repeated.")
@click.option("--time", metavar="COLUMN", help="The column of times.")
@click.option("--series", metavar="COLUMN", help="The column that tells several series apart.")
@click.option("--known", multiple=True, metavar="COLUMN", help="A covariate whose future is known.")
@click.option(
    "--past", multiple=True, metavar="COLUMN", help="A covariate whose future is not known; 'rest': all others."
)
@click.option("--timezone", metavar="ZONE", help="The local clock for hour and weekday, such as Europe/Paris.")
@click.option(
    "--cell", default="lstm", show_default=True, metavar="CELL_OR_FILE", help="A cell, a .cell file or a formula."
)
@click.option("--horizon", type=click.IntRange(1), help="Steps to forecast.  [default: one season, such as a day]")
@click.option("--window", type=click.IntRange(1), help="Steps of history to read.  [default: seven seasons]")
@click.option("--season", type=click.IntRange(1), help="Steps of a season.  [default: from the times]")
@click.option("--hidden", type=click.IntRange(1), help="Units of the network.")
@click.option("--layers", type=click.IntRange(1), help="Layers of encoder and decoder.")
@click.option("--patch", type=click.IntRange(1), help="Rows that the encoder reads in one step.")
@click.option(
    "--missing", type=click.Choice(["refuse", "forward", "interpolate"]), help="What to do with missing values."
)
@click.option("--irregular", type=click.Choice(["refuse", "regularize"]), help="What to do with rows off the grid.")
@click.option(
    "--level", multiple=True, type=click.IntRange(1, 99), help="An interval in percent.  [default: 80 and 95]"
)
@click.option("--fixed-intervals", is_flag=True, help="Leave the intervals as the validation part calibrated them.")
@click.option("--epochs", type=click.IntRange(1), help="Passes over the data at most.")
@click.option("--batch-size", type=click.IntRange(1), help="Windows a step.")
@click.option("--learning-rate", type=click.FloatRange(0, min_open=True), help="The highest learning rate.")
@click.option("--precision", type=click.Choice(["no", "bf16", "fp16"]), help="Mixed precision.")
@click.option("--seed", type=click.IntRange(0), help="Decides everything random.")
@click.option("--set", "pairs", multiple=True, metavar="NAME=NUMBER", help="A size or setting of the formula.")
@click.option("--run", type=click.Path(path_type=Path), help="The run directory.  [default: runs/forecast-1, -2, ...]")
@click.option("--overwrite", is_flag=True, help="Replace the run that is there.")
@click.option("--resume", is_flag=True, help="Go on with the run that is there, with the same options.")
@output_options
def train_forecast_command(
    data: Path | None, run: Path | None, overwrite: bool, resume: bool, as_json: bool, **given: Any
) -> None:
    """Train a forecaster on DATA (CSV or Parquet), or on the weather that ships.

    The last 20 % of the data, in time, are kept for the test, on which persistence, seasonal-naive and ridge forecasts
    are scored beside the network. The run directory holds the model, the scores, the pictures and a report.
    """
    from cellula.tasks.forecast.job import next_run, train_forecast

    if resume and run is None:
        raise UsageError("--resume needs --run: which run is to go on?")
    run = next_run("runs", "forecast") if run is None else run
    outcome = train_forecast(_forecaster(given), data, run, overwrite=overwrite, resume=resume)
    if as_json:
        click.echo(json.dumps(outcome.to_dict()))
    elif outcome.backtest is not None:
        click.echo(f"{outcome.backtest}\n\nmodel    {run / 'model.safetensors'}")
        for name in outcome.files:
            click.echo(f"{'report' if name.endswith('.html') else 'picture':<9}{run / name}")
    if outcome.stopped == "interrupted":
        click.echo(f"stopped; the best model so far is in {run}. Go on with: --run {run} --resume", err=True)
        sys.exit(INTERRUPTED)


# Option of the command line -> parameter of the forecaster.
_PARAMETERS = {
    "cell": "cell",
    "time": "time",
    "series": "series",
    "timezone": "timezone",
    "horizon": "horizon",
    "window": "window",
    "season": "season",
    "hidden": "hidden_size",
    "layers": "num_layers",
    "patch": "patch",
    "missing": "missing",
    "irregular": "irregular",
    "epochs": "training__epochs",
    "batch_size": "training__batch_size",
    "learning_rate": "training__learning_rate",
    "precision": "training__precision",
    "seed": "training__seed",
}


def _forecaster(given: dict[str, Any]) -> Any:
    """The forecaster that the options describe."""
    from cellula.tasks.forecast.forecaster import Forecaster

    forecaster = Forecaster(settings=settings_of(given["pairs"]) or None)
    past = _columns(given["past"])
    forecaster.set_params(
        target=_columns(given["target"]) or None,
        known=_columns(given["known"]),
        past="rest" if past == ("rest",) else past,
        adaptive=not given["fixed_intervals"],
    )
    if given["level"]:
        forecaster.set_params(level=given["level"])
    options = {parameter: given[option] for option, parameter in _PARAMETERS.items() if given[option] is not None}
    return forecaster.set_params(**options)
