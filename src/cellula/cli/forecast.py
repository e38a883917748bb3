"""`cellula predict` and `cellula backtest`: what a trained forecaster does."""

from __future__ import annotations

import json
from pathlib import Path

import click

from cellula.cli.options import examples, output_options
from cellula.cli.program import cli

__all__ = ["backtest", "predict"]


@cli.command(
    short_help="Forecast what comes next.",
    epilog=examples("cellula predict runs/demo", "cellula predict runs/demo new.csv --output forecast.csv"),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@click.option(
    "--known", type=click.Path(path_type=Path), help="A table of the known covariates of the rows to forecast."
)
@click.option("--level", multiple=True, type=click.IntRange(1, 99), help="An interval in percent; may be repeated.")
@click.option("--output", type=click.Path(path_type=Path), help="Write a .csv or .parquet file instead of printing.")
@output_options
def predict(
    run: Path, data: Path | None, known: Path | None, level: tuple[int, ...], output: Path | None, as_json: bool
) -> None:
    """Forecast what comes after the end of DATA, or of the data that RUN was trained on."""
    from cellula.tasks.forecast.files import read_table, to_csv, to_rows, write_table
    from cellula.tasks.forecast.forecaster import Forecaster

    forecaster = Forecaster.load(run)
    table = None if data is None else read_table(data)
    frame = forecaster.predict(table, level or None, None if known is None else read_table(known))
    if output is not None:
        write_table(output, frame)
        click.echo(f"wrote {output}", err=True)
    elif as_json:
        click.echo(json.dumps(to_rows(frame)))
    else:
        click.echo(to_csv(frame), nl=False)


@cli.command(
    short_help="Test a run beside the baselines.",
    epilog=examples("cellula backtest runs/demo", "cellula backtest runs/demo later.csv --json"),
)
@click.argument("run", type=click.Path(path_type=Path))
@click.argument("data", required=False, type=click.Path(path_type=Path))
@output_options
def backtest(run: Path, data: Path | None, as_json: bool) -> None:
    """Forecast every window of the test part and compare with the baselines."""
    from cellula.tasks.forecast.job import backtest_run

    found = backtest_run(run, data)
    record = {name: value for name, value in found.to_dict().items() if name != "examples"}
    click.echo(json.dumps(record) if as_json else str(found))
