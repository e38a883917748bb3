"""An ONNX file that Cellula wrote -> the `Recurrent` that it came from."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from cellula.backends.onnx.nodes import initializers
from cellula.backends.onnx.operators import find_operator, unpack
from cellula.errors import FormulaError, RunError, UsageError
from cellula.formula.parser import parse
from cellula.graph.build import build
from cellula.graph.graph import Graph
from cellula.nn.direction import Direction
from cellula.nn.recurrent import Recurrent

__all__ = ["is_ours", "restore"]

VERSION = 1
DTYPES = {"float32": torch.float32, "float64": torch.float64}


def is_ours(proto: Any) -> bool:
    """Whether a file says that it holds a `Recurrent` of ours."""
    try:
        return json.loads(_texts(proto).get("cellula", "{}")).get("kind") == "recurrent"
    except (ValueError, AttributeError):
        return False


def _texts(proto: Any) -> dict[str, str]:
    return {entry.key: entry.value for entry in proto.metadata_props}


def restore(proto: Any, path: Path) -> Recurrent:
    """The module of a file, from its formula and its weights; nothing in it can run code.

    Raises:
        RunError: the formula, the sizes and the weights do not fit each other.
    """
    texts = _texts(proto)
    made = json.loads(texts["cellula"])
    if made.get("version") != VERSION:
        raise RunError(f"{path} has version {made.get('version')!r}; this Cellula reads {VERSION}")
    weights = initializers(proto)
    try:
        said = made["module"]
        settings, name, dtype = (said.pop(word) for word in ("settings", "name", "dtype"))
        # Built from the text alone: a name or a path would read what the file's author chose.
        graph = build(parse(texts["formula"]), str(name))
        _refuse_size(graph, said, settings, weights)
        module = Recurrent(graph, **said, dtype=DTYPES[dtype], **settings)
        tensors = _tensors(module, weights, made.get("start"), dtype)
        module.load_state_dict({name: torch.from_numpy(np.array(value)) for name, value in tensors.items()})
    except FormulaError as error:
        raise RunError(f"{path}: the formula in it is wrong: {error}") from error
    except (
        KeyError,
        TypeError,
        ValueError,
        IndexError,
        AttributeError,
        RuntimeError,
        StopIteration,
        UsageError,
    ) as error:
        raise RunError(f"{path} does not hold what Cellula writes: {error!r}") from error
    return module


def _refuse_size(
    graph: Graph, said: Mapping[str, Any], settings: Mapping[str, Any], weights: Mapping[str, np.ndarray]
) -> None:
    """ValueError where the sizes need more numbers than the file has: a few bytes must not ask for gigabytes."""
    stored = sum(value.size for value in weights.values())
    own = {name: int(settings[name]) for name in graph.extra_sizes}
    sizes = {"input": int(said["input_size"]), "hidden": int(said["hidden_size"]), **own}
    layers = int(said["num_layers"])
    # Layers after the first read at least one number.
    first, other = (graph.parameter_count(found, given=True) for found in (sizes, {**sizes, "input": 1}))
    needed = first + (layers - 1) * other
    if needed > stored or max(layers, *sizes.values()) > max(stored, 1024):
        raise ValueError(f"the sizes need {needed:,} numbers or more, but there are {stored:,}")


def _tensors(module: Recurrent, weights: dict[str, np.ndarray], start: Any, dtype: str) -> dict[str, np.ndarray]:
    """The parameters of a module by their names in it."""
    operator = find_operator(module.graph) if dtype == "float32" else None
    found: dict[str, np.ndarray] = {}
    for number, direction in enumerate(module.layers):
        assert isinstance(direction, Direction)
        if operator is None:
            own = {name: weights[f"layers.{number}.{name}"] for name in direction.attributes}
        else:
            layer, side = divmod(number, module.directions)
            packed = {part: weights.get(f"layers.{layer}.{part}") for part in ("W", "R", "B", "P")}
            own = unpack(operator, {part: value[side] for part, value in packed.items() if value is not None})
        found |= {f"layers.{number}.{direction.attributes[name]}": value for name, value in own.items()}
        for name in direction.initial:
            found[f"layers.{number}.initial.{name}"] = np.array(start[number][name.removesuffix("_0")], dtype)
    return found
