"""torch modules made from formulas."""

from cellula.nn.recurrent import Recurrent
from cellula.nn.truncated import Chunk, truncated

__all__ = ["Chunk", "Recurrent", "truncated"]
