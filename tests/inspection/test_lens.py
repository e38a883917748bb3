"""What a lens counts and says, where the answer is known by hand."""

import math

import numpy as np
import pytest
import torch
from torch import nn

import cellula
from cellula import Recurrent, cells, load_cell
from cellula.errors import UsageError
from cellula.inspection.carry import carriers
from cellula.inspection.recorded import Recorded, order_units
from zoo_sizes import fitting, own_sizes


def made(*args, **options):
    torch.manual_seed(0)
    return Recurrent(*args, **options)


def recorded(values, role="gate", bounds=(0.0, 1.0), is_state=False):
    values = np.asarray(values, dtype=np.float64)
    return Recorded("a", 0, role, is_state, bounds, "", values)


def test_saturation_is_counted():
    # Two units over five steps of one row.
    gate = recorded(np.array([[0.05, 0.95], [0.0, 0.91], [0.5, 0.5], [0.1, 0.9], [0.95, 0.99]])[:, None])
    np.testing.assert_allclose(gate.low_share, [0.4, 0.0])
    np.testing.assert_allclose(gate.high_share, [0.2, 0.6])
    layer = recorded(np.array([[-0.95], [0.95], [0.8], [-1.0]])[:, None], "layer", (-1.0, 1.0))
    assert (layer.limits, layer.low_share[0], layer.high_share[0]) == ((-0.9, 0.9), 0.5, 0.25)
    rectified = recorded(np.array([[0.0], [0.0], [3.0], [1e-9]])[:, None], "layer", (0.0, math.inf))
    assert (rectified.low_share[0], rectified.high_share[0]) == (0.5, 0.0)
    assert recorded([[[0.0]]], "combination", (-1.0, 1.0)).limits is None


def test_a_time_constant_is_that_of_a_known_process():
    generator = np.random.default_rng(0)
    values = np.zeros((20_000, 1, 3))
    for step in range(1, len(values)):
        values[step] = np.array([0.9, 0.5, 0.0]) * values[step - 1] + generator.normal(size=(1, 3))
    values[..., 2] = 7.0
    node = recorded(values, "combination", (-math.inf, math.inf))
    np.testing.assert_allclose(node.time_constant[:2], -1 / np.log([0.9, 0.5]), rtol=0.1)
    assert node.is_still.tolist() == [False, False, True]
    assert order_units(node, "time").tolist() == [0, 1, 2]


def test_units_that_move_together_stand_together():
    time = np.linspace(0, 20, 400)
    waves = [np.sin(time), np.cos(time), np.sin(time) * 3, np.cos(time) * 0.1]
    node = recorded(np.stack(waves, -1)[:, None], "combination")
    place = np.argsort(order_units(node, "similarity"))
    assert abs(place[0] - place[2]) == 1
    assert abs(place[1] - place[3]) == 1


def test_every_node_is_there_with_what_the_layer_computes():
    layer, x = made("lstm", 3, 5, 2), torch.randn(7, 2, 3)
    found = cellula.lens(layer, x)
    _, _, values = layer(x, record=("i", "f", "g", "o", "c", "h"))
    assert found.names == ("i", "f", "g", "o", "c", "h")
    for name, value in values.items():
        for number in range(2):
            np.testing.assert_allclose(found.node(name, number).values, value[number].detach().numpy(), rtol=1e-6)
    assert (found.steps, found.rows, found.layers) == (7, 2, 2)
    assert [node.role for node in found.nodes[:3]] == ["gate", "gate", "layer"]
    assert found.node("c").is_state and not found.node("o").is_state
    assert layer.training


@pytest.mark.parametrize("name", cells())
def test_every_cell_can_be_looked_at(name):
    graph = load_cell(name)
    found = cellula.lens(made(name, 3, fitting(graph, 4), **own_sizes(graph)), torch.randn(5, 2, 3))
    assert graph.output in found.names
    assert found.cell == name
    assert "not finite" not in str(found)


def test_hints_say_what_is_wrong():
    exploding = made("h[t] = tanh(x[t] @ W + h[t-1] @ U)", 4, 32)
    with torch.no_grad():
        exploding.layers[0].U.mul_(4)
    hints = " ".join(cellula.lens(exploding, 0.01 * torch.randn(60, 1, 4)).hints)
    assert "clip it" in hints and "h is saturated (beyond 0.9 or -0.9)" in hints
    shut = made("lstm", 3, 4)
    with torch.no_grad():
        shut.layers[0].b_f.fill_(-9.0)
    hints = " ".join(cellula.lens(shut, torch.randn(60, 1, 3)).hints)
    assert "gate f is closed (below 0.1) in 100% of steps and units" in hints
    assert "f lets 0.00 of c through per step on average" in hints
    overflowing = made("h[t] = 1e30 * h[t-1] + x[t]", 3, 3)
    hints = cellula.lens(overflowing, torch.ones(20, 1, 3)).hints
    assert hints[0].startswith("h is not finite from step 2 on")
    still = made("h[t] = 0 * h[t-1] * x[t]", 3, 3)
    assert "3 of 3 units of h stand still" in " ".join(cellula.lens(still, torch.randn(9, 1, 3)).hints)


def test_a_healthy_layer_has_no_hints():
    layer = made("gru", 3, 16)
    with torch.no_grad():
        layer.layers[0].b_z.fill_(6.0)
    assert cellula.lens(layer, torch.randn(30, 4, 3)).memory.verdict == "steady"


def test_what_carries_a_state_is_found():
    found = {name: {str(carrier) for carrier in carriers(load_cell(name))} for name in ("lstm", "gru", "mgu", "elman")}
    assert found == {"lstm": {"f"}, "gru": {"z"}, "mgu": {"1 - f"}, "elman": set()}


class Around(nn.Module):
    """A network with two recurrent layers."""

    def __init__(self):
        super().__init__()
        self.first, self.second = made("gru", 3, 4), made("lstm", 4, 5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x, twice=False):
        middle, _ = self.first(self.dropout(x))
        if twice:
            middle, _ = self.first(x)
        return self.second(middle)[0]


def test_a_layer_in_a_module_sees_what_it_is_given_there():
    module, x = Around(), torch.randn(6, 2, 3)
    module.dropout.eval()
    found = cellula.lens(module, x, within="second")
    expected = cellula.lens(module.second, module.first(x)[0])
    np.testing.assert_allclose(found.node("c").values, expected.node("c").values)
    assert module.training and not module.dropout.training
    assert cellula.lens(nn.Sequential(made("gru", 3, 4)), x).names == ("r", "z", "n", "h")


@pytest.mark.parametrize(
    ("subject", "x", "options", "message"),
    [
        (made("gru", 3, 4), torch.zeros(0, 1, 3), {}, "no steps"),
        (made("gru", 3, 4), torch.zeros(4, 0, 3), {}, "no rows"),
        (made("gru", 3, 4), torch.full((4, 1, 3), math.inf), {}, "not finite"),
        (made("gru", 3, 4), None, {}, "tensor"),
        (made("gru", 3, 4), torch.zeros(4, 1, 3), {"record": ("q",)}, "is not a node of gru"),
        (made("gru", 3, 4), torch.zeros(4, 1, 3), {"record": ()}, "names no node"),
        (made("gru", 3, 4), torch.zeros(4, 1, 3), {"within": "a"}, "leave it out"),
        (made("gru", 3, 4), torch.zeros(4, 1, 3), {"characters": "abc"}, "3 characters.*4 steps"),
        (made("gru", 3, 4), torch.zeros(4, 2, 3), {"characters": "abcd"}, "one text a row"),
        (made("gru", 3, 4), torch.zeros(4, 1, 3), {"input_names": ("a",)}, "1 names.*3 columns"),
        (Around(), torch.zeros(4, 1, 3), {}, "within='first' or within='second'"),
        (Around(), torch.zeros(4, 1, 3), {"within": "frist"}, "first"),
        (Around(), (torch.zeros(4, 1, 3), True), {"within": "first"}, "called 2 times"),
        (nn.Linear(3, 3), torch.zeros(4, 1, 3), {}, "no Recurrent"),
        ("lstm", torch.zeros(4, 1, 3), {}, "not at str"),
    ],
)
def test_what_is_refused(subject, x, options, message):
    with pytest.raises(UsageError, match=message):
        cellula.lens(subject, x, **options)


def test_a_single_step_has_no_memory_curve():
    found = cellula.lens(made("gru", 3, 4), torch.zeros(1, 1, 3))
    assert found.memory is None
    with pytest.raises(UsageError, match="single step"):
        found.memory_curve()


def test_layouts():
    layer = made("gru", 3, 4, batch_first=True, bidirectional=True)
    found = cellula.lens(layer, torch.randn(2, 6, 3))
    assert (found.steps, found.rows, found.layers) == (6, 2, 2)
    assert found.shown.values.shape == (6, 2, 3)
    assert found.memory.states == {}
