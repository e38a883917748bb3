"""How the reference back end stands beside torch's own LSTM: forward and backward, interleaved, one thread.

python benchmarks/reference.py [repeats]
"""

from __future__ import annotations

import statistics
import sys
import time

import torch

from cellula import Recurrent

STEPS, BATCH, INPUT, HIDDEN = 168, 256, 5, 64


def seconds(module: torch.nn.Module, x: torch.Tensor) -> tuple[float, float]:
    """One forward and one backward pass."""
    begin = time.perf_counter()
    output = module(x)[0]
    middle = time.perf_counter()
    output.square().mean().backward()
    return middle - begin, time.perf_counter() - middle


def main(repeats: int) -> None:
    """Print the medians."""
    torch.set_num_threads(1)
    torch.manual_seed(0)
    x = torch.randn(STEPS, BATCH, INPUT)
    modules = {"cellula, reference": Recurrent("lstm", INPUT, HIDDEN), "torch.nn.LSTM": torch.nn.LSTM(INPUT, HIDDEN)}
    found: dict[str, list[tuple[float, float]]] = {name: [] for name in modules}
    for repeat in range(repeats + 2):
        for name, module in modules.items():
            times = seconds(module, x)
            if repeat >= 2:  # the first two warm up
                found[name].append(times)
    print(f"LSTM, {STEPS} steps, batch {BATCH}, {INPUT} inputs, {HIDDEN} units, one thread, torch {torch.__version__}")
    for name, times in found.items():
        forward, backward = (statistics.median(column) for column in zip(*times, strict=True))
        print(f"{name:<20} forward {forward:.3f} s, backward {backward:.3f} s")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 15)
