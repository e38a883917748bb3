"""What a cell costs: parameters, operations of a step, and the time of a training step on this machine."""

from __future__ import annotations

import time
from typing import Any

import torch

from cellula import load_cell
from cellula.graph.ops import OPS
from cellula.plan.costs import costs
from cellula.plan.kernel import make_kernel
from memory_tasks.adding import ADDING
from memory_tasks.plan import fingerprint
from memory_tasks.training import Network

__all__ = ["price"]

# Short groups: one of them is likely to run without being disturbed.
GROUPS, STEPS = 40, 3


def price(cell: str, hidden: int, groups: int = GROUPS) -> dict[str, Any]:
    """The costs of a cell on the adding problem.

    Args:
        cell: a name of the zoo.
        hidden: units.
        groups: how often `STEPS` steps are timed; the least time counts.

    Returns:
        cell, formula, hidden; `parameters` of the recurrent layer; `operations` of one step of one sequence, forward
        and backward with the gradients of the weights, as the plan counts them; `saved_bytes` that such a step keeps;
        `milliseconds` of processor time of a training step without the optimizer; `backend`.
    """
    torch.manual_seed(0)
    network = Network(cell, ADDING, hidden)
    kernel = make_kernel(load_cell(cell), OPS, backward=True)
    found = costs(kernel, {"input": ADDING.input_size, "hidden": hidden})
    return {
        "cell": cell,
        "formula": fingerprint(cell),
        "hidden": hidden,
        "parameters": sum(value.numel() for value in network.recurrent.parameters()),
        "operations": found.operations,
        "saved_bytes": found.saved_bytes,
        "milliseconds": 1000 * _least_time(network, groups),
        "backend": network.recurrent.backend,
    }


def _least_time(network: Network, groups: int) -> float:
    """Seconds of processor time of forward and backward on the task's batch."""
    batch = ADDING.draw(ADDING.batch, torch.Generator().manual_seed(0))
    times = []
    for _ in range(groups):
        began = time.process_time()
        for _ in range(STEPS):
            network.zero_grad()
            ADDING.loss(network(batch.x), batch).backward()
        times.append((time.process_time() - began) / STEPS)
    return min(times)
