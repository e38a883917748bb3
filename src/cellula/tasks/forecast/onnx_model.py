"""A fitted forecaster -> ONNX: rows in the data's own units in, forecast and calibrated bounds out."""

from __future__ import annotations

import json
from collections.abc import Sequence

import numpy as np

from cellula.backends.onnx.model import Model, Port
from cellula.backends.onnx.spelling import TYPES
from cellula.backends.onnx.writer import Writer
from cellula.errors import UsageError
from cellula.models.onnx_network import write_network
from cellula.tasks.forecast.clock import calendar_names
from cellula.tasks.forecast.description import Description
from cellula.tasks.forecast.model import ForecastModel

__all__ = ["forecast_model"]

BATCH = "batch"


def forecast_model(model: ForecastModel, description: Description) -> Model:
    """The whole forecaster as an ONNX model, batch dynamic.

    Inputs: `history` [batch, W, columns], the last rows in the data's own units, oldest first: targets, past and known
    covariates; where there are any, `known` [batch, T, columns], the known covariates of the horizon, and `calendar`
    [batch, W + T, columns], the calendar of window and horizon; where there are several series, `series` [batch], their
    numbers. Outputs: `forecast` [batch, T, Y], `lower` and `upper` [batch, T, Y, levels], in the data's own units.

    Raises:
        UsageError: the model's numbers are of a type that ONNX runtimes lack.
    """
    dtypes = {str(parameter.dtype).removeprefix("torch.") for parameter in model.parameters()}
    if dtypes != {"float32"}:
        raise UsageError(f"the parameters are {', '.join(sorted(dtypes))}; a forecaster is exported as float32")
    return _ForecastWriter(model, description).model()


class _ForecastWriter:
    """Writes one forecaster."""

    def __init__(self, model: ForecastModel, description: Description) -> None:
        self.source, self.description, self.sizes = model, description, description.sizes
        self.writer = Writer("float32")

    def model(self) -> Model:
        inputs, outputs = self.inputs(), self.outputs()
        for port in (*inputs, *outputs):
            self.writer.name(port.name)
        history, future = self.scaled_rows()
        quantiles = write_network(self.writer, self.source.network, history, future)
        values = self.bounds(quantiles)
        for port, value in zip(outputs, values, strict=True):
            self.writer.deliver(value, port.name)
        title = f"Forecaster of {', '.join(self.description.columns.targets)}"
        return self.writer.model("forecaster", inputs, outputs, title, self.metadata())

    @property
    def columns(self) -> int:
        """Columns of the user's numbers."""
        return self.sizes.targets + self.sizes.past + self.sizes.known

    @property
    def several(self) -> bool:
        """Whether there are several series, each with its own scale."""
        return len(self.description.series) > 1

    def inputs(self) -> list[Port]:
        sizes = self.sizes
        ports = [Port("history", "float64", (BATCH, sizes.window, self.columns))]
        ports += [Port("known", "float64", (BATCH, sizes.horizon, sizes.known))] if sizes.known else []
        rows = sizes.window + sizes.horizon
        ports += [Port("calendar", "float32", (BATCH, rows, sizes.calendar))] if sizes.calendar else []
        return ports + ([Port("series", "int64", (BATCH,))] if self.several else [])

    def outputs(self) -> list[Port]:
        shape = (BATCH, self.sizes.horizon, self.sizes.targets)
        levels = len(self.description.levels)
        bounds = ("lower", "upper") if levels else ()
        return [Port("forecast", "float64", shape), *(Port(name, "float64", (*shape, levels)) for name in bounds)]

    def scale(self, start: int, end: int) -> tuple[str, str]:
        """Mean and spread of some columns, [batch, 1, columns] or [1, 1, columns]; in double precision, as the data."""
        found = []
        for name, table in (("mean", self.description.scale.mean), ("spread", self.description.scale.spread)):
            part = self.writer.constant(np.array(table[:, None, start:end], np.float64), name)
            found.append(self.writer.call("Gather", part, "series", axis=0) if self.several else part)
        return found[0], found[1]

    def scaled(self, rows: str, start: int, end: int) -> str:
        """Rows in own units as the network reads them."""
        mean, spread = self.scale(start, end)
        value = self.writer.call("Div", self.writer.call("Sub", rows, mean), spread)
        return self.writer.call("Cast", value, to=TYPES["float32"])

    def scaled_rows(self) -> tuple[str, str]:
        """History and future as the network reads them."""
        sizes, joined = self.sizes, self.joined
        first = self.columns - sizes.known
        history = [self.scaled("history", 0, self.columns)]
        future = [self.scaled("known", first, self.columns)] if sizes.known else []
        if sizes.calendar:
            lengths = self.writer.constant([sizes.window, sizes.horizon])
            past, ahead = self.writer.calls_for("Split", ["calendar", lengths], ["past", "ahead"], axis=1)
            history, future = [*history, past], [*future, ahead]
        return joined(history), joined(future)

    def joined(self, parts: Sequence[str]) -> str:
        return self.writer.call("Concat", *parts, axis=2) if len(parts) > 1 else "".join(parts)

    def bounds(self, quantiles: str) -> list[str]:
        """Forecast, lower and upper bounds in own units: what `ForecastModel.intervals` computes."""
        call, constant = self.writer.call, self.writer.constant
        count, levels = len(self.sizes.quantiles), self.description.levels
        ascending = self.writer.calls_for(
            "TopK", [quantiles, constant([count])], ["quantiles", "order"], axis=-1, largest=0, sorted=1
        )[0]
        median = call("Gather", ascending, constant([count // 2]), axis=-1)  # [B, T, Y, 1]
        if not levels:
            return [call("Squeeze", self.in_own_units(median), constant([3]))]
        # The widest level has the outermost pair.
        rank = np.array([sorted(levels, reverse=True).index(level) for level in levels], np.int64)
        # The bounds are calibrated up to the newest rows of each series.
        offsets = np.nan_to_num(self.source.newest_offsets.detach().cpu().numpy()).transpose(0, 2, 3, 1)
        shift = self.writer.weight("offsets", offsets)  # [S, T, Y, levels]
        shift = call("Gather", shift, "series", axis=0) if self.several else shift
        lower = call("Sub", call("Gather", ascending, constant(rank), axis=-1), shift)
        upper = call("Add", call("Gather", ascending, constant(count - 1 - rank), axis=-1), shift)
        found = [median, call("Min", lower, median), call("Max", upper, median)]
        own = [self.in_own_units(value) for value in found]
        return [call("Squeeze", own[0], constant([3])), *own[1:]]

    def in_own_units(self, value: str) -> str:
        """A scaled forecast [B, T, Y, n] as the data counts."""
        mean, spread = (self.writer.call("Unsqueeze", n, self.writer.constant([3])) for n in self.scale_of_targets())
        value = self.writer.call("Cast", value, to=TYPES["float64"])
        return self.writer.call("Add", self.writer.call("Mul", value, spread), mean)

    def scale_of_targets(self) -> tuple[str, str]:
        return self.scale(0, self.sizes.targets)

    def metadata(self) -> dict[str, str]:
        """What each input and output is."""
        columns, clock = self.description.columns, self.description.clock
        made = {
            "version": 1,
            "kind": "forecast",
            "step": clock.label,
            "history": [*columns.targets, *columns.past, *columns.known],
            "known": list(columns.known),
            "calendar": list(calendar_names(clock)),
            "calendar_zone": clock.calendar_zone or clock.zone,
            "series": list(self.description.series),
            "levels": list(self.description.levels),
            "settings": dict(self.description.settings),
        }
        return {"formula": self.description.cell, "cellula": json.dumps(made, sort_keys=True)}
