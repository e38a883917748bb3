"""ONNX files: a module, a run or a forecaster into one, a recurrent node out of one."""

from __future__ import annotations

import os
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from torch import nn

from cellula.backends.onnx.model import Model
from cellula.backends.onnx.nodes import Found, find_nodes, load_proto
from cellula.backends.onnx.proto import to_bytes
from cellula.errors import UsageError
from cellula.nn.onnx_export import to_model
from cellula.nn.onnx_import import is_ours, restore
from cellula.nn.onnx_node import RecurrentNode
from cellula.nn.onnx_torch import as_recurrent
from cellula.nn.recurrent import Recurrent
from cellula.tasks.atomic import disk_errors, write_atomic

__all__ = ["export_onnx", "import_onnx", "onnx_model", "write_onnx"]


def export_onnx(
    source: Any,
    path: str | os.PathLike[str],
    *,
    streaming: bool = False,
    states: bool = False,
    lengths: bool = False,
) -> None:
    """Write a module or a trained run as an ONNX file, with its weights; batch size and length stay open.

    Where the cell is an LSTM, a GRU or a simple RNN, by its structure and not by its name, the file has ONNX's own
    operator for it; any other cell becomes a `Scan`. Dropout and zoneout are exported as they are outside training.

    Inputs are `x`, and what is asked for beside it; outputs are `output` and the last states, `h_n` for a state `h`.
    States are [L*D, B, H]. A forecaster has inputs and outputs of its own, see `docs/onnx.md`.

    Args:
        source: a `Recurrent`, an `LSTM`, `GRU` or `RNN` of torch.nn, a fitted `Forecaster`, a run directory or its
            `model.safetensors`.
        path: the file; one that is there is replaced whole or not at all.
        streaming: a single step: `x` is [B, I], and the states come in, as `h_0`, and go out.
        states: where the states start is an input too; else they start where the module has them start.
        lengths: the steps of every row are an input, `lengths` [B]; what lies behind is not read, and its output is 0.

    Raises:
        UsageError: the source or an option does not fit.
        RunError: the file cannot be written, or the run cannot be read.
        MissingPackageError: the `onnx` package is not installed.

    Example:
        >>> import tempfile
        >>> from cellula import Recurrent, export_onnx, import_onnx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_onnx(Recurrent("gru", 3, 8, bidirectional=True), f"{folder}/gru.onnx")
        ...     import_onnx(f"{folder}/gru.onnx")
        Recurrent('gru', 3, 8, bidirectional=True)

    Reference: https://onnx.ai/onnx/operators/ (opset 18)
    """
    write_onnx(onnx_model(source, streaming=streaming, states=states, lengths=lengths), path)


def write_onnx(model: Model, path: str | os.PathLike[str]) -> None:
    """Write a model as a file, whole or not at all."""
    write_atomic(path, to_bytes(model, _version()))


def onnx_model(source: Any, *, streaming: bool = False, states: bool = False, lengths: bool = False) -> Model:
    """What `export_onnx` writes, as plain values.

    Raises:
        UsageError, RunError: as `export_onnx`.
    """
    if isinstance(source, nn.RNNBase):
        source = as_recurrent(source)
    if isinstance(source, Recurrent):
        return to_model(source, streaming=streaming, states=states, lengths=lengths)
    if isinstance(source, nn.Module):
        raise UsageError(
            f"{type(source).__name__} is neither a Recurrent nor an LSTM, GRU or RNN of torch: export those in it"
        )
    # The forecaster needs packages that a cell does not.
    from cellula.tasks.forecast.forecaster import Forecaster
    from cellula.tasks.forecast.onnx_model import forecast_model
    from cellula.tasks.forecast.storage import read_forecaster

    if not isinstance(source, str | os.PathLike | Forecaster):
        raise UsageError(f"expected a Recurrent, a Forecaster or the path of a run, not {type(source).__name__}")
    if streaming or states or lengths:
        raise UsageError("a forecaster reads whole windows: leave out streaming, states and lengths")
    if isinstance(source, Forecaster):
        model, description = source._fitted()
    else:
        model, description, _ = read_forecaster(Path(source))
    return forecast_model(model, description)


def import_onnx(path: str | os.PathLike[str], node: str | None = None) -> Recurrent | RecurrentNode:
    """Read a recurrent layer out of an ONNX file: its formula and its weights, to run and to train on.

    Args:
        path: the file.
        node: the name of an `LSTM`, `GRU` or `RNN` node; it may be left out where there is only one.

    Returns:
        Of a file that Cellula wrote from a `Recurrent`, that module; else a `RecurrentNode`, with all attributes of the
        node: direction, activations with their constants, clip, input_forget, linear_before_reset, layout, peepholes,
        sequence_lens, initial states.

    Raises:
        UsageError: there is no such node, or several and none is named, or it is not as ONNX has it.
        RunError: the file cannot be read or is no ONNX file.
        MissingPackageError: the `onnx` package is not installed.

    Example:
        >>> import tempfile
        >>> from cellula import Recurrent, export_onnx, import_onnx
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     export_onnx(Recurrent("elman", 3, 8), f"{folder}/elman.onnx")
        ...     node = import_onnx(f"{folder}/elman.onnx", node="every")
        >>> print(node.formulas[0].splitlines()[-1])
        h[t] = tanh(x[t] @ W_h + h[t-1] @ R_h + b_h)
    """
    with disk_errors("read", Path(path)):
        proto = load_proto(Path(path))
    if node is None and is_ours(proto):
        return restore(proto, Path(path))
    found = find_nodes(proto)
    if not found:
        raise UsageError(f"{path} has no LSTM, GRU or RNN node")
    if node is None and len(found) > 1:
        raise UsageError(f"{path} has {len(found)} recurrent nodes; write node= with one of {', '.join(found)}")
    if node is not None and node not in found:
        raise UsageError(f"{path} has no recurrent node {node!r}; it has {', '.join(found)}")
    return _node(found[next(iter(found)) if node is None else node])


def _node(found: Found) -> RecurrentNode:
    return RecurrentNode(found.kind, found.attributes, found.tensors())


def _version() -> str:
    try:
        return version("cellula")
    except PackageNotFoundError:
        return ""
