"""Every cell of the zoo as an ONNX file, in two runtimes, with batch sizes and lengths that nobody exported with."""

import re

import numpy as np
import pytest
import torch

from cellula import cells, load_cell
from cellula.backends.onnx.operators import find_operator
from onnx_tools import assert_same, expected, exported, feed_states, module_of, onnx, reference, run_named, session

pytestmark = pytest.mark.usefixtures("on_the_reference")

# Steps and rows; the file says nothing of either, so every pair is another than "exported with".
SHAPES = ((5, 2), (1, 1), (8, 3))
OWN = {"lstm": "LSTM", "gru": "GRU", "gru_torch": "GRU", "elman": "RNN", "irnn": "RNN", "peephole_lstm": "LSTM",
       "variational_dropout_lstm": "LSTM", "recurrent_dropout_lstm": "LSTM"}  # fmt: skip


@pytest.mark.parametrize("cell", cells())
def test_two_layers_both_directions_in_onnxruntime(cell):
    module = module_of(cell, num_layers=2, bidirectional=True)
    file = session(module)
    for steps, rows in SHAPES:
        x = torch.randn(steps, rows, 3)
        assert_same(run_named(file, {"x": x.numpy()}), expected(module, x))


@pytest.mark.parametrize("cell", cells())
def test_streaming_step_by_step_is_the_whole_sequence(cell):
    module = module_of(cell, num_layers=2)
    file = session(module, streaming=True)
    for rows in (1, 3):
        x = torch.randn(4, rows, 3)
        with torch.no_grad():
            _, state = module(x[:1, :, :] * 0)
        # From a state of its own, so that the states that come in are looked at.
        feeds, outputs = feed_states(module, state), []
        for step in x:
            results = run_named(file, {"x": step.numpy(), **feeds})
            outputs.append(results.pop("output"))
            feeds = {re.sub(r"_n(?=$|\.layer)", "_0", name): value for name, value in results.items()}
        assert_same({"output": np.stack(outputs), **results}, expected(module, x, state))


@pytest.mark.parametrize("cell", [cell for cell in cells() if cell != "irnn"])
def test_onnx_s_own_reference_agrees(cell):
    # Its RNN knows tanh only, so that `irnn` is left to onnxruntime.
    module = module_of(cell, num_layers=2)
    file = reference.ReferenceEvaluator(onnx.load_model_from_string(exported(module, check=False)))
    for steps, rows in ((4, 2), (6, 3)):
        x = torch.randn(steps, rows, 3)
        found = dict(zip(file.output_names, file.run(None, {"x": x.numpy()}), strict=True))
        assert_same(found, expected(module, x))


@pytest.mark.parametrize("cell", cells())
def test_own_operators_where_onnx_has_them_and_a_scan_elsewhere(cell):
    found = find_operator(load_cell(cell))
    assert (found.kind if found else None) == OWN.get(cell)
    operators = onnx.load_model_from_string(exported(module_of(cell), check=False)).graph.node
    loops = [node.op_type for node in operators if node.op_type in ("LSTM", "GRU", "RNN", "Scan", "Loop")]
    # A cell without memory needs no loop.
    assert loops == ([OWN[cell]] if cell in OWN else ["Scan"] if load_cell(cell).states else [])
