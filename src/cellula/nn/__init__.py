"""torch modules made from formulas, in a namespace that can stand in the place of `torch.nn`.

What is not ours is torch's: with `from cellula import nn` instead of `from torch import nn`, `nn.LSTM` is ours and
`nn.Linear` torch's.
"""

from typing import Any

import torch.nn

from cellula.nn.cells import GRUCell, LSTMCell, RNNCell
from cellula.nn.drop_in import GRU, LSTM, RNN
from cellula.nn.hopfield import (
    DenseHopfieldMemory,
    HopfieldAssociation,
    HopfieldLookup,
    HopfieldMemory,
    HopfieldPooling,
)
from cellula.nn.onnx_node import RecurrentNode
from cellula.nn.recurrent import Recurrent
from cellula.nn.replace import replace
from cellula.nn.truncated import Chunk, truncated

__all__ = [
    "GRU",
    "LSTM",
    "RNN",
    "Chunk",
    "DenseHopfieldMemory",
    "GRUCell",
    "HopfieldAssociation",
    "HopfieldLookup",
    "HopfieldMemory",
    "HopfieldPooling",
    "LSTMCell",
    "RNNCell",
    "Recurrent",
    "RecurrentNode",
    "replace",
    "truncated",
]


def __getattr__(name: str) -> Any:
    if not name.startswith("_") and hasattr(torch.nn, name):
        return getattr(torch.nn, name)
    raise AttributeError(f"module 'cellula.nn' has no attribute {name!r}, nor has torch.nn")


def __dir__() -> list[str]:
    return sorted({*globals(), *dir(torch.nn)})
