"""What the outer sigmoid of the LSTM that many texts print does to long memory.

The usual cell adds to its memory: c[t] = f*c[t-1] + i*g. The printed one squashes the sum:
c[t] = sigmoid(f*c[t-1] + i*g). Here the same random inputs go through both, and the script prints how much a change of
c[0] still changes c[T]: the mean over units and sequences of |dc[T]/dc[0]|, summed over the units of c[T].

    python examples/outer_sigmoid.py
"""

from __future__ import annotations

import torch

from cellula import Recurrent

LAGS = (1, 2, 5, 10, 20, 50)
BATCH, UNITS = 64, 32


def influence(cell: Recurrent, steps: int) -> float:
    """The mean |dc[steps] / dc[0]|, along the units."""
    x = torch.randn(steps, BATCH, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    start = torch.zeros(1, BATCH, UNITS, dtype=torch.float64, requires_grad=True)
    _, state = cell(x, cell.state(c=start, h=torch.zeros_like(start)))
    (gradient,) = torch.autograd.grad(state.c.sum(), start)
    return gradient.abs().mean().item()


def cells() -> dict[str, Recurrent]:
    """The printed cell, the usual one as it starts, and the usual one with its forget gates open."""
    torch.manual_seed(0)
    usual, opened = Recurrent("lstm", 8, UNITS).double(), Recurrent("lstm", 8, UNITS).double()
    opened.load_state_dict(usual.state_dict())
    with torch.no_grad():
        opened.layers[0].get_parameter("b_f").fill_(10.0)
    return {
        "lstm_printed": Recurrent("lstm_printed", 8, UNITS).double(),
        "lstm, as it starts": usual,
        "lstm, forget gates open": opened,
    }


if __name__ == "__main__":
    torch.set_num_threads(1)
    print(f"{'steps back':<26}" + "".join(f"{lag:>10}" for lag in LAGS))
    for name, cell in cells().items():
        print(f"{name:<26}" + "".join(f"{influence(cell, lag):>10.2g}" for lag in LAGS))
