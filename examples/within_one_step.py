"""What backpropagation through time is worth: remember a bit over a number of steps, and learn it in three ways.

The first input of every sequence is +1 or -1, and noise of the same strength follows; after the last step the network
must say which it was. With gradients that stay within one step (k = 1) nothing teaches the cell to keep the bit and to
shut out the noise.

    python examples/within_one_step.py [cell]
"""

from __future__ import annotations

import sys

import torch

from cellula import Recurrent, truncated

STEPS, BATCH, ROUNDS = 16, 32, 400


def train(cell: str, reach: int) -> float:
    """The share of right answers after training with gradients that reach this many steps back."""
    torch.manual_seed(0)
    network, readout = Recurrent(cell, 2, 16), torch.nn.Linear(16, 1)
    optimizer = torch.optim.Adam([*network.parameters(), *readout.parameters()], lr=0.01)
    right = 0.0
    for _ in range(ROUNDS):
        bit = torch.randint(0, 2, (BATCH, 1)).float()
        x = torch.randn(STEPS, BATCH, 2)  # the second channel marks the first step
        x[..., 1] = 0.0
        x[0] = torch.cat([2 * bit - 1, torch.ones(BATCH, 1)], -1)
        # Only the last piece has an answer to learn from; its gradient reaches `reach` steps back.
        *_, last = truncated(network, x, k1=reach)
        answer = readout(last.output[-1])
        loss = torch.nn.functional.binary_cross_entropy_with_logits(answer, bit)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        right = 0.9 * right + 0.1 * ((answer > 0) == (bit > 0.5)).float().mean().item()
    return right


if __name__ == "__main__":
    torch.set_num_threads(1)
    cell = sys.argv[1] if len(sys.argv) > 1 else "lstm"
    for reach in (1, STEPS // 4, STEPS):
        print(f"{cell}: gradients reach {reach:2d} of {STEPS} steps back: {train(cell, reach):.0%} right")
