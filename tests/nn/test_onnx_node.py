"""ONNX's recurrent nodes as formulas: ONNX's own cases, its reference and onnxruntime, all attributes."""

import itertools
from functools import cache

import numpy as np
import pytest
import torch

from cellula import Recurrent, UsageError
from cellula.backends.onnx.activations import ACTIVATIONS, read_activations
from cellula.nn import RecurrentNode
from onnx_tools import assert_same, onnx, reference, runtime

pytestmark = pytest.mark.usefixtures("on_the_reference")

ORDER = {
    "LSTM": ("W", "R", "B", "sequence_lens", "initial_h", "initial_c", "P"),
    "GRU": ("W", "R", "B", "sequence_lens", "initial_h"),
    "RNN": ("W", "R", "B", "sequence_lens", "initial_h"),
}
GATES = {"LSTM": 4, "GRU": 3, "RNN": 1}
RESULTS = {"LSTM": ("Y", "Y_h", "Y_c"), "GRU": ("Y", "Y_h"), "RNN": ("Y", "Y_h")}

# The cases of ONNX's back end suite for these operators.
CASES = """
test_gru_defaults test_gru_with_initial_bias test_gru_seq_length test_gru_batchwise test_gru_reverse
test_gru_bidirectional test_lstm_defaults test_lstm_with_initial_bias test_lstm_with_peepholes test_lstm_batchwise
test_lstm_reverse test_lstm_bidirectional test_simple_rnn_defaults test_simple_rnn_with_initial_bias
test_rnn_seq_length test_simple_rnn_batchwise test_simple_rnn_reverse test_simple_rnn_bidirectional
""".split()


@cache
def suite():
    """The cases by name, made as `onnx.backend.test.loader.load_model_tests(kind="node")` makes all 1,900 of them."""
    pytest.importorskip("onnx.backend.test.case.node.lstm", reason="this onnx ships its cases in another form")
    from onnx.backend.test.case.node import _NodeTestCases, gru, lstm, rnn

    assert gru and lstm and rnn
    return {case.name: case for case in _NodeTestCases if case.model.graph.node[0].op_type in GATES}


def attributes_of(node):
    values = ((a.name, onnx.helper.get_attribute_value(a)) for a in node.attribute)
    return {name: value.decode() if isinstance(value, bytes) else value for name, value in values}


def test_no_case_is_left_out():
    assert sorted(suite()) == sorted(CASES)


@pytest.mark.parametrize("name", CASES)
def test_the_cases_of_onnx(name):
    case = suite()[name]
    (node,) = case.model.graph.node
    ports = [port.name for port in case.model.graph.input]
    for inputs, outputs in case.data_sets:
        given = dict(zip(ports, inputs, strict=True))
        tensors = {word: given[port] for word, port in zip(ORDER[node.op_type], node.input[1:], strict=False) if port}
        module = RecurrentNode(node.op_type, attributes_of(node), tensors)
        with torch.no_grad():
            results = dict(zip(node.output, module(torch.from_numpy(given[node.input[0]])), strict=False))
        wanted = {port.name: value for port, value in zip(case.model.graph.output, outputs, strict=True)}
        for port, value in wanted.items():
            np.testing.assert_allclose(results[port].numpy(), value, rtol=1e-5, atol=1e-6)


def random_node(kind, *, steps=6, rows=3, inputs=4, hidden=5, seed=0, lengths=None, without=(), **attributes):
    """Random weights and input for a node: attributes, tensors, x."""
    random = np.random.default_rng(seed)
    sides = 2 if attributes.get("direction") == "bidirectional" else 1
    shapes = {
        "W": (sides, GATES[kind] * hidden, inputs),
        "R": (sides, GATES[kind] * hidden, hidden),
        "B": (sides, 2 * GATES[kind] * hidden),
        "initial_h": (sides, rows, hidden),
        "initial_c": (sides, rows, hidden),
        "P": (sides, 3 * hidden),
    }
    if attributes.get("layout"):
        shapes |= dict.fromkeys(("initial_h", "initial_c"), (rows, sides, hidden))
    tensors = {name: random.normal(0, 0.6, shapes[name]).astype("f") for name in ORDER[kind] if name in shapes}
    tensors = {name: value for name, value in tensors.items() if name not in without}
    if lengths is not None:
        tensors["sequence_lens"] = np.array(lengths, np.int32)
    shape = (rows, steps, inputs) if attributes.get("layout") else (steps, rows, inputs)
    return {"hidden_size": hidden, **attributes}, tensors, random.normal(0, 1, shape).astype("f")


def node_model(kind, attributes, tensors):
    """A file of this one node, its weights inside."""
    helper = onnx.helper
    given = [name if name in tensors else "" for name in ORDER[kind]]
    node = helper.make_node(kind, ["X", *given], RESULTS[kind], name="the_node", **attributes)
    ports = [helper.make_tensor_value_info("X", onnx.TensorProto.FLOAT, [None] * 3)]
    results = [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, None) for name in RESULTS[kind]]
    weights = [onnx.numpy_helper.from_array(value, name) for name, value in tensors.items()]
    graph = helper.make_graph([node], "one_node", ports, results, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)


def in_onnxruntime(kind, attributes, tensors, x):
    model = node_model(kind, attributes, tensors).SerializeToString()
    return runtime.InferenceSession(model).run(None, {"X": x})


def in_reference(kind, attributes, tensors, x):
    return reference.ReferenceEvaluator(node_model(kind, attributes, tensors)).run(None, {"X": x})


def compare(run, kind, **options):
    """A node of random weights in a runtime and as formulas."""
    attributes, tensors, x = random_node(kind, **options)
    with torch.no_grad():
        found = RecurrentNode(kind, attributes, tensors)(torch.from_numpy(x))
    wanted = [torch.from_numpy(np.array(value)) for value in run(kind, attributes, tensors, x)]
    assert_same(dict(zip(RESULTS[kind], found, strict=True)), dict(zip(RESULTS[kind], wanted, strict=True)), 5e-6)


DIRECTIONS = ("forward", "reverse", "bidirectional")
# What a node may leave out, and its switches.
LEFT_OUT = {
    "LSTM": [(), ("B",), ("P",), ("B", "P", "initial_h", "initial_c"), ("initial_c",)],
    "GRU": [(), ("B",), ("initial_h",)],
    "RNN": [(), ("B",), ("initial_h",)],
}
SWITCHES = {"LSTM": [{}], "GRU": [{"linear_before_reset": 0}, {"linear_before_reset": 1}], "RNN": [{}]}
GRID = [
    (kind, direction, without, switch)
    for kind in GATES
    for direction, without, switch in itertools.product(DIRECTIONS, LEFT_OUT[kind], SWITCHES[kind])
]


@pytest.mark.parametrize(("kind", "direction", "without", "switch"), GRID)
def test_random_weights_in_both_runtimes(kind, direction, without, switch):
    compare(in_onnxruntime, kind, direction=direction, without=without, **switch)
    for layout in (0, 1):
        compare(in_reference, kind, direction=direction, without=without, layout=layout, **switch)


@pytest.mark.parametrize("direction", DIRECTIONS)
@pytest.mark.parametrize("kind", GATES)
def test_lengths_in_onnxruntime(kind, direction):
    compare(in_onnxruntime, kind, direction=direction, lengths=[6, 2, 4])


@pytest.mark.parametrize("clip", [0.3, 1.5])
@pytest.mark.parametrize(
    ("kind", "switch"),
    [
        ("LSTM", {}),
        ("LSTM", {"input_forget": 1}),
        ("GRU", {}),
        ("GRU", {"linear_before_reset": 1}),
        ("RNN", {}),
    ],
)
def test_clip_and_coupled_gates_in_onnxruntime(kind, switch, clip):
    compare(in_onnxruntime, kind, clip=clip, **switch)
    compare(in_onnxruntime, kind, direction="bidirectional", **switch)


def activation_cases():
    """Every activation at every place of every operator, with constants of its own and, where clear, the usual ones."""
    places = {"LSTM": ("Sigmoid", "Tanh", "Tanh"), "GRU": ("Sigmoid", "Tanh"), "RNN": ("Tanh",)}
    for name, row in ACTIVATIONS.items():
        words = [word for word, _ in row.usual]
        own = {f"activation_{word}": [{"alpha": 0.7, "beta": 0.4}[word]] for word in words}
        # onnxruntime takes 0 for what is missing here, ONNX does not.
        clear = name not in ("Affine", "ScaledTanh", "ThresholdedRelu")
        for kind, usual in places.items():
            for place in range(len(usual)):
                names = [*usual[:place], name, *usual[place + 1 :]]
                yield from ((kind, names, constants) for constants in ([own] if words else []) + [{}] * clear)


@pytest.mark.parametrize(("kind", "names", "constants"), list(activation_cases()))
def test_activations_in_onnxruntime(kind, names, constants):
    # Few steps: where a gate is not bounded the state soon is enormous.
    compare(in_onnxruntime, kind, steps=3, activations=names, **constants)


def test_constants_are_used_up_in_the_order_of_the_functions_that_have_one():
    six = ["HardSigmoid", "LeakyRelu", "ScaledTanh", "Sigmoid", "Elu", "Affine"]
    alpha, beta = [0.3, 0.1, 0.6, 0.5, 0.9], [0.4, 0.9, 0.1]
    constants = {"activation_alpha": alpha, "activation_beta": beta}
    compare(in_onnxruntime, "LSTM", direction="bidirectional", activations=six, **constants)
    attributes, tensors, _ = random_node("LSTM", direction="bidirectional", activations=six, **constants)
    first, second = RecurrentNode("LSTM", attributes, tensors).formulas
    assert "clip(0.3 * (" in first and "leaky_relu" in first and "0.6 * tanh(0.9 * c[t])" in first
    assert "elu(" in second and "0.9 * c[t] + 0.1" in second


@pytest.mark.parametrize("kind", GATES)
def test_a_node_trains_and_its_gradients_are_those_of_its_formula(kind):
    attributes, tensors, x = random_node(kind, direction="reverse", lengths=[6, 2, 4])
    module = RecurrentNode(kind, attributes, tensors).double()
    outputs = module(torch.from_numpy(x).double())
    sum(value.square().sum() for value in outputs).backward()
    found = {name: parameter.grad for name, parameter in module.named_parameters()}
    assert found and all(grad is not None and bool(grad.abs().sum() > 0) for grad in found.values())
    # The formula stands for itself: a module of its text with the same weights gives the same.
    inner = module.recurrents[0]
    again = Recurrent(module.formulas[0], 4, 5, dtype=torch.float64)
    again.load_state_dict(inner.state_dict())
    y = torch.randn(3, 2, 4, dtype=torch.float64)
    assert torch.equal(again(y)[0], inner(y)[0])


@pytest.mark.parametrize(
    ("kind", "attributes", "change", "message"),
    [
        ("LSTM", {"linear_before_reset": 1}, {}, "LSTM has no attribute 'linear_before_reset'"),
        ("GRU", {"direction": "sideways"}, {}, "'sideways'"),
        ("GRU", {"layout": 2}, {}, "layout=2"),
        ("RNN", {"activations": ["Tanh", "Tanh"]}, {}, "has 1 activations"),
        ("RNN", {"activations": ["Swish"]}, {}, "'Swish' is no activation"),
        ("RNN", {"activations": ["ScaledTanh"]}, {}, "needs a number in activation_alpha"),
        ("RNN", {"activations": ["Elu"], "activation_alpha": [1.0, 2.0]}, {}, "1 numbers more"),
        ("RNN", {"hidden_size": 4}, {}, r"R \[1, 5, 5\], expected \[1, 4, 4\]|W \[1, 5, 4\], expected \[1, 4, 4\]"),
        ("RNN", {"direction": "bidirectional"}, {}, r"expected \[2, 5, 4\]"),
        ("RNN", {}, {"B": np.zeros((1, 5), "f")}, r"B \[1, 5\], expected \[1, 10\]"),
        ("RNN", {}, {"P": np.zeros((1, 15), "f")}, "RNN has no weights P"),
        ("Scan", {}, {}, "Scan is no recurrent operator"),
    ],
)
def test_a_node_that_is_not_as_onnx_has_it(kind, attributes, change, message):
    usual, tensors, _ = random_node(kind if kind in GATES else "RNN")
    with pytest.raises(UsageError, match=message):
        RecurrentNode(kind, usual | attributes, tensors | change)


def test_an_initial_state_that_does_not_fit():
    attributes, tensors, x = random_node("GRU")
    with pytest.raises(UsageError, match=r"initial_h is \[D, B, H\] = \[1, 2, 5\], not \[1, 3, 5\]"):
        RecurrentNode("GRU", attributes, tensors)(torch.from_numpy(x[:, :2]))
    with pytest.raises(UsageError, match=r"x is \[T, B, I\]"):
        RecurrentNode("GRU", attributes, tensors)(torch.from_numpy(x[0]))


def test_constants_that_no_function_takes_say_nothing():
    assert read_activations(["tanh"], [1.0], [2.0]) == ["tanh({a})"]
