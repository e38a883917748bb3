"""Files: what Cellula wrote comes back as it was; nodes of other people's files; mistakes."""

import numpy as np
import pytest
import torch

from cellula import Recurrent, RunError, UsageError, export_onnx, import_onnx
from cellula.nn import RecurrentNode
from onnx_tools import module_of, onnx, runtime

pytestmark = pytest.mark.usefixtures("on_the_reference")


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("cell", ["lstm", "peephole_lstm", "gru", "gru_torch", "irnn", "recurrent_dropout_lstm",
                                  "antisymmetric_rnn", "projected_lstm", "slstm", "tgru", "ltc"])  # fmt: skip
def test_there_and_back(tmp_path, cell, dtype):
    options = {"num_layers": 2, "bidirectional": True, "initial_state": "learned", "batch_first": True}
    module = module_of(cell, dtype=dtype, **options)
    export_onnx(module, tmp_path / "m.onnx")
    again = import_onnx(tmp_path / "m.onnx")
    assert isinstance(again, Recurrent) and repr(again) == repr(module) and again.graph == module.graph
    assert again.state_dict().keys() == module.state_dict().keys()
    for name, value in module.state_dict().items():
        assert torch.equal(value, again.state_dict()[name]) and value.dtype == again.state_dict()[name].dtype, name
    # It goes on learning.
    x = torch.randn(2, 4, 3, dtype=dtype)
    again(x)[0].square().sum().backward()
    assert all(parameter.grad is not None for parameter in again.parameters() if parameter.requires_grad)


def test_settings_and_a_formula_of_one_s_own_come_back(tmp_path):
    module = Recurrent("leak = setting(0.3)\nb = vector(init=2)\nh[t] = leak * h[t-1] + x[t] @ W + b", 3, 4, leak=0.75)
    export_onnx(module, tmp_path / "m.onnx", streaming=True)
    again = import_onnx(tmp_path / "m.onnx")
    assert again.settings == {"leak": 0.75} and again.cell_text == module.cell_text


def foreign(path, *, reverse=False, transpose=False, computed=False, nodes=1, external=False):
    """A file as other exporters write it: an LSTM within other nodes, its weights constant or put together."""
    helper, random = onnx.helper, np.random.default_rng(0)
    weights = {"W": (1, 20, 4), "R": (1, 20, 5), "B": (1, 40), "h": (1, 3, 5), "c": (1, 3, 5)}
    tensors = {name: random.normal(0, 0.5, shape).astype("f") for name, shape in weights.items()}
    stored, calls = dict(tensors), [helper.make_node("Relu", ["x"], ["r"], name="before")]
    if transpose:
        stored["W"] = np.ascontiguousarray(tensors["W"].transpose(0, 2, 1))
        calls += [helper.make_node("Transpose", ["W"], ["turned"], perm=[0, 2, 1])]
    if computed:
        calls += [helper.make_node("Mul", ["h", "x"], ["W"])]
        del stored["W"]
    given = ["r", "turned" if transpose else "W", "R", "B", "", "h", "c"]
    direction = "reverse" if reverse else "forward"
    for number in range(nodes):
        name = {"name": "lstm_one"} if number == 0 else {}
        outputs = ["Y", "Yh", "Yc"] if number == 0 else [f"Y{number}"]
        calls.append(helper.make_node("LSTM", given, outputs, hidden_size=5, direction=direction, **name))
    calls.append(helper.make_node("Squeeze", ["Y"], ["y"]))
    ports = [helper.make_tensor_value_info("x", 1, ["t", 3, 4])]
    results = [helper.make_tensor_value_info("y", 1, None)]
    graph = helper.make_graph(
        calls, "g", ports, results, [onnx.numpy_helper.from_array(v, k) for k, v in stored.items()]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=8)
    onnx.save(model, path, save_as_external_data=external, size_threshold=0)
    return path


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("how", [{}, {"transpose": True}, {"external": True}], ids=["plain", "transposed", "external"])
def test_a_node_of_another_file(tmp_path, reverse, how):
    path = foreign(tmp_path / "f.onnx", reverse=reverse, **how)
    node = import_onnx(path)
    assert isinstance(node, RecurrentNode) and node.initial_h is not None
    x = np.random.default_rng(1).normal(size=(6, 3, 4)).astype("f")
    wanted = runtime.InferenceSession(str(path)).run(None, {"x": x})[0]
    with torch.no_grad():
        found = node(torch.from_numpy(x).relu())[0][:, 0]
    np.testing.assert_allclose(found.numpy(), wanted, atol=1e-6)


def test_one_node_of_several(tmp_path):
    path = foreign(tmp_path / "f.onnx", nodes=2)
    with pytest.raises(UsageError, match="has 2 recurrent nodes; write node= with one of lstm_one, LSTM_2"):
        import_onnx(path)
    assert isinstance(import_onnx(path, node="LSTM_2"), RecurrentNode)
    with pytest.raises(UsageError, match="has no recurrent node 'x'; it has lstm_one, LSTM_2"):
        import_onnx(path, node="x")


def test_weights_that_are_computed_are_refused_and_a_computed_start_is_named(tmp_path):
    with pytest.raises(UsageError, match="W of the node lstm_one is not constant"):
        import_onnx(foreign(tmp_path / "f.onnx", computed=True))
    model = onnx.load(foreign(tmp_path / "g.onnx"))
    model.graph.node[1].input[5] = "start"
    model.graph.node.insert(0, onnx.helper.make_node("Shape", ["x"], ["start"]))
    onnx.save(model, tmp_path / "g.onnx")
    with pytest.warns(UserWarning, match="initial_h of the node lstm_one is computed by the file"):
        assert import_onnx(tmp_path / "g.onnx").initial_h is None


def test_files_that_cannot_be_read(tmp_path):
    path = tmp_path / "f.onnx"
    with pytest.raises(RunError, match="cannot read"):
        import_onnx(path)
    for content in (b"", b"PK\x03\x04 not a model", bytes(range(256)) * 9):
        path.write_bytes(content)
        with pytest.raises(RunError, match="ONNX file"):
            import_onnx(path)
    export_onnx(Recurrent("mlp", 2, 3), path)
    with pytest.raises(UsageError, match="has no LSTM, GRU or RNN node"):
        import_onnx(path, node="x")


@pytest.mark.parametrize(
    ("key", "old", "new"),
    [
        ("formula", "tanh", "nonsense"),
        ("formula", "@ U", "@ V"),
        ("cellula", '"hidden_size": 4', '"hidden_size": 4000000'),
        ("cellula", '"num_layers": 1', '"num_layers": 100000000'),
        ("cellula", '"settings": {}', '"settings": 3'),
        ("cellula", '"dtype": "float32"', '"dtype": "object"'),
        ("cellula", '"version": 1', '"version": 2'),
        ("cellula", '"module"', '"moduel"'),
    ],
)
def test_a_file_whose_texts_and_weights_contradict_each_other(tmp_path, key, old, new):
    path = tmp_path / "f.onnx"
    export_onnx(module_of("h[t] = tanh(x[t] @ W + 0.5 * h[t-1] @ U)"), path)
    model = onnx.load(path)
    for entry in model.metadata_props:
        if entry.key == key:
            assert old in entry.value
            entry.value = entry.value.replace(old, new)
    onnx.save(model, path)
    with pytest.raises(RunError, match=r"f\.onnx"):
        import_onnx(path)
