"""torch modules made from formulas, and associative memories."""

from cellula.nn.hopfield import (
    DenseHopfieldMemory,
    HopfieldAssociation,
    HopfieldLookup,
    HopfieldMemory,
    HopfieldPooling,
)
from cellula.nn.onnx_node import RecurrentNode
from cellula.nn.recurrent import Recurrent
from cellula.nn.truncated import Chunk, truncated

__all__ = [
    "Chunk",
    "DenseHopfieldMemory",
    "HopfieldAssociation",
    "HopfieldLookup",
    "HopfieldMemory",
    "HopfieldPooling",
    "Recurrent",
    "RecurrentNode",
    "truncated",
]
