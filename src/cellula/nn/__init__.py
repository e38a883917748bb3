"""torch modules made from formulas."""

from cellula.nn.cells import GRUCell, LSTMCell, RNNCell
from cellula.nn.drop_in import GRU, LSTM, RNN
from cellula.nn.recurrent import Recurrent
from cellula.nn.replace import replace
from cellula.nn.truncated import Chunk, truncated

__all__ = ["GRU", "LSTM", "RNN", "Chunk", "GRUCell", "LSTMCell", "RNNCell", "Recurrent", "replace", "truncated"]
