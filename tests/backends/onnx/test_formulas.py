"""Every operation, and random formulas, as ONNX files against the module."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from cellula import Recurrent
from cellula.graph.ops import OPS
from onnx_tools import assert_same, expected, exported, feed_states, onnx, random_state, reference, run_named, runtime
from strategies import SIZES, formulas

pytestmark = pytest.mark.usefixtures("on_the_reference")


def has_erf(module):
    """onnxruntime has no error function in double precision; ONNX's reference rounds it to single."""
    return "erf" in module.cell_text or "gelu" in module.cell_text


def results(module, feeds, **options):
    """What a file gives for these inputs."""
    data = exported(module, **options)
    if has_erf(module):
        file = reference.ReferenceEvaluator(onnx.load_model_from_string(data))
        return dict(zip(file.output_names, file.run(None, feeds), strict=True))
    return run_named(runtime.InferenceSession(data), feeds)


def compare(module, steps=3, rows=2, tolerance=1e-10, lengths=None):
    """The file in whole and in single steps against the module."""
    # A module without parameters has no type of its own: its file takes single precision.
    kind = next(iter(module.state_dict().values()), torch.zeros(())).dtype
    tolerance = 1e-5 if kind == torch.float32 or has_erf(module) else tolerance
    x = torch.randn(steps, rows, module.input_size, dtype=kind)
    state = random_state(module, rows)
    feeds = {"x": x.numpy(), **feed_states(module, state)}
    more = {} if lengths is None else {"lengths": torch.tensor(lengths).numpy()}
    whole = results(module, feeds | more, states=True, lengths=lengths is not None)
    assert_same(whole, expected(module, x, state, lengths=lengths), tolerance)
    if not module.bidirectional:
        with torch.no_grad():
            output, last = module.step(x[0], state)
        wanted = {"output": output, **{f"{slot}_n": getattr(last, slot) for slot in module.state_names}}
        single = results(module, feeds | {"x": x[0].numpy()}, streaming=True)
        assert_same(single, wanted, tolerance)


def call(op):
    """A call of an op within its domain, on something that varies over units and steps."""
    if op.symbol is not None:
        left = "(0.2 + a[t] * a[t])" if op.name == "power" else "a[t]"
        return "-a[t]" if op.name == "negative" else f"{left} {op.symbol} (1.5 + b * h[t-1])"
    arguments = []
    for index, argument in enumerate(op.arguments):
        if argument.number:
            arguments.append("0.3")
        elif index and argument.name in ("low", "high", "slope", "alpha"):
            arguments.append(str({"low": -0.4, "high": 0.5}.get(argument.name, 0.7)))
        else:
            single = op.shape == "expand" and index == 0
            arguments.append("mean(a[t])" if single else ("0.2 + a[t] * a[t]", "h[t-1]", "b")[index])
    return f"{op.name}({', '.join(arguments)})"


@pytest.mark.parametrize("op", OPS.values(), ids=lambda op: op.name)
def test_every_operation(op):
    text = f"a[t] = x[t] @ W + h[t-1] @ U\nq[t] = {call(op)}\nh[t]: hidden = tanh(a[t] + 0.5 * q[t])"
    torch.manual_seed(0)
    compare(Recurrent(text, 3, 4, dtype=torch.float64).eval())


@pytest.mark.parametrize(
    "text",
    [
        "h[t] = tanh(x[t] @ W + h[t-1] @ U.T + h[t-2] @ U - x[t-1] @ W + x[t-3] @ V)",
        "B = matrix(blocks=2)\nD = diagonal()\nh[t] = tanh(x[t] @ W + (h[t-1] @ B) @ B.T + h[t-1] @ D + h[t-1] @ D.T)",
        "B = matrix(input, hidden, blocks=2)\nh[t] = tanh(h[t-1]) + x[t] @ B",
        "B = matrix(hidden, hidden, blocks=2)\nh[t] = tanh(x[t] @ W + (p * p) @ B + (p @ M) + h[t-1])",
        # A state that is a number, one from parameters alone, one from the input alone.
        "k[t] = 0.5 * k[t-1] + mean(x[t])\nh[t] = k[t] * (x[t] @ W) + sum(h[t-1])",
        "k[t]: hidden = sigmoid(b)\nh[t] = x[t] @ W + k[t-1]",
        "e[t] = x[t] @ W\nh[t] = e[t-2] * 0.5",
        "h[t] = tanh(h[t-1] @ U + b)\ny[t] = h[t-1] * 2 + x[t] @ W",
        # Outputs that are a number, the input, a parameter; no memory; names that the file uses itself.
        "y[t] = mean(x[t])",
        "y[t] = x[t]",
        "y[t]: hidden = b",
        "s = scalar(init=2)\ny[t] = tanh(s * x[t] @ W)",
        "output[t] = x[t] @ x_0\nlengths[t] = tanh(output[t] + lengths[t-1])\nh[t] = lengths[t] * output[t]",
        "h[t] = zoneout(tanh(dropout(x[t] @ W, 0.3) + variational_dropout(h[t-1], 0.2) @ U), h[t-1], 0.4)",
    ],
)
@pytest.mark.parametrize("options", [{}, {"bidirectional": True}], ids=["forward", "both"])
def test_forms_that_the_zoo_lacks(text, options):
    torch.manual_seed(0)
    module = Recurrent(text, 4, 4, dtype=torch.float64, **options).eval()
    compare(module)
    compare(module, lengths=[2, 3])


@settings(max_examples=12)
@given(formulas(numeric=True), st.booleans())
def test_random_formulas(text, both):
    torch.manual_seed(0)
    options = {name: SIZES[name] for name in ("proj",) if name in text}
    module = Recurrent(text, SIZES["input"], SIZES["hidden"], bidirectional=both, dtype=torch.float64, **options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn_like(parameter) * 0.7)
    compare(module, tolerance=1e-8, lengths=[3, 1] if both else None)
