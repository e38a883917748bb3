"""Measure how far back every cell remembers as it starts, and keep the numbers in docs/cells/memory.json.

python tools/measure_memory.py           measure the cells whose formula has changed, and new ones
python tools/measure_memory.py lstm gru  measure these again

The pages of the cells show these numbers; tools/make_docs.py says which are missing.
"""

from __future__ import annotations

import math
import sys
from typing import Any

import torch
from memory_table import HIDDEN, INPUT, LAGS, ROWS, SEED, STEPS, fingerprint, read, stale, write

from cellula import Graph, Recurrent, load_cell
from cellula.inspection.memory import gradient_over_lags


def measure(graph: Graph) -> dict[str, Any]:
    """What is kept of a cell."""
    torch.manual_seed(SEED)
    sizes: dict[str, Any] = dict.fromkeys(graph.extra_sizes, HIDDEN)
    layer = Recurrent(graph, INPUT, HIDDEN, backend="reference", **sizes)
    found = gradient_over_lags(layer, torch.randn(STEPS, ROWS, INPUT), seed=SEED)
    norms = [float(found.norms[lag]) for lag in LAGS]
    if not all(map(math.isfinite, norms)):
        raise SystemExit(f"{graph.name}: the gradient is not finite from {found.not_finite_from} steps back on")
    return {
        "formula": fingerprint(graph),
        "verdict": found.verdict,
        "growth": float(f"{found.growth:.3g}"),
        "effective_memory": found.effective_memory,
        "cut_off": found.is_cut_off,
        "norms": [float(f"{norm:.3g}") for norm in norms],
    }


def main() -> None:
    """Measure what is asked for, saving after every cell."""
    kept = read()
    for name in sys.argv[1:] or stale(kept):
        kept[name] = measure(load_cell(name))
        write(kept)
        print(f"{name}: {kept[name]['verdict']}, {kept[name]['effective_memory']}", flush=True)
    write(kept)


if __name__ == "__main__":
    main()
