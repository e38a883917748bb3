"""One step at a time, one row: microseconds a step through Python, and in chunks that need no Python per step."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from peers.ours import make_module
from peers.problem import CELLS
from peers.timing import Pace, interleave, spread

__all__ = ["measure", "plan"]

HIDDEN, STEPS, CHUNK = 128, 200, 100
PEERS = {"lstm": (nn.LSTM, nn.LSTMCell), "gru": (nn.GRU, nn.GRUCell), "elman": (nn.RNN, nn.RNNCell)}


def plan(options: Any) -> list[dict[str, Any]]:
    """One task a cell."""
    return [{"cell": cell} for cell in (options.cells[:1] if options.quick else options.cells)]


def measure(task: Mapping[str, Any], pace: Pace, report: Callable[..., None]) -> list[dict[str, Any]]:
    """Ours by `step` and by a stream, torch's module fed one step a call, torch's cell; the state is carried on."""
    torch.manual_seed(0)
    module = make_module(CELLS[task["cell"]].formula, HIDDEN, HIDDEN, task["backend"]).eval()
    x = torch.randn(STEPS, 1, HIDDEN)
    calls = {"ours, step": _walk(module.step, x.unbind(0)), "ours, stream": _flow(module.stream(), x.unbind(0))}
    calls["ours, chunks of 100"] = _walk(module, x.split(CHUNK))
    if task["cell"] in PEERS:
        layer, cell = (kind(HIDDEN, HIDDEN).eval() for kind in PEERS[task["cell"]])
        calls["torch.nn module, one step a call"] = _walk(layer, x.split(1))
        calls["torch.nn module, chunks of 100"] = _walk(layer, x.split(CHUNK))
        calls["torch.nn cell"] = _walk(lambda step, state: _twice(cell(step, state)), x.unbind(0))
    for call in calls.values():
        call()
    report(ready=0.0)
    rows = []
    for name, seconds in interleave(calls, pace).items():
        step = spread([1e6 * value / STEPS for value in seconds])
        rows.append({"cell": task["cell"], "how": name, "µs a step": step.median, "low": step.low, "high": step.high})
    return rows


def _walk(step: Callable[[Tensor, Any], tuple[Any, Any]], pieces: Any) -> Callable[[], Any]:
    """All pieces one after the other."""
    pieces = list(pieces)

    def call() -> Any:
        state = None
        with torch.inference_mode():
            for piece in pieces:
                _, state = step(piece, state)
        return state

    return call


def _flow(stream: Callable[[Tensor], Tensor], pieces: Any) -> Callable[[], Any]:
    """The same where the state is kept inside."""
    pieces = list(pieces)

    def call() -> Any:
        output = None
        with torch.inference_mode():
            for piece in pieces:
                output = stream(piece)
        return output

    return call


def _twice(state: Any) -> tuple[Any, Any]:
    """A cell of torch returns its state alone."""
    return state, state
