"""The printed kernel is what a cell computes: its statements are run as they stand, with the memory that it says."""

import math
import re

import numpy as np
import pytest
import torch

from cellula import build, cells, compile, load_cell, make_plan
from cellula.backends.c.spelling import NATIVE
from cellula.graph.ops import OPS
from cellula.plan.kernel import make_kernel
from cellula.printers.kernel import print_kernel
from compare import assert_close
from naive import dense
from zoo_sizes import sizes_of

STEPS, ROWS = 3, 2
LINE = re.compile(r"^ {4}(\S+)\s+(\+?=) (.*?)(?:\s{2,}(.*))?$")
LAGS = """h[t] = tanh(x[t-1] @ W + h[t-2] @ U + c * h[t-1])
y[t]: out = h[t] @ V + mean(x[t]) * d"""
FUNCTIONS = {
    "sum": lambda a: a.sum(-1, keepdims=True), "peak": lambda a: a.max(-1, keepdims=True),
    "units": lambda size: float(size), "expand": lambda a, size: a + np.zeros(size),
    "where": lambda condition, a, b: np.where(condition != 0, a, b), "sigmoid": lambda a: 1 / (1 + np.exp(-a)),
    "relu": lambda a: np.maximum(a, 0), "min": np.minimum, "max": np.maximum, "abs": np.abs, "exp": np.exp,
    "log": np.log, "sqrt": np.sqrt, "sign": np.sign, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "erf": np.vectorize(math.erf, otypes=[float]), "softplus": lambda a: np.logaddexp(a, 0),
}  # fmt: skip


class Text:
    """A printed kernel, run by its statements."""

    def __init__(self, text, given):
        self.parts = {part.split("\n")[0].split(",")[0]: part.split("\n")[1:] for part in text.split("\n\n")}
        self.given = given

    def passes(self, title):
        """The statements of each pass: name, sign, expression, remark."""
        found = []
        for line in self.parts[title]:
            if line.startswith("  pass "):
                found.append([])
            elif LINE.match(line):
                found[-1].append(LINE.match(line).groups(""))
        return found

    def value(self, expression, now, past):
        expression = re.sub(r"(\w+)\[t\]", r"now['\1']", expression)
        expression = re.sub(r"(\w+)\[t-(\d+)\]", r"past('\1', \2)", expression)
        return eval(expression, {"__builtins__": {}}, {**FUNCTIONS, **self.given, **now, "now": now, "past": past})

    def once(self):
        for line in self.parts.get("once", []):
            name, expression = line.split(" = ")
            self.given[name.strip()] = self.value(expression, {}, None)


def run(text, x, start, output, cotangent):
    """Outputs and gradients, from what the text says is computed and kept."""
    series, memory, outputs = {"x": list(x)}, [], []

    def past_of(t, readable=None):
        def past(name, lag):
            assert readable is None or name in readable, f"{name} is read, but not kept"
            return series[name][t - lag] if t >= lag else start[name if lag - t == 1 else f"{name}_lag{lag - t}"]

        return past

    for t in range(len(x)):
        now, kept = {"x": x[t]}, {"x": x[t]}
        for statements in text.passes("forward step"):
            for name, _, expression, remark in statements:
                key = name.removesuffix("[t]")
                now[key] = text.value(expression, now, past_of(t))
                series.setdefault(key, []).append(now[key])
                if "saved" in remark or "kept" in remark:
                    kept[key] = now[key]
        memory.append(kept)
        outputs.append(now[output])
    lines = [line for part in text.parts.values() for line in part]
    states = {match[1] for match in re.finditer(r"^  (\w+)\[t(?:-\d+)?\] +kept as", "\n".join(lines), re.MULTILINE)}
    totals, carry, inputs = {}, dict.fromkeys(start, 0.0), []
    for t in reversed(range(len(x))):
        now, past = {**memory[t], "dloss": cotangent[t]}, past_of(t, {"x", *states})
        now |= {f"carry_{slot}": value for slot, value in carry.items()}
        for statements in text.passes("backward step"):
            local, gone = dict(now), set()
            for name, sign, expression, remark in statements:
                value = text.value(expression, local, past)
                if sign == "+=":
                    totals[name] = totals.get(name, 0) + np.broadcast_to(value, (ROWS, np.shape(value)[-1])).sum(0)
                elif name.endswith("[t-1]"):
                    carry[name.removeprefix("carry_").removesuffix("[t-1]")] = value
                else:
                    local[name.removesuffix("[t]")] = value
                gone |= {found[1] for found in re.finditer(r"takes the place of (\w+)\[t\]", remark)}
            now = {name: value for name, value in local.items() if name not in gone}
        inputs.insert(0, now.get("dx", 0.0))
        for line in text.parts.get("after the last step", []):
            name, sign, expression = re.match(r"  (\S+)\s+(\+?=) (.*)$", line).groups()
            value = text.value(expression, now, past)
            if name == "dx[t]":
                inputs[0] = inputs[0] + value
            else:
                totals[name] = totals.get(name, 0) + value
    return outputs, totals, carry, inputs


def prepare(graph):
    """Random values, and the reference's output and gradients."""
    sizes = sizes_of(graph, 3, 5)
    torch.manual_seed(0)
    random = {"x": torch.randn(STEPS, ROWS, 3, dtype=torch.float64)}
    start = {s.slot: torch.randn(ROWS, sizes[s.size] if s.size else 1, dtype=torch.float64) for s in graph.states}
    parameters = {p.name: 0.5 * torch.randn(graph.shape(p, sizes), dtype=torch.float64) for p in graph.parameters}
    leaves = [one.requires_grad_() for one in (random["x"], *start.values(), *parameters.values())]
    chosen = {setting.name: setting.default for setting in graph.settings}
    program = compile(make_plan(graph), "reference")
    output = program(random["x"], start, parameters, chosen, sizes).output
    cotangent = torch.linspace(-1, 2, output.numel(), dtype=torch.float64).view_as(output)
    found = torch.autograd.grad(output, leaves, cotangent, allow_unused=True)
    names = ["x", *(f"carry_{slot}" for slot in start), *(f"d{name}" for name in parameters)]
    gradients = dict(zip(names, found, strict=True))
    given = {name: (dense(value) if value.ndim > 1 else value).detach().numpy() for name, value in parameters.items()}
    numbers = {slot: value.detach().numpy() for slot, value in start.items()}
    return random["x"].detach().numpy(), numbers, {**given, **chosen, **sizes}, output, cotangent.numpy(), gradients


def same_form(gradient, value):
    """The reference's gradient and ours in one shape; outside the blocks of a matrix there is none."""
    if gradient is None:
        return None, torch.as_tensor(value)
    if gradient.ndim == 3:
        inside = torch.block_diag(*torch.ones_like(gradient))
        return torch.block_diag(*gradient), torch.as_tensor(value) * inside
    return gradient, torch.as_tensor(np.broadcast_to(value, gradient.shape).copy())


@pytest.mark.parametrize("cell", [*cells(), LAGS])
def test_statements_give_the_outputs_and_gradients_of_the_reference(cell):
    graph = load_cell(cell)
    x, start, given, output, cotangent, gradients = prepare(graph)
    text = Text(print_kernel(make_kernel(graph, NATIVE, backward=True)), given)
    text.once()
    outputs, totals, carry, inputs = run(text, x, start, graph.output, cotangent)
    made = {"output": torch.as_tensor(np.stack([np.broadcast_to(one, output.shape[1:]) for one in outputs]))}
    wanted = {"output": output.detach(), "x": gradients.pop("x")}
    made["x"] = torch.as_tensor(np.stack([np.broadcast_to(one, x.shape[1:]) for one in inputs]))
    for name, value in {**totals, **{f"carry_{slot}": value for slot, value in carry.items()}}.items():
        # What is computed once has its gradient behind the kernel.
        if not name.startswith("donce"):
            wanted[name], made[name] = same_form(gradients[name], value)
    zero = {name: torch.zeros_like(made[name]) for name, value in wanted.items() if value is None}
    assert_close(made, {**wanted, **zero})
    once = make_kernel(graph, NATIVE).once
    # What is given may be reached by the gradient of a last state alone, which is 0 here.
    free = {f"d{parameter.name}" for parameter in graph.parameters if not parameter.learned}
    reached = {name for name, one in gradients.items() if name[0] == "d" and one is not None}
    assert once or totals.keys() - free == reached - free


@pytest.mark.parametrize(
    ("cell", "right", "wrong", "missed"),
    [
        ("lstm", "(sum_2 + b_f)         saved", "(sum_2 + b_f)", "f"),
        ("gru", "takes the place of z[t]", "takes the place of r[t]", "r"),
    ],
)
def test_a_text_that_keeps_too_little_is_found(cell, right, wrong, missed):
    graph = load_cell(cell)
    x, start, given, _, cotangent, _ = prepare(graph)
    text = print_kernel(make_kernel(graph, NATIVE, backward=True))
    assert right in text
    with pytest.raises(KeyError, match=missed):
        run(Text(text.replace(right, wrong), given), x, start, "h", cotangent)


def test_what_is_kept_says_why():
    text = print_kernel(make_kernel(load_cell("gru"), NATIVE, backward=True))
    memory = text.split("in memory")[1].split("\n\n")[0]
    assert "4*hidden numbers a step and sequence" in memory
    assert "h[t]  kept as a state; it is the output, so this takes no memory of its own" in memory
    assert "n[t]  saved: to compute it again would take x[t] @ W_n and (r[t] * h[t-1]) @ U_n" in memory
    assert "part_2 = 1 - z[t]" in memory.split("computed again")[1]
    assert "m[t-1], which is not kept" in print_kernel(make_kernel(load_cell("slstm"), NATIVE, backward=True))
    norm = print_kernel(make_kernel(load_cell("layer_norm_lstm"), NATIVE, backward=True))
    assert "would take h[t-1] @ U_o and the sum over all units" in norm


def test_input_products_are_those_that_can_leave_the_loop():
    text = print_kernel(make_kernel(load_cell("gru"), NATIVE))
    line = next(line for line in text.splitlines() if "for many steps before" in line)
    assert line.split(": ")[1] == "x[t] @ W_z, x[t] @ W_n, x[t] @ W_r"
    assert "for many steps before" not in print_kernel(make_kernel(load_cell("mlp"), NATIVE))


def test_inference_has_no_backward_step():
    text = print_kernel(make_kernel(load_cell("lstm"), NATIVE, record=("i",)), {"input": 2, "hidden": 3})
    assert "backward" not in text and "sigmoid(sum_3 + b_i)         recorded" in text
    assert "with hidden = 3, input = 2: forward 447 operations" in text


def test_ops_without_definitions_and_own_names():
    graph = build("part_1[t] = softmax(x[t] @ W)\nsum_1[t] = gelu(part_1[t] @ V)\nh[t] = sum_1[t] * h[t-1] + part_1[t]")
    text = print_kernel(make_kernel(graph, OPS, backward=True))
    assert "part_1[t] = softmax(sum_1_)" in text and "sum_1[t] = gelu(sum_2[t])" in text


def test_kernels_and_passes_print_themselves():
    kernel = make_kernel(load_cell("lstm"), NATIVE, backward=True)
    lines = str(kernel).splitlines()
    assert lines[1].endswith("products 8 in 4 sums, among them o, f, i, g, c, h")
    assert "  states c, h; values i, f, g, o" in lines and str(kernel.forward) == lines[1].strip()
    assert "backward" not in str(make_kernel(load_cell("lstm"), NATIVE))
