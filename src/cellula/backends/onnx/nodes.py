"""The recurrent nodes of an ONNX file, with their constants."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from cellula.backends.onnx.proto import onnx_package
from cellula.backends.onnx.reader import ATTRIBUTES
from cellula.errors import RunError, UsageError

__all__ = ["Found", "find_nodes", "initializers", "load_proto"]

RANDOM = ("Bernoulli", "Multinomial", "RandomNormalLike", "RandomUniformLike")

# The inputs of the operators after X, in their order.
INPUTS = {
    "LSTM": ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("W", "R", "B", "sequence_lens", "initial_h"),
}
WEIGHTS = ("W", "R", "B", "P")


def load_proto(path: Path) -> Any:
    """The content of an ONNX file; no code of it is run.

    Raises:
        OSError: it cannot be read.
        RunError: it is no ONNX file.
        MissingPackageError: the `onnx` package is not installed.
    """
    onnx = onnx_package()
    data = path.read_bytes()
    try:
        proto = onnx.load_model_from_string(data)
        onnx.load_external_data_for_model(proto, str(path.parent))
    # What protobuf and onnx raise on bytes that are something else.
    except Exception as error:
        raise RunError(f"{path} cannot be read as an ONNX file: {error}") from error
    if not proto.graph.node:
        raise RunError(f"{path} is no ONNX file, or has no graph")
    return proto


def initializers(proto: Any) -> dict[str, np.ndarray]:
    """The weights of a file by name."""
    return {tensor.name: _array(tensor) for tensor in proto.graph.initializer}


def _array(tensor: Any) -> np.ndarray:
    array = onnx_package().numpy_helper.to_array(tensor)
    # numpy has no bfloat16 of its own; float32 holds all of its numbers.
    return array.astype(np.float32) if array.dtype.name == "bfloat16" else array


@dataclass(frozen=True)
class Found:
    """A recurrent node.

    Args:
        name: its own, or its operator and its place.
        kind: the operator.
        attributes: by name.
        inputs: `"W"`, `"R"`, ... -> the name of its value.
        graph: in which it stands.
    """

    name: str
    kind: str
    attributes: Mapping[str, Any]
    inputs: Mapping[str, str]
    graph: Any

    def tensors(self) -> dict[str, np.ndarray]:
        """The inputs that are constants.

        Raises:
            UsageError: weights are not.
        """
        constants = _Constants(self.graph)
        found: dict[str, np.ndarray] = {}
        for word, name in self.inputs.items():
            value = constants.value(name)
            if value is not None:
                found[word] = value
            elif word in WEIGHTS:
                raise UsageError(
                    f"{word} of the node {self.name} is not constant in the file: fold its constants first"
                )
            elif name not in constants.given:
                warnings.warn(
                    f"{word} of the node {self.name} is computed by the file: give it to the module, "
                    f"which takes {'all steps' if word == 'sequence_lens' else 'zero'} where nothing is given",
                    stacklevel=4,
                )
        return found


def find_nodes(proto: Any) -> dict[str, Found]:
    """The recurrent nodes of a file's graph by their names."""
    onnx, found = onnx_package(), {}
    for number, node in enumerate(proto.graph.node):
        if node.op_type in ATTRIBUTES and node.domain in ("", "ai.onnx"):
            name = node.name if node.name and node.name not in found else f"{node.op_type}_{number}"
            given = {attribute.name: _plain(onnx.helper.get_attribute_value(attribute)) for attribute in node.attribute}
            inputs = dict(zip(INPUTS[node.op_type], node.input[1:], strict=False))
            inputs = {word: value for word, value in inputs.items() if value}
            found[name] = Found(name, node.op_type, given, inputs, proto.graph)
    return found


def _plain(value: Any) -> Any:
    """An attribute's value with texts for bytes."""
    if isinstance(value, bytes):
        return value.decode()
    return [_plain(entry) for entry in value] if isinstance(value, list | tuple) else value


class _Constants:
    """The values of a graph that do not depend on its inputs."""

    def __init__(self, graph: Any) -> None:
        self.stored = {tensor.name: tensor for tensor in graph.initializer}
        self.made_by = {name: node for node in graph.node for name in node.output if name}
        self.given = {port.name for port in graph.input}
        self.known: dict[str, np.ndarray | None] = {}

    def value(self, name: str) -> np.ndarray | None:
        """The constant of this name; None where it is none."""
        stack = [name]
        while stack:
            current = stack[-1]
            node = None if current in self.stored else self.made_by.get(current)
            missing = [] if node is None else [entry for entry in node.input if entry and entry not in self.known]
            if current in self.known or not missing:
                stack.pop()
                self.known.setdefault(current, None)
                if self.known[current] is None:
                    self.known[current] = self._computed(current, node)
            elif len(stack) > len(self.made_by):
                # A circle, which no valid file has.
                return None
            else:
                stack += missing
        return self.known[name]

    def _computed(self, name: str, node: Any) -> np.ndarray | None:
        if name in self.stored:
            return _array(self.stored[name])
        # A node without inputs may draw random numbers; `Constant` alone is one.
        if node is None or (not node.input and node.op_type != "Constant") or node.op_type in RANDOM:
            return None
        feeds = {entry: self.known[entry] for entry in node.input if entry}
        if any(value is None for value in feeds.values()):
            return None
        # Only files whose weights are put together in the graph need it.
        from onnx.reference import ReferenceEvaluator

        try:
            results = ReferenceEvaluator(node).run(None, feeds)
        # Whatever it cannot compute is no constant for us; the caller says which weights are concerned.
        except Exception:
            return None
        return np.asarray(list(results)[list(node.output).index(name)])
