"""The forecasting network -> ONNX: encoder and decoder by their cell, the rest as plain operators."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from cellula.backends.onnx.stack import write_stack
from cellula.backends.onnx.writer import Writer
from cellula.models.forecaster import ForecastNetwork
from cellula.nn.onnx_export import to_stack

__all__ = ["write_network"]


def write_network(writer: Writer, network: ForecastNetwork, history: str, future: str) -> str:
    """Write the quantile forecasts of a network: what `ForecastNetwork.forward` computes outside training.

    Args:
        writer: takes the calls and the weights.
        network: with its weights.
        history: scaled rows up to now, oldest first, [B, W, history_columns].
        future: scaled rows of the horizon, [B, T, future_columns]; "" where there are no such columns.

    Returns:
        Quantiles, [B, T, Y, Q], in scaled units.
    """
    return _NetworkWriter(writer, network).forward(history, future)


class _NetworkWriter:
    """Writes one network; the methods are those of `ForecastNetwork`."""

    def __init__(self, writer: Writer, network: ForecastNetwork) -> None:
        self.writer, self.network, self.sizes = writer, network, network.sizes

    def forward(self, history: str, future: str) -> str:
        call, constant, sizes = self.writer.call, self.writer.constant, self.sizes
        linear = self.linear_forecast(history, future)
        rows = self.part(history, sizes.window - self.network.read, sizes.window, axis=1)
        patches = call("Reshape", rows, constant([0, self.network.read // self.network.patch, -1]))
        read = call("Transpose", self.linear("history_input", patches), perm=(1, 0, 2))
        encoded, state = write_stack(self.writer, to_stack(self.network.encoder, "encoder.layers"), read, None)
        newest = call("Gather", encoded, constant(np.array(-1, np.int64)), axis=0)
        context = call("Unsqueeze", self.linear("context_input", newest), constant([1]))
        ahead = self.joined([future, *self.carried_values(history), linear], axis=2)
        inputs = call("Transpose", call("Add", self.linear("future_input", ahead), context), perm=(1, 0, 2))
        decoded, _ = write_stack(self.writer, to_stack(self.network.decoder, "decoder.layers"), inputs, state)
        hidden = self.linear("head.0", self.joined([decoded, inputs], axis=2))
        hidden = call("Mul", hidden, call("Sigmoid", hidden))
        correction = call("Transpose", self.linear("head.3", hidden), perm=(1, 0, 2))
        shape = constant([0, sizes.horizon, sizes.targets, len(sizes.quantiles)])
        return call("Add", call("Unsqueeze", linear, constant([3])), call("Reshape", correction, shape))

    def linear_forecast(self, history: str, future: str) -> str:
        """The linear part alone, [B, T, Y]."""
        call, constant, sizes = self.writer.call, self.writer.constant, self.sizes
        values, newest = self.part(history, 0, sizes.targets, axis=2), self.newest(history)
        given = sizes.targets + sizes.past + sizes.known
        parts = [call("Sub", values, newest)]
        parts += [self.part(history, sizes.targets, given, axis=2)] if given > sizes.targets else []
        parts += [self.part(future, 0, sizes.known, axis=2)] if sizes.known else []
        if sizes.calendar:
            first = self.part(future, 0, 1, axis=1)
            parts.append(self.part(first, sizes.known, sizes.future_columns, axis=2))
        features = self.joined([call("Reshape", part, constant([0, -1])) for part in parts], axis=1)
        # The last feature is 1, its weights the constant.
        weights = self.array(self.network.linear)
        change = call("MatMul", features, self.writer.weight("linear.weight", weights[:-1]))
        change = call("Add", change, self.writer.weight("linear.bias", weights[-1]))
        return call("Add", newest, call("Reshape", change, constant([0, sizes.horizon, sizes.targets])))

    def carried_values(self, history: str) -> list[str]:
        """For each step of the horizon the targets a season before, each [B, T, Y]; whole seasons repeat."""
        values = self.part(history, 0, self.sizes.targets, axis=2)
        steps = np.arange(self.sizes.horizon)
        rows = [self.writer.constant(self.sizes.window - lag + steps % lag) for lag in self.sizes.carried]
        return [self.writer.call("Gather", values, row, axis=1) for row in rows]

    def newest(self, history: str) -> str:
        """The last value of each target, [B, 1, Y]."""
        return self.part(self.part(history, 0, self.sizes.targets, axis=2), -1, self.sizes.window, axis=1)

    def part(self, value: str, start: int, end: int, axis: int) -> str:
        numbers = (self.writer.constant([number]) for number in (start, end, axis))
        return self.writer.call("Slice", value, *numbers)

    def joined(self, values: Sequence[str], axis: int) -> str:
        given = [value for value in values if value]
        return given[0] if len(given) == 1 else self.writer.call("Concat", *given, axis=axis)

    def linear(self, name: str, value: str) -> str:
        """A linear layer of the network."""
        layer = self.network.get_submodule(name)
        assert isinstance(layer, nn.Linear)
        weight = self.writer.weight(f"{name}.weight", self.array(layer.weight).T)
        bias = self.writer.weight(f"{name}.bias", self.array(layer.bias))
        return self.writer.call("Add", self.writer.call("MatMul", value, weight), bias)

    def array(self, tensor: torch.Tensor) -> np.ndarray:
        return tensor.detach().cpu().numpy()
