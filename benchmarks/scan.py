"""Cells whose units run through time by themselves: blocks of steps and scans beside steps one by one.

    python benchmarks/scan.py            # under five minutes; benchmarks/results/scan.json and scan.md
    python benchmarks/scan.py --quick    # does it work at all; saved only where --json says

Contestants: `blocks`, generated C as `auto` chooses it; `steps`, generated C one step at a time; `scan`, plain torch
with a scan over time; `reference`, plain torch with a loop over time (up to 1,000 steps); `log space`, a minGRU in
torch as public code writes it for training in parallel: sums of logarithms, and a logarithm of a cumulative sum of
exponentials (Feng et al. 2024, appendix B), with the positive candidate that it needs.
What ours compute is compared before it is timed. Of minGRU the error of each way is measured too, also where gates are
0 and 1.
"""

from __future__ import annotations

import argparse
import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from peers.machine import describe, machine
from peers.timing import Pace, interleave, spread
from torch import Tensor
from torch.nn.functional import softplus
from tqdm import tqdm

from cellula import Recurrent
from cellula.tasks.atomic import write_atomic

RESULTS = Path(__file__).resolve().parent / "results" / "scan.json"
# Batch, steps, input = hidden.
SHAPES = ((1, 1_000, 64), (1, 10_000, 128), (1, 100_000, 64), (8, 1_000, 256), (32, 1_000, 64))
FEW = ((1, 10_000, 128), (8, 1_000, 256))
CASES = {"mingru": SHAPES, **dict.fromkeys(("minlstm", "qrnn_fo", "lru", "rg_lru", "mlp", "sru"), FEW)}
NOT_AFFINE = ("sru",)
LONGEST_LOOP = 1_000
OURS = {"blocks": "c", "steps": "c_steps", "scan": "scan", "reference": "reference"}
TOLERANCE = 1e-3


class LogSpace(torch.nn.Module):
    """A minGRU whose scan runs over logarithms: h[t] = (1 - z[t]) * h[t-1] + z[t] * g(n[t]) with g positive."""

    def __init__(self, size: int) -> None:
        super().__init__()
        self.gate, self.candidate = torch.nn.Linear(size, size), torch.nn.Linear(size, size)

    def forward(self, x: Tensor) -> Tensor:
        """The output [T, B, H], from a state of 0."""
        k, n = self.gate(x), self.candidate(x)
        log_keep, log_take = -softplus(k), -softplus(-k)
        log_candidate = torch.where(n >= 0, (torch.relu(n) + 0.5).log(), -softplus(-n))
        kept = log_keep.cumsum(0)
        return (kept + (log_take + log_candidate - kept).logcumsumexp(0)).exp()

    def exactly(self, x: Tensor) -> Tensor:
        """The same step by step in float64."""
        own = LogSpace(x.shape[-1]).double()
        own.load_state_dict(self.state_dict())
        x = x.double()
        z, n = torch.sigmoid(own.gate(x)), own.candidate(x)
        new = z * torch.where(n >= 0, n + 0.5, torch.sigmoid(n))
        return steps_of(1 - z, new)


def steps_of(keep: Tensor, new: Tensor) -> Tensor:
    """value[t] = keep[t] * value[t-1] + new[t], one step after the other."""
    value, values = torch.zeros_like(new[0]), []
    for now, more in zip(keep, new, strict=True):
        value = now * value + more
        values.append(value)
    return torch.stack(values)


def call_of(module: Callable[[Tensor], Any], x: Tensor, train: bool) -> Callable[[], Any]:
    """One call, with its gradients where it trains."""
    own = x.clone().requires_grad_(train)

    def run() -> Any:
        with torch.set_grad_enabled(train):
            made = module(own)
            output = made[0] if isinstance(made, tuple) else made
        if not train:
            return output
        parameters = list(module.parameters()) if isinstance(module, torch.nn.Module) else []
        return output, *torch.autograd.grad(output.square().mean(), [own, *parameters])

    return run


def contestants(cell: str, shape: tuple[int, int, int], train: bool) -> dict[str, Callable[[], Any]]:
    """Who runs a case, first the one that all others are compared with."""
    batch, steps, size = shape
    torch.manual_seed(0)
    x = torch.randn(steps, batch, size)
    first = Recurrent(cell, size, size, backend="c")
    found: dict[str, Callable[[], Any]] = {}
    for name, backend in OURS.items():
        if (name == "reference" and steps > LONGEST_LOOP) or (name == "scan" and cell in NOT_AFFINE):
            continue
        module = Recurrent(cell, size, size, backend=backend)
        module.load_state_dict(first.state_dict())
        found[name] = call_of(module, x, train)
    agree(found, cell, shape)
    if cell == "mingru":
        found["log space"] = call_of(LogSpace(size), x, train)
    return found


def agree(calls: dict[str, Callable[[], Any]], cell: str, shape: tuple[int, int, int]) -> None:
    """All must compute the same, gradients too."""
    results = {name: call() for name, call in calls.items()}
    whole = {
        name: [value.detach() for value in (one if isinstance(one, tuple) else (one,))] for name, one in results.items()
    }
    for name, values in whole.items():
        for one, other in zip(values, whole["blocks"], strict=True):
            error = float((one - other).abs().amax() / (1e-3 + other.abs().amax()))
            if not error < TOLERANCE:
                raise SystemExit(f"{name} and blocks differ by {error:.2g} for {cell} at {shape}")


def errors(steps: int, scale: float) -> dict[str, Any]:
    """The largest error of each way in float32, against the same steps in float64."""
    torch.manual_seed(0)
    x, size = torch.randn(steps, 1, 16) * scale, 16
    row: dict[str, Any] = {"steps": steps, "scale": scale}
    modules: dict[str, Recurrent] = {n: Recurrent("mingru", size, size, backend=OURS[n]) for n in ("blocks", "scan")}
    modules["scan"].load_state_dict(modules["blocks"].state_dict())
    own = {name.rpartition(".")[2]: value.double() for name, value in modules["scan"].state_dict().items()}
    wide = x.double()
    z = torch.sigmoid(wide @ own["W_z"] + own["b_z"])
    exact = steps_of(1 - z, z * (wide @ own["W_h"] + own["b_h"]))
    with torch.no_grad():
        for name, module in modules.items():
            row[name] = relative(module(x)[0], exact)
        log_space = LogSpace(size)
        row["log space"] = relative(log_space(x), log_space.exactly(x))
    return row


def relative(found: Tensor, exact: Tensor) -> float | str:
    """The largest error, relative to the largest value; `"NaN"` where there is any."""
    found, exact = found.detach(), exact.detach()
    if not torch.isfinite(found).all():
        return "NaN"
    return float((found.double() - exact).abs().amax() / exact.abs().amax())


def measure(quick: bool) -> dict[str, Any]:
    """All rows."""
    pace = Pace(least=2, most=2, budget=0.01) if quick else Pace(least=3, most=15, budget=0.3)
    cases = {"mingru": ((1, 100, 16),), "lru": ((2, 50, 16),)} if quick else CASES
    most = torch.get_num_threads()
    counts = [count for count in (1, 2) if count <= most]
    jobs = [
        (threads, cell, shape, mode)
        for threads in counts
        for cell, shapes in cases.items()
        for shape in shapes
        for mode in ("training", "inference")
    ]
    rows = []
    for threads, cell, shape, mode in tqdm(jobs, disable=None, unit="case"):
        torch.set_num_threads(threads)
        samples = interleave(contestants(cell, shape, mode == "training"), pace)
        seconds = {name: spread(found).median for name, found in samples.items()}
        rows.append({"cell": cell, "shape": shape, "mode": mode, "threads": threads, "seconds": seconds})
    torch.set_num_threads(most)
    lengths = (100,) if quick else (1_000, 10_000)
    accuracy = [errors(steps, scale) for steps in lengths for scale in (1.0, 100.0)]
    return {"machine": machine(), "rows": rows, "errors": accuracy}


def report(record: dict[str, Any]) -> str:
    """The tables."""
    lines = [
        "# Scans and blocks of steps", "", describe(record["machine"]), "",
        "Milliseconds of `blocks` (generated C in blocks of steps, which `auto` takes), and how many times as long the",
        "others take: `steps`, generated C step by step; `scan`, plain torch with a scan over time; `reference`, plain",
        "torch step by step; `log space`, a minGRU in torch as public code scans it.", "",
        "| cell | batch, steps, units | | threads | blocks, ms | steps | scan | reference | log space |",
        "|---|---|---|---|---|---|---|---|---|",
    ]  # fmt: skip
    for row in record["rows"]:
        seconds = row["seconds"]
        own = seconds["blocks"]
        others = [
            f"{seconds[n] / own:.2f}" if n in seconds else "-" for n in ("steps", "scan", "reference", "log space")
        ]
        shape = ", ".join(map(str, row["shape"]))
        lines.append(
            f"| {row['cell']} | {shape} | {row['mode']} | {row['threads']} | {own * 1e3:.2f} | {' | '.join(others)} |"
        )
    lines += ["", "Geometric means over all rows:", "", "| | mode | threads | factor |", "|---|---|---|---|"]
    lines += means(record["rows"])
    lines += [
        "", "The largest error of a minGRU in float32 relative to the largest value, against float64 step by step;",
        "with inputs times 100 most gates are 0 or 1.", "",
        "| steps | inputs times | blocks | scan | log space |", "|---|---|---|---|---|",
    ]  # fmt: skip
    for row in record["errors"]:
        found = [
            one if isinstance(one, str) else f"{one:.1e}" for one in (row["blocks"], row["scan"], row["log space"])
        ]
        lines.append(f"| {row['steps']} | {row['scale']:g} | {' | '.join(found)} |")
    return "\n".join(lines) + "\n"


def means(rows: list[dict[str, Any]]) -> list[str]:
    """The mean factor of each other contestant."""
    lines = []
    for name in ("steps", "scan", "reference", "log space"):
        for mode, threads in dict.fromkeys((row["mode"], row["threads"]) for row in rows):
            own = [row["seconds"] for row in rows if (row["mode"], row["threads"]) == (mode, threads)]
            logs = [math.log(one[name] / one["blocks"]) for one in own if name in one]
            if logs:
                lines.append(f"| {name} | {mode} | {threads} | {math.exp(sum(logs) / len(logs)):.2f} |")
    return lines


def main() -> None:
    """Measure, print, save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="tiny shapes, few rounds")
    parser.add_argument("--json", type=Path, metavar="FILE", help="all numbers; the tables go beside it as .md")
    options = parser.parse_args()
    record = measure(options.quick)
    text = report(record)
    print(text)
    path = options.json or (None if options.quick else RESULTS)
    if path is not None:
        write_atomic(path, (json.dumps(record, indent=1) + "\n").encode())
        write_atomic(path.with_suffix(".md"), text.encode())


if __name__ == "__main__":
    main()
