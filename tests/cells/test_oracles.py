"""Cells against code that others published, and against their papers over whole sequences rather than single steps."""

import importlib
import warnings

import pytest
import torch
from torch.nn.functional import layer_norm

from cellula import Recurrent, load_cell
from compare import assert_close

DOUBLE = torch.float64
STEPS, ROWS, INPUT = 19, 3, 3
sigmoid, tanh = torch.sigmoid, torch.tanh


def module_of(cell, hidden, **options):
    """A module whose learned weights all differ from their start, its tensors by name, and an input."""
    torch.manual_seed(5)
    module = Recurrent(cell, INPUT, hidden, dtype=DOUBLE, **options).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.5 * torch.randn_like(parameter))
    return module, dict(module.layers[0].tensors()), torch.randn(STEPS, ROWS, INPUT, dtype=DOUBLE)


def clockwork(x, p, groups, hidden):
    """Koutnik et al. 2014 as written: at step t the modules whose period divides t; each reads the slower ones."""
    size = hidden // groups
    state = [x.new_zeros(size, x.shape[1]) for _ in range(groups)]
    outputs = []
    for t, step in enumerate(x):
        new = list(state)
        for module in range(groups):
            if t % 2**module == 0:
                own = slice(module * size, (module + 1) * size)
                total = p["W_I"].T[own] @ step.T + p["b"][own, None]
                for slower in range(module, groups):
                    total = total + p["W_H"].T[own, slower * size : (slower + 1) * size] @ state[slower]
                new[module] = tanh(total)
        state = new
        outputs.append(torch.cat(state).T)
    return torch.stack(outputs)


def test_the_clockwork_network_ticks_as_in_its_paper():
    module, p, x = module_of("clockwork_rnn", 16)
    output, state = module(x)
    assert_close([output], [clockwork(x, p, 8, 16)])
    learned = [p[name] for name in ("W_I", "b")]
    ours = torch.autograd.grad(output.square().sum(), [*learned, module.layers[0].W_H], retain_graph=True)
    theirs = torch.autograd.grad(clockwork(x, p, 8, 16).square().sum(), [*learned, p["W_H"]])
    assert_close(ours[:2], theirs[:2])
    reached = ours[2] != 0
    assert_close([ours[2]], [theirs[2] * reached]) and reached.float().mean() > 0.5
    # The clocks are part of the state: a sequence in two chunks is the whole.
    first, middle = module(x[:7])
    second, last = module(x[7:], middle)
    assert_close([torch.cat([first, second]), *last], [output, *state])


def test_a_clockwork_network_with_other_clocks_is_noticed():
    text = load_cell("clockwork_rnn").source.text
    for right, wrong in (("powers(2, 8)", "powers(3, 8)"), (", triangle=8", ""), ("k[t-1]) - 1", "k[t-1])")):
        assert text.count(right) == 1
        module, p, x = module_of(text.replace(right, wrong), 16)
        with pytest.raises(AssertionError, match="differs by"):
            assert_close([module(x)[0]], [clockwork(x, p, 8, 16)])


def joint_lstm(x, s, p, units):
    """Ba et al. 2016, supplement: the four gates are one vector."""

    def normalised(value, matrices, gains):
        every = value @ torch.cat([p[f"{matrices}_{k}"] for k in "fiog"], -1)
        return layer_norm(every, every.shape[-1:], torch.cat([p[f"{gains}_{k}"] for k in "fiog"]))

    total = normalised(s["h"], "U", "u") + normalised(x, "W", "w") + torch.cat([p[f"b_{k}"] for k in "fiog"])
    f, i, o, g = total.chunk(4, -1)
    c = sigmoid(f) * s["c"] + sigmoid(i) * tanh(g)
    return {"c": c, "h": sigmoid(o) * tanh(layer_norm(c, (units,), p["v_c"], p["b_c"]))}


def joint_gru(x, s, p, units):
    """Ba et al. 2016, supplement: the two gates are one vector."""

    def normalised(value, matrices, gains):
        every = value @ torch.cat([p[f"{matrices}_{k}"] for k in "zr"], -1)
        return layer_norm(every, every.shape[-1:], torch.cat([p[f"{gains}_{k}"] for k in "zr"]))

    total = normalised(s["h"], "U", "u") + normalised(x, "W", "w") + torch.cat([p[f"b_{k}"] for k in "zr"])
    z, r = sigmoid(total).chunk(2, -1)
    n = layer_norm(x @ p["W_n"], (units,), p["w_n"], p["b_n"])
    n = tanh(n + r * layer_norm(s["h"] @ p["U_n"], (units,), p["u_n"], p["c_n"]))
    return {"h": (1 - z) * s["h"] + z * n}


@pytest.mark.parametrize(("cell", "step"), [("layer_norm_lstm_joint", joint_lstm), ("layer_norm_gru_joint", joint_gru)])
def test_gates_that_are_normalised_together(cell, step):
    module, p, x = module_of(cell, 5)
    output, last = module(x)
    state = {name: x.new_zeros(ROWS, 5) for name in module.state_names}
    found = []
    for value in x:
        state = step(value, state, p, 5)
        found.append(state["h"])
    assert_close({"output": output, "h": last.h[0]}, {"output": torch.stack(found), "h": state["h"]})
    leaves = list(module.parameters())
    ours, theirs = (torch.autograd.grad(value.square().sum(), leaves) for value in (output, torch.stack(found)))
    assert_close(ours, theirs)
    apart, _, _ = module_of(cell.removesuffix("_joint"), 5)
    apart.load_state_dict(module.state_dict())
    with pytest.raises(AssertionError, match="differs by"):
        assert_close([apart(x)[0]], [output], 1e-3)


@pytest.mark.parametrize("dt", [1.0, 0.3])
def test_synapses_are_those_of_ncps(dt):
    reason = "no oracle for ltc_synapses: ncps (extra `test`) is missing"
    ncps, wirings = (pytest.importorskip(name, reason=reason) for name in ("ncps.torch", "ncps.wirings"))
    hidden = 5
    module, p, x = module_of("ltc_synapses", hidden, synapses=hidden**2, senses=INPUT * hidden, dt=dt)
    theirs = ncps.LTCCell(wirings.FullyConnected(hidden), INPUT, epsilon=0.0, implicit_param_constraints=True)
    single = {"gleak": "g", "vleak": "v_l", "cm": "C", "input_w": "a_x", "input_b": "b_x", "output_w": "a_y",
              "output_b": "b_y"}  # fmt: skip
    pairs = {"w": "w", "sigma": "sigma", "mu": "mu", "erev": "E"}
    weights = {name: p[ours] for name, ours in single.items()}
    # Synapse s leads from unit s % units, and the synapses of one neuron lie side by side.
    weights |= {name: p[ours].view(hidden, hidden).T for name, ours in pairs.items()}
    weights |= {f"sensory_{name}": p[f"{ours}_x"].view(hidden, INPUT).T for name, ours in pairs.items()}
    assert weights.keys() == {name for name in theirs.state_dict() if not name.endswith("sparsity_mask")}
    # Their solver reads this table, not the attributes.
    theirs._params = weights | {name: torch.ones_like(weights[other]) for name, other in (
        ("sparsity_mask", "w"), ("sensory_sparsity_mask", "sensory_w"))}  # fmt: skip
    state, found = torch.randn(ROWS, hidden, dtype=DOUBLE), []
    output, last = module(x, module.state(v=state.unsqueeze(0)))
    for value in x:
        one, state = theirs(value, state, dt)
        found.append(one)
    assert_close([output, last.v[0]], [torch.stack(found), state])
    leaves = list(module.parameters())
    ours, others = (torch.autograd.grad(value.square().sum(), leaves) for value in (output, torch.stack(found)))
    assert_close(ours, others)


def sru_package(monkeypatch):
    """The package sru without its compiled operations: its loop in plain torch is what is compared."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        monkeypatch.setattr("torch.utils.cpp_extension.load", lambda *_, **__: None)
        # What it compiles with torch.jit are its operations for inference.
        monkeypatch.setattr("torch.jit.script", lambda function: function)
        try:
            return importlib.import_module("sru.modules")
        except ModuleNotFoundError:
            pytest.skip("no oracle for sru: pip install sru==2.6.0")


@pytest.mark.filterwarnings("ignore:Running SRU on CPU")
@pytest.mark.parametrize("hidden", [5, INPUT])
def test_sru_is_that_of_its_authors_package(hidden, monkeypatch):
    # Where the input passes a matrix their code leaves out the scale of the highway.
    alpha = 3**0.5 if hidden == INPUT else 1.0
    module, p, x = module_of("sru", hidden, alpha=alpha)
    theirs = sru_package(monkeypatch).SRUCell(INPUT, hidden).to(DOUBLE)
    matrices = [p["W"], p["W_f"], p["W_r"], p["W_x"]]
    with torch.no_grad():
        if hidden == INPUT:
            p["W_x"].copy_(torch.eye(INPUT))
            assert theirs.scale_x.item() == pytest.approx(alpha)
        # Their columns are ordered by unit, then by matrix.
        theirs.weight.copy_(torch.stack(matrices[: theirs.num_matrices], -1).flatten(1))
        theirs.weight_c.copy_(torch.cat([p["v_f"], p["v_r"]]))
        theirs.bias.copy_(torch.cat([p["b_f"], p["b_r"]]))
    start = torch.randn(ROWS, hidden, dtype=DOUBLE)
    output, state = module(x, module.state(c=start.unsqueeze(0)))
    found, last = theirs(x, start)
    assert_close([output, state.c[0]], [found, last], 1e-7)


def test_slstm_is_that_of_its_authors_package():
    name = "xlstm.blocks.slstm.src.vanilla.slstm"
    theirs = pytest.importorskip(name, reason="no oracle for slstm: pip install xlstm==2.0.6")
    hidden = 8
    module, p, x = module_of("slstm", hidden)
    output, last = module(x)
    states, found = torch.zeros(4, ROWS, hidden, dtype=DOUBLE), []
    bias = torch.cat([p[f"b_{k}"] for k in "ifzo"])
    for value in x:
        fed = torch.cat([states[0] @ torch.block_diag(*p[f"R_{k}"]) for k in "ifzo"], -1)
        given = torch.cat([value @ p[f"W_{k}"] for k in "ifzo"], -1)
        states, _ = theirs.slstm_forward_pointwise(given, fed, bias, states, {})
        found.append(states[0])
    assert_close([output, last.c[0] / last.n[0]], [torch.stack(found), states[1] / states[2]])


def test_starts_that_depend_on_the_unit():
    torch.manual_seed(0)
    units = 64
    forget = Recurrent("slstm", 3, units).layers[0].b_f.detach()
    assert_close([forget], [torch.linspace(3, 6, units // 4).repeat(4)], 1e-6)
    assert Recurrent("clockwork_rnn", 3, units).layers[0].T.unique().tolist() == [2.0**k for k in range(8)]
    janet = Recurrent("janet", 3, units, span=50).layers[0].b_f.detach()
    assert janet.min() >= 0 and 3.5 < janet.max() <= torch.tensor(49.0).log()
    lru = Recurrent("lru", 3, 500, r_min=0.8, r_max=0.9).layers[0]
    square = torch.exp(-2 * torch.exp(lru.nu.detach()))
    # Even over the area of the ring: the squares of the moduli are uniform.
    assert square.min() >= 0.64 and square.max() <= 0.81 and abs(square.mean() - 0.725) < 0.01
    for module in (lru, Recurrent("lru", 3, 5000).layers[0]):
        assert torch.isfinite(module.nu).all() and module.theta.exp().max() <= 6.2801


def test_the_legendre_memory_holds_the_last_steps():
    """Voelker & Eliasmith 2018: shifted Legendre polynomials read any delay within the window off the memory."""
    window, order = 50, 12
    module = Recurrent("lmu", 1, 4, memory=order, theta=window, dtype=DOUBLE)
    layer = module.layers[0]
    with torch.no_grad():
        layer.e_x.fill_(1.0)
        layer.e_h.zero_()
    time = torch.arange(300, dtype=DOUBLE)
    u = torch.sin(2 * torch.pi * time / 61) + 0.5 * torch.cos(2 * torch.pi * time / 37)
    _, _, recorded = module(u.view(-1, 1, 1), record=("m",))
    memory = recorded["m"][0, :, 0]
    for delay in (0, 17, 49):
        place = 2 * (delay + 0.5) / window - 1
        legendre = [1.0, place]
        for n in range(1, order - 1):
            legendre.append(((2 * n + 1) * place * legendre[n] - n * legendre[n - 1]) / (n + 1))
        read = memory @ torch.tensor(legendre, dtype=DOUBLE)
        # Held through a step, the signal is the step's mean: the middle of a step is where it is read.
        assert (read[100:] - u[100 - delay : 300 - delay]).abs().max() < 0.03, delay


def test_the_legendre_memory_unit_is_its_paper():
    module, p, x = module_of("lmu", 5, memory=4, theta=9)
    number = range(4)
    A = torch.tensor([[(2 * i + 1) * (-1.0 if i < j else (-1.0) ** (i - j + 1)) for j in number] for i in number])
    B = torch.tensor([(2 * i + 1) * (-1.0) ** i for i in number])
    # A million small Euler steps lead to the exact step of a memory whose input is held.
    both = torch.eye(5, dtype=DOUBLE)
    both[:4] += torch.cat([A, B[:, None]], 1) / 9 / 2**20
    both = torch.linalg.matrix_power(both, 2**20)
    assert_close([p["A"].T, p["B"]], [both[:4, :4], both[:4, 4]], 1e-5)
    output, last = module(x)
    h, m, found = x.new_zeros(ROWS, 5), x.new_zeros(ROWS, 4), []
    for value in x:
        u = value @ p["e_x"] + h @ p["e_h"] + m @ p["e_m"]
        m = (p["A"].T @ m.T + torch.outer(p["B"], u)).T
        h = tanh(value @ p["W_x"] + h @ p["W_h"] + m @ p["W_m"])
        found.append(h)
    assert_close([output, last.m[0]], [torch.stack(found), m])


def test_the_recurrent_highway_network_is_its_paper():
    module, p, x = module_of("rhn", 5)
    s, found = x.new_zeros(ROWS, 5), []
    for value in x:
        for layer in (1, 2, 3):
            h, t = (
                s @ p[f"R_{k}{layer}"] + p[f"b_{k}{layer}"] + (value @ p[f"W_{k}"] if layer == 1 else 0) for k in "ht"
            )
            s = tanh(h) * sigmoid(t) + s * (1 - sigmoid(t))
        found.append(s)
    output, _ = module(x)
    assert_close([output], [torch.stack(found)])
    leaves = list(module.parameters())
    assert_close(*(torch.autograd.grad(value.square().sum(), leaves) for value in (output, torch.stack(found))))


def test_the_phased_lstm_opens_as_in_its_paper():
    module, p, _ = module_of("phased_lstm", 6, r=0.3, dt=1.5)
    with torch.no_grad():
        p["log_tau"].uniform_(0.6, 2.5)
        p["s"].uniform_(0.1, 0.9)
    x = torch.randn(40, ROWS, INPUT, dtype=DOUBLE)
    h = c = x.new_zeros(ROWS, 6)
    found = []
    for number, value in enumerate(x):
        tau = p["log_tau"].exp()
        phi = torch.remainder(number * 1.5 - p["s"] * tau, tau) / tau
        k = torch.where(phi < 0.15, 2 * phi / 0.3, torch.where(phi < 0.3, 2 - 2 * phi / 0.3, 0.001 * phi))
        i, f = (sigmoid(value @ p[f"W_{g}"] + h @ p[f"U_{g}"] + p[f"p_{g}"] * c + p[f"b_{g}"]) for g in "if")
        new = f * c + i * tanh(value @ p["W_g"] + h @ p["U_g"] + p["b_g"])
        c = k * new + (1 - k) * c
        o = sigmoid(value @ p["W_o"] + h @ p["U_o"] + p["p_o"] * c + p["b_o"])
        h = k * o * tanh(new) + (1 - k) * h
        found.append(h)
    output, last = module(x)
    assert_close([output, last.c[0]], [torch.stack(found), c])
    leaves = list(module.parameters())
    assert_close(*(torch.autograd.grad(value.square().sum(), leaves) for value in (output, torch.stack(found))))
