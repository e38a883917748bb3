"""JAX: a jitted `lax.scan` with the input product hoisted, gradients by `jax.vjp`, compiled as one function.

JAX takes the threads of its CPU client from the cores that the process may run on when it starts, so the process that
measures is bound to as many cores as it has threads before it imports anything.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
from torch import Tensor

from peers.eager import reordered
from peers.problem import Contestant, Problem, Unavailable

__all__ = ["make_jax"]


def make_jax(problem: Problem) -> Contestant:
    """The cell's scan with our weights; arrays are made once, calls wait until every result is there."""
    try:
        # Optional, and importing it starts threads.
        jax, jnp = import_module("jax"), import_module("jax.numpy")
    except ImportError as error:
        raise Unavailable("jax is not installed: pip install jax==0.10.2") from error
    forward = _forward(jax, jnp, problem.case.cell)
    x, cotangent = (jnp.asarray(value.numpy()) for value in (problem.x, problem.cotangent))
    weights = {kind: jnp.asarray(value.numpy()) for kind, value in reordered(problem, problem.weights).items()}

    def train(x: Any, weights: Any, cotangent: Any) -> Any:
        output, pull = jax.vjp(forward, x, weights)
        return output, pull(cotangent)

    def read(found: Any) -> dict[str, Tensor]:
        if not problem.training:
            return {"output": _tensor(found)}
        output, (dx, gradients) = found
        named = reordered(problem, {kind: _tensor(value) for kind, value in gradients.items()})
        return {"output": _tensor(output), "x": _tensor(dx), **named}

    compiled = jax.jit(train if problem.training else forward)
    arguments = (x, weights, cotangent) if problem.training else (x, weights)
    return Contestant(lambda: jax.block_until_ready(compiled(*arguments)), read)


def _tensor(value: Any) -> Tensor:
    return torch.from_numpy(np.array(value))


def _forward(jax: Any, jnp: Any, cell: str) -> Callable[[Any, Any], Any]:
    """Input [T, B, I] and weights -> output [T, B, H]."""
    step, states = _steps(jax, jnp)[cell]

    def forward(x: Any, weights: Any) -> Any:
        steps, batch, units = x.shape[0], x.shape[1], weights["U"].shape[0]
        given = (x.reshape(steps * batch, -1) @ weights["W"] + weights["b"]).reshape(steps, batch, -1)
        start = (jnp.zeros((batch, units), x.dtype),) * states

        def body(state: Any, given: Any) -> Any:
            state = step(state, given, weights)
            return state, state[0]

        return jax.lax.scan(body, start, given)[1]

    return forward


def _steps(jax: Any, jnp: Any) -> dict[str, tuple[Callable[..., Any], int]]:
    """Cell -> its step (state, given, weights) -> state, and how many states it has, the output first."""
    sigmoid, tanh = jax.nn.sigmoid, jnp.tanh

    def lstm(state: Any, given: Any, weights: Any) -> Any:
        h, c = state
        i, f, o, g = jnp.split(given + h @ weights["U"], 4, -1)
        c = sigmoid(f) * c + sigmoid(i) * tanh(g)
        return sigmoid(o) * tanh(c), c

    def gru(state: Any, given: Any, weights: Any) -> Any:
        (h,) = state
        product = jnp.split(h @ weights["U"], 3, -1)
        r, z, n = jnp.split(given, 3, -1)
        r, z = sigmoid(r + product[0]), sigmoid(z + product[1])
        n = tanh(n + r * (product[2] + weights["c"]))
        return (n + z * (h - n),)

    def elman(state: Any, given: Any, weights: Any) -> Any:
        return (tanh(given + state[0] @ weights["U"]),)

    def peephole_lstm(state: Any, given: Any, weights: Any) -> Any:
        h, c = state
        i, f, o, g = jnp.split(given + h @ weights["U"], 4, -1)
        at_i, at_f, at_o = jnp.split(weights["p"], 3)
        c = sigmoid(f + at_f * c) * c + sigmoid(i + at_i * c) * tanh(g)
        return sigmoid(o + at_o * c) * tanh(c), c

    return {"lstm": (lstm, 2), "gru": (gru, 1), "elman": (elman, 1), "peephole_lstm": (peephole_lstm, 2)}
