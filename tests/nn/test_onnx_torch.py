"""torch.nn's layers as ONNX files: the steps stay open, where torch's own exporter fixes them."""

import itertools

import numpy as np
import pytest
import torch
from torch import nn

from cellula import UsageError
from cellula.nn.onnx_torch import as_recurrent
from cellula.tasks.onnx_file import onnx_model
from onnx_tools import session

pytestmark = pytest.mark.usefixtures("on_the_reference")
KINDS = {
    "lstm": nn.LSTM,
    "gru": nn.GRU,
    "tanh": nn.RNN,
    "relu": lambda *sizes, **options: nn.RNN(*sizes, nonlinearity="relu", **options),
    "projected": lambda *sizes, **options: nn.LSTM(*sizes, proj_size=2, **options),
}


@pytest.mark.parametrize(("kind", "both", "bias"), list(itertools.product(KINDS, (False, True), (False, True))))
def test_any_batch_and_length(kind, both, bias):
    torch.manual_seed(0)
    module = KINDS[kind](3, 4, num_layers=2, bidirectional=both, bias=bias, batch_first=both, dropout=0.3)
    file = session(module)
    for steps, rows in ((5, 2), (1, 1), (9, 3)):
        x = torch.randn(rows, steps, 3) if both else torch.randn(steps, rows, 3)
        with torch.no_grad():
            output, last = module.eval()(x)
        h = last[0] if isinstance(last, tuple) else last
        found, found_h = file.run(["output", "h_n"], {"x": x.numpy()})
        np.testing.assert_allclose(found, output.numpy(), atol=1e-6)
        np.testing.assert_allclose(found_h, h.numpy(), atol=1e-6)


def test_they_are_onnx_s_own_operators():
    for kind, operator in {"lstm": "LSTM", "gru": "GRU", "tanh": "RNN", "relu": "RNN", "projected": "Scan"}.items():
        assert operator in onnx_model(KINDS[kind](3, 4)).body.operators


def test_a_projection_that_torch_does_not_have():
    module = nn.GRU(3, 4)
    module.proj_size = 2
    with pytest.raises(UsageError, match="proj_size=2 of a GRU"):
        as_recurrent(module)
