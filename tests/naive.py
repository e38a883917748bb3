"""The slow truth: a graph computed as it reads, one step after the other, with nothing shared with the back ends."""

import torch
from torch.nn import functional

from cellula.graph.node import Constant, Input, Parameter, Setting, State

FUNCTIONS = {
    "add": lambda a, b: a + b, "subtract": lambda a, b: a - b, "multiply": lambda a, b: a * b,
    "divide": lambda a, b: a / b, "power": lambda a, b: a**b, "negative": lambda a: -a,
    "less": lambda a, b: (a < b).to(a), "less_equal": lambda a, b: (a <= b).to(a),
    "greater": lambda a, b: (a > b).to(a), "greater_equal": lambda a, b: (a >= b).to(a),
    "equal": lambda a, b: (a == b).to(a), "not_equal": lambda a, b: (a != b).to(a),
    "exp": torch.exp, "log": torch.log, "sqrt": torch.sqrt, "abs": torch.abs, "sign": torch.sign, "sin": torch.sin,
    "cos": torch.cos, "erf": torch.erf, "tanh": torch.tanh, "min": torch.minimum, "max": torch.maximum,
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "sigmoid": lambda a: 1 / (1 + torch.exp(-a)), "relu": lambda a: torch.where(a > 0, a, 0.0),
    "leaky_relu": lambda a, slope: torch.where(a > 0, a, slope * a),
    "elu": lambda a, alpha: torch.where(a > 0, a, alpha * torch.expm1(torch.minimum(a, torch.zeros(1).to(a)))),
    "softplus": lambda a: torch.logaddexp(a, torch.zeros_like(a)), "silu": lambda a: a / (1 + torch.exp(-a)),
    "gelu": lambda a: a * torch.special.ndtr(a), "hard_sigmoid": lambda a: functional.relu6(a + 3) / 6,
    "hard_tanh": functional.hardtanh, "softsign": lambda a: a / (1 + a.abs()),
    "clip": lambda a, low, high: torch.minimum(torch.maximum(a, low), high),
    "sum": lambda a: a.sum(-1, True), "mean": lambda a: a.sum(-1, True) / a.shape[-1],
    "peak": lambda a: a.max(-1, True).values, "units": lambda a: torch.tensor([float(a.shape[-1])]).to(a),
    "expand": lambda a, b: a + 0 * b.detach(), "softmax": lambda a: torch.log_softmax(a, -1).exp(),
    "layer_norm": lambda a, epsilon: (a - a.mean(-1, True)) / (a.var(-1, correction=0, keepdim=True) + epsilon).sqrt(),
    "rms_norm": lambda a, epsilon: a / (a.pow(2).mean(-1, True) + epsilon).sqrt(),
    "dropout": lambda a, rate: a, "variational_dropout": lambda a, rate: a,
    "zoneout": lambda new, old, rate: (1 - rate) * new + rate * old,
}  # fmt: skip


def dense(matrix):
    """A diagonal [n], blocks [k, rows, columns] or a matrix as one matrix."""
    return torch.diag(matrix) if matrix.ndim == 1 else torch.block_diag(*matrix) if matrix.ndim == 3 else matrix


def run(graph, x, start, parameters, settings, sizes):
    """Every named node [T, B, units] (batch rows in any shape), and the state slots after the last step."""
    past = {name: [] for name in ("x", *graph.equation)}
    for state in reversed(graph.states):
        past[state.name].append(start[state.slot])
    for t in range(len(x)):
        now = {}

        def value(node, t=t, now=now):
            if node in now:
                return now[node]
            kind = node.attribute
            if isinstance(kind, Input):
                return x[t]
            if isinstance(kind, State):
                return past[kind.name][-kind.lag]
            if isinstance(kind, Parameter):
                return parameters[kind.name]
            if isinstance(kind, Constant | Setting):
                number = kind.value if isinstance(kind, Constant) else settings[kind.name]
                return torch.tensor([number], dtype=x.dtype)
            inputs = [value(child) for child in node.inputs]
            if node.op in ("matmul", "transposed"):
                return inputs[0] @ (dense(inputs[1]) if node.op == "matmul" else dense(inputs[1]).T)
            return FUNCTIONS[node.op](*inputs)

        for equation in graph.equations:
            units = 1 if equation.node.size is None else sizes[equation.node.size]
            now[equation.node] = value(equation.value).expand(*x.shape[1:-1], units)
        for name in graph.equation:
            past[name].append(now[graph.equation[name].node])
        past["x"].append(x[t])
    nodes = {name: torch.stack(past[name][-len(x) :]) for name in graph.equation}
    return nodes, {state.slot: past[state.name][-state.lag] for state in graph.states}
