"""The table of how far back every cell remembers as it starts: docs/cells/memory.json.

tools/measure_memory.py fills it, tools/make_docs.py shows it; nothing here needs torch.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from cellula import Graph, cells, load_cell, print_formula

FILE = Path(__file__).parent.parent / "docs" / "cells" / "memory.json"
INPUT, HIDDEN, STEPS, ROWS, SEED = 128, 128, 200, 2, 0
# Near steps one by one, far ones further apart.
LAGS = [*range(21), *range(22, 41, 2), *range(44, 101, 4), *range(108, 197, 8), STEPS - 1]
HOW = (
    f"the gradient of the last of {STEPS} outputs with respect to the input so many steps before, root mean square "
    f"over random directions and {ROWS} sequences of normal noise; input = hidden = {HIDDEN}, float64, as it starts"
)


def fingerprint(graph: Graph) -> str:
    """Short for all that a cell computes and how it starts; title and comments do not count."""
    body = "\n".join(line.split("#")[0].rstrip() for line in print_formula(graph).split('"""')[-1].split("\n"))
    return hashlib.sha256(body.encode()).hexdigest()[:12]


def stale(kept: dict[str, Any]) -> list[str]:
    """The cells whose numbers are missing or belong to another formula."""
    return [name for name in cells() if kept.get(name, {}).get("formula") != fingerprint(load_cell(name))]


def read() -> dict[str, Any]:
    """Name of the cell -> what was measured."""
    return json.loads(FILE.read_text(encoding="utf-8"))["cells"] if FILE.exists() else {}


def write(kept: dict[str, Any]) -> None:
    """One line a cell, so that a change is easy to see."""
    rows = ",\n".join(f'  "{name}": {json.dumps(kept[name])}' for name in cells() if name in kept)
    head = json.dumps({"how": HOW, "lags": LAGS}, indent=1)[1:-2].replace("\n  ", " ").replace("[ ", "[")
    FILE.write_text(f'{{{head},\n "cells": {{\n{rows}\n }}\n}}\n', encoding="utf-8")
