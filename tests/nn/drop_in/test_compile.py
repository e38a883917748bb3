"""torch.compile in one piece, for every length without compiling again; torch.export with the steps left open."""

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounterWithBackend

import cellula.nn
from cellula import Recurrent
from compare import assert_close, gradients
from torch_pairs import CELLS, LAYERS, tensors_of

DOUBLE = torch.float64


@pytest.fixture(autouse=True)
def fresh():
    torch._dynamo.reset()
    yield
    torch._dynamo.reset()


def compiled(module, backend="eager"):
    counter = CompileCounterWithBackend(backend)
    return torch.compile(module, fullgraph=True, dynamic=True, backend=counter), counter


def assert_equal_call(module, function, x, **options):
    """Output, state and all gradients are those of the module as it is."""
    leaves, found = [x.requires_grad_(), *module.parameters()], []
    for one in (module, function):
        values = tensors_of(one(x, **options))
        found += [[*values, *gradients(values, leaves)]]
    assert_close(found[1], found[0])


@pytest.mark.parametrize("name", LAYERS)
def test_torch_refuses_its_own_layers(name):
    function, _ = compiled(getattr(nn, name)(3, 4))
    with pytest.raises(torch._dynamo.exc.Unsupported, match="RNN, GRU, or LSTM"):
        function(torch.zeros(5, 2, 3))


def test_a_loop_over_torchs_cell_is_compiled_for_every_length():
    class Loop(nn.Module):
        def __init__(self):
            super().__init__()
            self.cell = nn.GRUCell(3, 4)

        def forward(self, x):
            h = x.new_zeros(x.shape[1], 4)
            for value in x:
                h = self.cell(value, h)
            return h

    function, counter = compiled(Loop())
    for steps in (2, 3, 4):
        function(torch.zeros(steps, 2, 3))
    assert counter.frame_count == 3


@pytest.mark.parametrize(
    "module",
    [
        cellula.nn.LSTM(3, 4, bidirectional=True, dtype=DOUBLE),
        cellula.nn.GRU(3, 4, proj_size=2, dtype=DOUBLE),
        Recurrent("peephole_lstm", 3, 4, dtype=DOUBLE),
        Recurrent("mlp", 3, 4, dtype=DOUBLE),
    ],
    ids=["LSTM", "GRU", "peephole_lstm", "mlp"],
)
def test_one_graph_for_every_length(module):
    function, counter = compiled(module)
    for steps in (5, 6, 9, 40):
        assert_equal_call(module, function, torch.randn(steps, 2, 3, dtype=DOUBLE))
    assert counter.frame_count == 1
    for lengths in ([3, 9], [0, 1], [9, 2]):
        assert_equal_call(module, function, torch.randn(9, 2, 3, dtype=DOUBLE), lengths=torch.tensor(lengths))
    for steps in (5, 8):
        reset = torch.rand(steps, 2) > 0.5
        assert_equal_call(module, function, torch.randn(steps, 2, 3, dtype=DOUBLE), reset=reset)
    # One graph more for lengths, one for resets.
    assert counter.frame_count == 3


def test_through_autograds_own_compiler():
    module = cellula.nn.LSTM(3, 4, dtype=DOUBLE)
    function, counter = compiled(module, "aot_eager")
    assert_equal_call(module, function, torch.randn(5, 2, 3, dtype=DOUBLE))
    count = counter.frame_count
    for steps in (6, 9, 40):
        assert_equal_call(module, function, torch.randn(steps, 2, 3, dtype=DOUBLE))
    assert counter.frame_count == count


@pytest.mark.parametrize("name", CELLS)
def test_cells(name):
    module = getattr(cellula.nn, name)(3, 4, dtype=DOUBLE)
    function, counter = compiled(module)
    for rows in (2, 3, 7):
        assert_equal_call(module, function, torch.randn(rows, 3, dtype=DOUBLE))
    assert counter.frame_count == 1


def test_lengths_that_do_not_fit_are_refused_when_it_runs():
    function, _ = compiled(cellula.nn.LSTM(3, 4))
    with pytest.raises(RuntimeError, match="lengths holds a number that is not from 0 to the number of steps"):
        function(torch.zeros(5, 2, 3), lengths=torch.tensor([6, 2]))


def test_what_is_drawn_on_the_way_there_is_drawn_on_the_way_back():
    module = Recurrent("zoneout_lstm", 3, 8, dtype=DOUBLE)
    function, _ = compiled(module)
    x, direction = torch.randn(6, 4, 3, dtype=DOUBLE), torch.randn(6, 4, 3, dtype=DOUBLE)

    def loss(step):
        torch.manual_seed(0)
        return function(x + step * direction)[0].square().sum()

    step = torch.zeros((), dtype=DOUBLE, requires_grad=True)
    (slope,) = torch.autograd.grad(loss(step), step)
    size = 1e-5
    assert abs(slope - (loss(size) - loss(-size)) / (2 * size)) < 1e-7
    torch.manual_seed(1)
    assert not torch.allclose(function(x)[0], function(x)[0])
    module.eval()
    assert torch.equal(function(x)[0], module(x)[0])


def test_export_leaves_the_number_of_steps_open():
    x, other = torch.randn(5, 2, 3, dtype=DOUBLE), torch.randn(9, 2, 3, dtype=DOUBLE)
    open_steps = ({0: torch.export.Dim("steps")},)
    with pytest.raises(Exception, match=r"[Cc]onstraints violated"):
        torch.export.export(nn.LSTM(3, 4, dtype=DOUBLE), (x,), dynamic_shapes=open_steps)
    module = cellula.nn.LSTM(3, 4, dtype=DOUBLE)
    exported = torch.export.export(module, (x,), dynamic_shapes=open_steps).module()
    assert_close([exported(other)[0]], [module(other)[0]])
