"""torch modules made from formulas."""

from cellula.nn.onnx_node import RecurrentNode
from cellula.nn.recurrent import Recurrent
from cellula.nn.truncated import Chunk, truncated

__all__ = ["Chunk", "Recurrent", "RecurrentNode", "truncated"]
