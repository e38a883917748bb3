"""LSTM, GRU and RNN for code that was written for torch.nn."""

from __future__ import annotations

import torch

from cellula.errors import UsageError
from cellula.nn.forms import MODES
from cellula.nn.layers import Layers

__all__ = ["GRU", "LSTM", "RNN"]


class LSTM(Layers):
    """Long short-term memory, in the place of `torch.nn.LSTM`.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, proj_size, device, dtype: as in
            torch.nn.LSTM.

    Called, it takes and returns what torch.nn.LSTM does, and more: see `Layers`.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> lstm = nn.LSTM(3, 8, num_layers=2, bidirectional=True)
        >>> output, (h_n, c_n) = lstm(torch.zeros(5, 4, 3), lengths=[5, 2, 0, 3])
        >>> output.shape, h_n.shape
        (torch.Size([5, 4, 16]), torch.Size([4, 4, 8]))

    Reference:
        The formula is `lstm`, with proj_size `projected_lstm`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype)  # fmt: skip


class GRU(Layers):
    """Gated recurrent unit, in the place of `torch.nn.GRU`; with `proj_size` too.

    Args:
        input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional, device, dtype: as in
            torch.nn.GRU.
        proj_size: units of the output, which is a linear map of the memory and is fed back; 0 for none. With it `hx` is
            a tuple (h, m) of the output's last step and the memory, as that of a projected LSTM is (h, c).

    Called, it takes and returns what torch.nn.GRU does, and more: see `Layers`.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> output, h_n = nn.GRU(3, 8, batch_first=True)(torch.zeros(4, 5, 3))
        >>> output.shape, h_n.shape
        (torch.Size([4, 5, 8]), torch.Size([1, 4, 8]))
        >>> output, (h_n, m_n) = nn.GRU(3, 8, proj_size=2)(torch.zeros(5, 4, 3))
        >>> output.shape, h_n.shape, m_n.shape
        (torch.Size([5, 4, 2]), torch.Size([1, 4, 2]), torch.Size([1, 4, 8]))

    Reference:
        The formula is `gru_torch`, with proj_size `projected_gru`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, bias: bool = True, batch_first: bool = False,
        dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__("GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
                         proj_size, device, dtype)  # fmt: skip


class RNN(Layers):
    """Elman network with tanh or relu, in the place of `torch.nn.RNN`; with `proj_size` too.

    Args:
        input_size, hidden_size, num_layers, nonlinearity, bias, batch_first, dropout, bidirectional, device, dtype: as
            in torch.nn.RNN.
        proj_size: units of the output, which is a linear map of the hidden units and is fed back; 0 for none.

    Called, it takes and returns what torch.nn.RNN does, and more: see `Layers`.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> output, h_n = nn.RNN(3, 8, nonlinearity="relu")(torch.zeros(5, 3))
        >>> output.shape, h_n.shape
        (torch.Size([5, 8]), torch.Size([1, 8]))

    Reference:
        The formula is `elman`, with relu `irnn`.
    """

    def __init__(
        self, input_size: int, hidden_size: int, num_layers: int = 1, nonlinearity: str = "tanh", bias: bool = True,
        batch_first: bool = False, dropout: float = 0.0, bidirectional: bool = False, proj_size: int = 0,
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if nonlinearity not in MODES:
            raise UsageError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(MODES[nonlinearity], input_size, hidden_size, num_layers, bias, batch_first, dropout,
                         bidirectional, proj_size, device, dtype)  # fmt: skip
