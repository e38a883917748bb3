"""torch.compile of the loop in plain torch. It unrolls the loop, so that compiling takes the longer the more steps."""

from __future__ import annotations

import torch

from peers.eager import FORWARD, make_loop
from peers.problem import Contestant, Problem

__all__ = ["make_compiled"]


def make_compiled(problem: Problem) -> Contestant:
    """The loop, compiled for this shape at the first call."""
    return make_loop(problem, torch.compile(FORWARD[problem.case.cell], dynamic=False, fullgraph=True))
