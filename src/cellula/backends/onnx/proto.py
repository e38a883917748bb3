"""An ONNX model as the bytes of its file. This is where the `onnx` package is needed."""

from __future__ import annotations

from typing import Any

import numpy as np

from cellula.backends.onnx.model import Attribute, Body, Call, Model, Port
from cellula.backends.onnx.spelling import OPSET
from cellula.errors import UsageError, missing_package

__all__ = ["onnx_package", "to_bytes"]

# The version of the file format that came with opset 18; newer runtimes read it, those of its time too.
IR_VERSION = 8
# What a protobuf message may hold.
LARGEST = 2**31 - 1


def onnx_package() -> Any:
    """The `onnx` package.

    Raises:
        MissingPackageError: it is not installed.
    """
    try:
        # Imported when it is used: it is heavy, and only these two ways need it.
        import onnx
        import onnx.helper
        import onnx.numpy_helper
    except ModuleNotFoundError as error:
        raise missing_package(error) from error
    return onnx


def to_bytes(model: Model, producer_version: str) -> bytes:
    """The content of the `.onnx` file; the same model gives the same bytes.

    Raises:
        UsageError: the weights are larger than a file can hold.
        MissingPackageError: the `onnx` package is not installed.
    """
    size = sum(value.nbytes for value in model.weights.values())
    if size > LARGEST - 2**20:
        raise UsageError(f"the weights take {size:,} bytes; a file of ONNX holds less than {LARGEST:,}")
    onnx = onnx_package()
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in model.weights.items()]
    graph = _graph(onnx, model.body, weights)
    made = onnx.helper.make_model(
        graph,
        opset_imports=[onnx.helper.make_opsetid("", OPSET)],
        ir_version=IR_VERSION,
        producer_name="cellula",
        producer_version=producer_version,
        doc_string=model.title,
    )
    onnx.helper.set_model_props(made, dict(model.metadata))
    return made.SerializeToString(deterministic=True)


def _graph(onnx: Any, body: Body, weights: list[Any]) -> Any:
    nodes = [_node(onnx, call) for call in body.calls]
    ports = ([_port(onnx, port) for port in ports] for ports in (body.inputs, body.outputs))
    return onnx.helper.make_graph(nodes, body.name, *ports, weights)


def _port(onnx: Any, port: Port) -> Any:
    kind = onnx.helper.np_dtype_to_tensor_dtype(np.dtype(port.type))
    return onnx.helper.make_tensor_value_info(port.name, kind, list(port.shape))


def _node(onnx: Any, call: Call) -> Any:
    # A node is called like its result: then messages of a runtime can be found in the graph.
    node = onnx.helper.make_node(call.op, list(call.inputs), list(call.outputs), name=call.outputs[0])
    node.attribute.extend(_attribute(onnx, name, value) for name, value in call.attributes)
    return node


def _attribute(onnx: Any, name: str, value: Attribute) -> Any:
    return onnx.helper.make_attribute(name, _graph(onnx, value, []) if isinstance(value, Body) else value)
