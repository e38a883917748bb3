"""What an ONNX file takes beside its input: states, lengths, single steps; its types, its texts, its mistakes."""

import json
import sys

import numpy as np
import pytest
import torch

from cellula import Recurrent, RunError, UsageError, export_onnx
from cellula.backends.onnx.operators import find_operator
from cellula.backends.onnx.proto import to_bytes
from cellula.errors import MissingPackageError
from cellula.tasks.onnx_file import onnx_model
from onnx_tools import assert_same, expected, exported, feed_states, module_of, onnx, random_state, run_named, session

pytestmark = pytest.mark.usefixtures("on_the_reference")

# Own operators, a Scan, a Scan of states whose sizes differ from layer to layer, no memory.
SOME = ("lstm", "gru", "gru_torch", "elman", "peephole_lstm", "mgu", "slstm", "tlstm", "mlp")


def ports(file):
    """Inputs and outputs of a session: name -> shape."""
    return {port.name: port.shape for port in (*file.get_inputs(), *file.get_outputs())}


@pytest.mark.parametrize("cell", SOME)
@pytest.mark.parametrize("batch_first", [False, True])
def test_lengths_and_states(cell, batch_first):
    options = {"num_layers": 2, "bidirectional": True, "batch_first": batch_first}
    module = module_of(cell, initial_state="learned", **options)
    file, started = session(module, lengths=True), session(module, lengths=True, states=True)
    for steps, lengths in ((5, [5, 0, 2, 1]), (1, [1, 0]), (3, [2, 2])):
        rows = len(lengths)
        x = torch.randn(rows, steps, 3) if batch_first else torch.randn(steps, rows, 3)
        # What lies behind the end of a row may hold anything.
        for row, length in enumerate(lengths):
            (x[row, length:] if batch_first else x[length:, row]).fill_(float("nan"))
        feeds = {"x": x.numpy(), "lengths": np.array(lengths)}
        assert_same(run_named(file, feeds), expected(module, x, lengths=lengths))
        state = random_state(module, rows)
        results = run_named(started, feeds | feed_states(module, state))
        assert_same(results, expected(module, x, state, lengths=lengths))


@pytest.mark.parametrize("cell", ["lstm", "mgu", "mlp"])
def test_a_learned_start(cell):
    module = module_of(cell, num_layers=2, initial_state="learned")
    x = torch.randn(4, 3, 3)
    assert_same(run_named(session(module), {"x": x.numpy()}), expected(module, x))


@pytest.mark.parametrize("cell", ["lstm", "mgu"])
def test_the_first_state_of_a_stream_stands_in_the_file(cell):
    module = module_of(cell, num_layers=2, initial_state="learned")
    file = session(module, streaming=True)
    start = json.loads(file.get_modelmeta().custom_metadata_map["cellula"])["start"]
    x = torch.randn(2, 3)
    states = {
        f"{slot}_0": np.stack([np.tile(np.float32(layer[slot]), (2, 1)) for layer in start])
        for slot in module.state_names
    }
    with torch.no_grad():
        output, _ = module.step(x)
    assert_same({"output": run_named(file, {"x": x.numpy(), **states})["output"]}, {"output": output})


@pytest.mark.parametrize("cell", ["lstm", "gru", "mgu", "slstm", "layer_norm_lstm", "minlstm"])
def test_double_precision_agrees_to_its_rounding(cell):
    module = module_of(cell, num_layers=2, bidirectional=True, dtype=torch.float64)
    x = torch.randn(6, 2, 3, dtype=torch.float64)
    assert_same(run_named(session(module), {"x": x.numpy()}), expected(module, x), 1e-12)
    # onnxruntime has no LSTM, GRU and RNN in double precision.
    assert "Scan" in onnx_model(module).body.operators


def test_the_names_and_shapes_of_what_goes_in_and_out():
    module = module_of("lstm", num_layers=2, bidirectional=True)
    assert ports(session(module)) == {
        "x": ["time", "batch", 3],
        "output": ["time", "batch", 8],
        "c_n": [4, "batch", 4],
        "h_n": [4, "batch", 4],
    }
    assert list(ports(session(module, states=True, lengths=True)))[:4] == ["x", "lengths", "c_0", "h_0"]
    module = module_of("tgru", num_layers=2, batch_first=True)
    found = ports(session(module, streaming=True))
    assert found["x"] == ["batch", 3] and found["output"] == ["batch", 4]
    assert found["x_0.layer_0"] == [1, "batch", 3] and found["x_n.layer_1"] == [1, "batch", 4]
    assert ports(session(module))["x"] == ["batch", "time", 3]


def test_the_file_says_what_it_is_and_is_the_same_every_time():
    module = module_of("leaky_rnn", num_layers=2)
    data = exported(module)
    proto = onnx.load_model_from_string(data)
    texts = {entry.key: entry.value for entry in proto.metadata_props}
    assert texts["formula"] == module.cell_text
    assert json.loads(texts["cellula"])["module"]["num_layers"] == 2
    assert proto.opset_import[0].version == 18 and proto.ir_version == 8 and proto.producer_name == "cellula"
    assert exported(module) == data
    # Weights under the names that they have in the module, and no constant that nothing reads.
    names = {tensor.name for tensor in proto.graph.initializer}
    assert set(dict(module.named_parameters())) <= names
    read = {name for node in proto.graph.node for name in node.input}
    read |= {name for node in proto.graph.node for a in node.attribute for inner in a.g.node for name in inner.input}
    assert names <= read


def test_a_matrix_that_is_used_transposed_is_turned_once_and_not_at_every_step():
    operators = onnx_model(module_of("antisymmetric_rnn")).body.operators
    assert operators.count("Transpose") == 1 and operators.index("Transpose") < operators.index("Scan")


def test_training_or_not_the_file_is_the_same():
    module = module_of("zoneout_lstm", num_layers=2, dropout=0.5)
    assert exported(module.train()) == exported(module.eval())
    x = torch.randn(4, 2, 3)
    assert_same(run_named(session(module), {"x": x.numpy()}), expected(module, x))


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("h[t] = tanh(b + (h[t-1] @ U + x[t] @ W))", "RNN"),
        ("a[t] = x[t] @ W\ns[t] = a[t] + h[t-1] @ U\nh[t] = softsign(s[t] + b + d)", "RNN"),
        ("h[t] = sigmoid(x[t] @ W + h[t-1] @ U)", "RNN"),
        ("y[t] = relu(x[t] @ W + y[t-1] @ U)", "RNN"),
        ("z[t] = sigmoid(x[t] @ W + h[t-1] @ U)\nr[t] = sigmoid(x[t] @ V + h[t-1] @ Q)\n"
         "n[t] = tanh((h[t-1] * r[t]) @ P + x[t] @ R + b)\nh[t] = n[t] * (1 - z[t]) + h[t-1] * z[t]", "GRU"),
        ("z[t] = sigmoid(x[t] @ W + h[t-1] @ U)\nr[t] = sigmoid(x[t] @ V + h[t-1] @ Q + e)\n"
         "n[t] = softplus(x[t] @ R + (c + h[t-1] @ P + d) * r[t])\nh[t] = z[t] * h[t-1] + (1 - z[t]) * n[t]", "GRU"),
        ("k[t] = tanh(h[t-1] @ A + x[t] @ B)\nm[t] = k[t] * sigmoid(x[t] @ C + h[t-1] @ D + c) + sigmoid(x[t] @ E + "
         "h[t-1] @ F + m[t-1] * p) * m[t-1]\nh[t] = tanh(m[t]) * sigmoid(h[t-1] @ G + x[t] @ H + p_o * m[t])", "LSTM"),
        # Not quite: a matrix of another size, a diagonal, a matrix used twice, a lag of 2, a wrong share, two gates of
        # different kinds, a peephole at the wrong place, a setting, a bias that is one number, another output.
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U * 2)", None),
        ("U = diagonal()\nh[t] = tanh(x[t] @ W + h[t-1] @ U)", None),
        ("U = matrix(blocks=2)\nh[t] = tanh(x[t] @ W + h[t-1] @ U)", None),
        ("h[t] = tanh(x[t] @ W + h[t-2] @ U)", None),
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U.T)", None),
        ("h[t] = tanh(x[t] @ W + x[t] @ V + h[t-1] @ U)", None),
        ("s = scalar(init=1)\nh[t] = tanh(x[t] @ W + h[t-1] @ U + s)", None),
        ("s = setting(1)\nh[t] = tanh(x[t] @ W + h[t-1] @ U + s)", None),
        ("h[t] = tanh(x[t] @ W + h[t-1] @ U)\ny[t] = h[t] @ V", None),
        ("z[t] = sigmoid(x[t] @ W + h[t-1] @ U)\nr[t] = sigmoid(x[t] @ V + h[t-1] @ Q)\n"
         "n[t] = tanh((h[t-1] * r[t]) @ P + x[t] @ R)\nh[t] = n[t] * (2 - z[t]) + h[t-1] * z[t]", None),
        ("z[t] = sigmoid(x[t] @ W + h[t-1] @ U)\nr[t] = tanh(x[t] @ V + h[t-1] @ Q)\n"
         "n[t] = tanh((h[t-1] * r[t]) @ P + x[t] @ R)\nh[t] = n[t] * (1 - z[t]) + h[t-1] * z[t]", None),
        ("k[t] = tanh(h[t-1] @ A + x[t] @ B)\nm[t] = k[t] * sigmoid(x[t] @ C + h[t-1] @ D) + sigmoid(x[t] @ E + "
         "h[t-1] @ F) * m[t-1]\nh[t] = tanh(m[t]) * sigmoid(h[t-1] @ G + x[t] @ H + p_o * m[t-1])", None),
    ],
)  # fmt: skip
def test_the_structure_decides_and_not_the_names(text, kind):
    module = module_of(text)
    found = find_operator(module.graph)
    assert (found.kind if found else None) == kind
    x, state = torch.randn(4, 2, 3), random_state(module, 2)
    results = run_named(session(module, states=True), {"x": x.numpy(), **feed_states(module, state)})
    assert_same(results, expected(module, x, state))


@pytest.mark.parametrize(
    ("module", "options", "message"),
    [
        (Recurrent("lstm", 2, 3, bidirectional=True), {"streaming": True}, "needs the whole sequence"),
        (Recurrent("lstm", 2, 3), {"streaming": True, "lengths": True}, "a step has no lengths"),
        (Recurrent("lstm", 2, 3, dtype=torch.float16), {}, r"float16; ONNX files hold .*: export module.float\(\)"),
        (torch.nn.Linear(2, 3), {}, "Linear is neither a Recurrent nor"),
        (3, {}, "not int"),
    ],
)
def test_what_cannot_be_exported_says_why_and_leaves_the_old_file(tmp_path, module, options, message):
    path = tmp_path / "m.onnx"
    path.write_bytes(b"old")
    with pytest.raises(UsageError, match=message):
        export_onnx(module, path, **options)
    assert path.read_bytes() == b"old"


def test_a_place_that_cannot_be_written_to(tmp_path):
    with pytest.raises(RunError, match="cannot write"):
        export_onnx(Recurrent("elman", 2, 3), tmp_path / "absent" / "m.onnx")
    with pytest.raises(RunError, match="no such file"):
        export_onnx(str(tmp_path / "absent"), tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_would_be_too_large_is_refused(monkeypatch):
    monkeypatch.setattr("cellula.backends.onnx.proto.LARGEST", 2**20 + 100)
    with pytest.raises(UsageError, match="a file of ONNX holds less"):
        to_bytes(onnx_model(Recurrent("lstm", 8, 8)), "")


def test_without_the_package_the_graph_can_be_made_but_not_the_file(monkeypatch, tmp_path):
    model = onnx_model(Recurrent("lstm", 2, 3))
    monkeypatch.setitem(sys.modules, "onnx", None)
    with pytest.raises(MissingPackageError, match=r"onnx is needed .* pip install 'cellula\[onnx\]'"):
        to_bytes(model, "")
    assert "LSTM" in onnx_model(Recurrent("lstm", 2, 3)).body.operators
