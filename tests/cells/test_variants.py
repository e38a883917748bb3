"""Variants of LSTM and GRU, units in continuous time, cells for parallel training: each against its paper, by hand."""

import math

import pytest
import torch
from torch import nn

import by_hand_variants
from cellula import Recurrent, load_cell
from compare import assert_close, gradients
from zoo_sizes import own_sizes

DOUBLE = torch.float64
TOLERANCE = 1e-10
STEPS, ROWS, INPUT, HIDDEN = 6, 3, 3, 4

# name -> (right, wrong): what is changed in the formula so that the comparison must notice.
WRONG = {
    "nig_lstm": ("c[t] = z[t] + ", "c[t] = z[t] * o[t-1] + "),
    "nfg_lstm": ("z[t] * i[t] + c[t-1]", "z[t] * i[t] + i[t] * c[t-1]"),
    "nog_lstm": ("y[t] = tanh(c[t])", "y[t] = tanh(c[t]) * i[t]"),
    "niaf_lstm": ("z[t] = x[t] @ W_z + y[t-1] @ R_z + b_z", "z[t] = tanh(x[t] @ W_z + y[t-1] @ R_z + b_z)"),
    "noaf_lstm": ("y[t] = c[t] * o[t]", "y[t] = tanh(c[t]) * o[t]"),
    "cifg_peephole_lstm": ("p_o * c[t]", "p_o * c[t-1]"),
    "fgr_lstm": ("f[t-1] @ R_fi", "o[t-1] @ R_fi"),
    "layer_norm_lstm": ("layer_norm(c[t])", "c[t]"),
    "layer_norm_gru": ("layer_norm(h[t-1] @ U_n)", "layer_norm((r[t] * h[t-1]) @ U_n)"),
    "zoneout_lstm": ("o[t] * tanh(n[t])", "o[t] * tanh(c[t])"),
    "recurrent_dropout_lstm": ("i[t] * dropout(g[t], rate)", "i[t] * dropout(g[t], rate) * (1 - rate)"),
    "variational_dropout_lstm": ("g[t] = tanh(", "g[t] = sigmoid("),
    "projected_lstm": ("m[t] @ W_h", "tanh(m[t] @ W_h)"),
    "projected_gru": ("z[t] * m[t-1]", "z[t] * m[t-1] * r[t]"),
    "irnn": ("relu(", "tanh("),
    "leaky_rnn": ("(1 - tau[t]) * tanh(", "tanh("),
    "echo_state": ("leak * a[t]", "a[t]"),
    "ltc": ("f4[t] * A", "f3[t] * A"),
    "cfc": ("(1 - s[t]) * g[t] + s[t] * k[t]", "s[t] * g[t] + (1 - s[t]) * k[t]"),
    "slstm": ("n[t] = f[t] * n[t-1] + i[t]", "n[t] = f[t] * n[t-1] + 1"),
    "mingru": ("(1 - z[t]) * h[t-1] + z[t] * n[t]", "z[t] * h[t-1] + (1 - z[t]) * n[t]"),
    "minlstm": ("sigmoid(softplus(-a_i[t]) - softplus(-a_f[t]))", "sigmoid(a_f[t] - a_i[t])"),
    "sru": ("v_r * c[t-1] + b_r", "v_r * c[t-1] - b_r"),
    "qrnn_f": ("f[t] = sigmoid(x[t-1] @ V_f + x[t] @ W_f)", "f[t] = sigmoid(x[t-1] @ W_f + x[t] @ V_f)"),
    "qrnn_fo": ("h[t] = o[t] * c[t]", "h[t] = o[t] * tanh(c[t])"),
    "qrnn_ifo": ("i[t] * z[t]", "(1 - f[t]) * z[t] + 0 * i[t]"),
    "lru": ("a[t] @ C_a - b[t] @ C_b", "a[t] @ C_a + b[t] @ C_b"),
    "rg_lru": ("sqrt(max(1 - a[t] * a[t], 1e-12))", "(1 - a[t])"),
}  # fmt: skip


def compare(cell, step, hidden=HIDDEN, **settings):
    """Outputs, last states and all gradients of the cell and of a loop over the step written by hand."""
    torch.manual_seed(7)
    settings |= own_sizes(load_cell(cell))
    module = Recurrent(cell, INPUT, hidden, dtype=DOUBLE, **settings).eval()
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    x = torch.randn(STEPS, ROWS, INPUT, dtype=DOUBLE, requires_grad=True)
    # A normaliser is positive, so all states start so.
    sizes = module.layers[0].state_sizes
    start = {name: (torch.rand(1, ROWS, size, dtype=DOUBLE) + 0.1).requires_grad_() for name, size in sizes.items()}
    parameters = dict(module.layers[0].named_parameters())
    # What is given comes along, and its gradient with it.
    given = {name: value.clone().requires_grad_() for name, value in module.layers[0].named_buffers()}
    module.layers[0]._buffers.update(given)
    parameters |= {name: value for name, value in given.items() if not name.endswith("_lag0")}
    found, state = module(x, module.state(**start))
    ours = {"output": found, **{f"state {name}": value for name, value in state._asdict().items()}}
    output, last = by_hand_variants.run(step, x, {name: value[0] for name, value in start.items()}, parameters)
    theirs = {"output": output, **{f"state {name}": value.unsqueeze(0) for name, value in last.items()}}
    assert_close(ours, theirs, TOLERANCE)
    leaves = {"x": x, **{f"start {name}": value for name, value in start.items()}, **parameters}
    one, other = (gradients(values.values(), list(leaves.values())) for values in (ours, theirs))
    assert_close(dict(zip(leaves, one, strict=True)), dict(zip(leaves, other, strict=True)), TOLERANCE)
    return dict(zip(leaves, one, strict=True))


@pytest.mark.parametrize("name", by_hand_variants.STEPS)
def test_every_variant_is_its_paper(name):
    found = compare(name, by_hand_variants.STEPS[name])
    assert all(gradient.abs().sum() > 0 for leaf, gradient in found.items() if not leaf.startswith("start"))


@pytest.mark.parametrize("name", by_hand_variants.STEPS)
def test_a_wrong_equation_is_noticed(name):
    right, wrong = WRONG[name]
    text = load_cell(name).source.text
    assert text.count(right) == 1
    with pytest.raises(AssertionError, match="differs by"):
        compare(text.replace(right, wrong), by_hand_variants.STEPS[name])


def test_heads_of_the_slstm_do_not_see_each_other():
    text = load_cell("slstm").source.text.replace("blocks=4)", "blocks=2)")
    assert text.count("blocks=2") == 4
    compare(text, by_hand_variants.slstm)
    module = Recurrent(text, INPUT, HIDDEN)
    for parameter in module.parameters():
        nn.init.normal_(parameter)
    start = {name: torch.rand(1, 1, HIDDEN) for name in module.state_names}
    other = {**start, "h": start["h"] + torch.tensor([0.0, 0.0, 1.0, 1.0])}
    x = torch.randn(1, 1, INPUT)
    one, two = (module(x, module.state(**values))[0][0, 0] for values in (start, other))
    assert torch.equal(one[:2], two[:2]) and not torch.isclose(one[2:], two[2:]).any()


def test_the_stabiliser_lets_the_slstm_see_what_would_overflow():
    module = Recurrent("slstm", INPUT, HIDDEN, dtype=torch.float32)
    with torch.no_grad():
        module.layers[0].b_i.fill_(200.0)
    assert math.isinf(torch.exp(torch.tensor(200.0)))
    output, state = module(torch.randn(50, ROWS, INPUT))
    assert torch.isfinite(output).all() and all(torch.isfinite(value).all() for value in state)
    assert output.abs().amax() > 0.01
    # Where hardly anything is let in at the start, there is still something to divide by.
    with torch.no_grad():
        module.layers[0].b_i.fill_(-200.0)
    x = torch.randn(50, ROWS, INPUT, requires_grad=True)
    output, _ = module(x)
    output.sum().backward()
    assert torch.isfinite(output).all() and torch.isfinite(x.grad).all() and output.abs().amax() > 0.01


def test_the_variant_without_peepholes_is_the_lstm():
    """NP of the Odyssey needs no file: it is `lstm`, and `peephole_lstm` is the Odyssey's vanilla LSTM."""
    torch.manual_seed(0)
    peephole, plain = (Recurrent(name, INPUT, HIDDEN, dtype=DOUBLE) for name in ("peephole_lstm", "lstm"))
    weights = peephole.state_dict()
    plain.load_state_dict({name: value for name, value in weights.items() if ".p_" not in name})
    peephole.load_state_dict({name: value * (".p_" not in name) for name, value in weights.items()})
    x = torch.randn(STEPS, ROWS, INPUT, dtype=DOUBLE)
    assert_close([plain(x)[0], *plain(x)[1]], [peephole(x)[0], *peephole(x)[1]])


@pytest.mark.parametrize("dt", [1.0, 0.3])
def test_cfc_is_that_of_ncps(dt):
    ncps = pytest.importorskip("ncps.torch", reason="no oracle for cfc: ncps (extra `test`) is missing")
    theirs = ncps.CfCCell(INPUT, HIDDEN, backbone_units=HIDDEN, backbone_layers=1).double()

    def step(x, s, p):
        weights = {
            "backbone.0.weight": torch.cat([p["W"], p["U"]]).T, "backbone.0.bias": p["b"],
            "ff1.weight": p["W_g"].T, "ff1.bias": p["b_g"], "ff2.weight": p["W_k"].T, "ff2.bias": p["b_k"],
            "time_a.weight": p["W_a"].T, "time_a.bias": p["b_a"], "time_b.weight": p["W_b"].T, "time_b.bias": p["b_b"],
        }  # fmt: skip
        assert weights.keys() == theirs.state_dict().keys()
        h, _ = torch.func.functional_call(theirs, weights, (x, s["h"], dt))
        return h, {"h": h}

    compare("cfc", step, dt=dt)


def test_the_projected_lstm_is_that_of_torch():
    torch.manual_seed(0)
    theirs = nn.LSTM(INPUT, HIDDEN, proj_size=2, dtype=DOUBLE)

    def step(x, s, p):
        # torch's order of the gates is i, f, g, o; of its two biases one is enough.
        weights = {"weight_ih_l0": torch.cat([p[f"W_{k}"].T for k in "ifgo"]), "weight_hr_l0": p["W_h"].T}
        weights |= {"weight_hh_l0": torch.cat([p[f"U_{k}"].T for k in "ifgo"])}
        weights |= {"bias_ih_l0": torch.cat([p[f"b_{k}"] for k in "ifgo"])}
        weights |= {"bias_hh_l0": torch.zeros(4 * HIDDEN, dtype=DOUBLE)}
        assert weights.keys() == dict(theirs.named_parameters()).keys()
        start = s["h"].unsqueeze(0), s["c"].unsqueeze(0)
        output, (h, c) = torch.func.functional_call(theirs, weights, (x.unsqueeze(0), start))
        return output[0], {"h": h[0], "c": c[0]}

    compare("projected_lstm", step)


def test_the_projected_gru_with_the_identity_is_the_gru_of_torch():
    def step(x, s, p):
        gru = nn.GRUCell(INPUT, 2, dtype=DOUBLE)
        weights = {"weight_ih": torch.cat([p[f"W_{k}"].T for k in "rzn"])}
        weights |= {"weight_hh": torch.cat([p[f"U_{k}"].T for k in "rzn"])}
        weights |= {"bias_ih": torch.cat([p[f"b_{k}"] for k in "rzn"])}
        weights |= {"bias_hh": torch.cat([torch.zeros(4, dtype=DOUBLE), p["c_n"]])}
        h = torch.func.functional_call(gru, weights, (x, s["h"]))
        return h, {"h": h}

    text = load_cell("projected_gru").source.text
    text = text.replace("m[t] @ W_h", "m[t] + 0 * (m[t] @ W_h)").replace("m[t-1]", "h[t-1]")
    compare(text, step, hidden=2)


def test_time_that_does_not_pass_changes_nothing_in_the_ltc():
    module = Recurrent("ltc", INPUT, HIDDEN, dt=0.0, dtype=DOUBLE)
    h = torch.randn(1, ROWS, HIDDEN, dtype=DOUBLE)
    _, state = module(torch.randn(STEPS, ROWS, INPUT, dtype=DOUBLE), module.state(h=h))
    assert_close([state.h], [h])


@pytest.mark.parametrize("name", ["zoneout_lstm", "recurrent_dropout_lstm"])
def test_random_draws_have_the_mean_of_the_quiet_cell(name):
    torch.manual_seed(0)
    rows = 20_000
    module = Recurrent(name, INPUT, HIDDEN, dtype=DOUBLE)
    x = torch.randn(1, 1, INPUT, dtype=DOUBLE).expand(1, rows, INPUT)
    start = {k: torch.randn(1, 1, HIDDEN, dtype=DOUBLE).expand(1, rows, HIDDEN) for k in module.state_names}
    noisy = module.train()(x, module.state(**start))[1].c[0]
    quiet = module.eval()(x, module.state(**start))[1].c[0]
    # The cell state is linear in its mask, so that its mean over the draws is its value at the mean of the mask.
    error = noisy.std(0) / rows**0.5
    assert (error > 0).all() and (quiet.std(0) < 1e-12).all()
    assert ((noisy.mean(0) - quiet[0]).abs() < 5 * error).all()


def test_variational_dropout_drops_the_same_units_at_all_steps():
    torch.manual_seed(0)
    module = Recurrent("variational_dropout_lstm", 16, 16, dtype=DOUBLE)
    _, _, recorded = module(torch.randn(8, 5, 16, dtype=DOUBLE), record=("v", "u"))
    for name, first in (("v", 0), ("u", 1)):
        # The hidden state before the first step is 0, so only later steps tell.
        dropped = (recorded[name][0, first:] == 0).double()  # [T, B, H]
        assert (dropped == dropped[:1]).all() and 0.05 < dropped[0].mean() < 0.5
        assert not (dropped[0, 0] == dropped[0, 1]).all()


@pytest.mark.parametrize("name", ["mingru", "minlstm", "sru", "qrnn_ifo", "lru", "rg_lru"])
@pytest.mark.parametrize("scale", [0.0, 1.0, 1e4])
def test_cells_for_parallel_training_know_no_nan(name, scale):
    torch.manual_seed(0)
    module = Recurrent(name, INPUT, HIDDEN)
    x = (scale * torch.randn(200, ROWS, INPUT)).requires_grad_()
    output, _ = module(x)
    output.mean().backward()
    assert torch.isfinite(output).all()
    assert all(torch.isfinite(leaf.grad).all() for leaf in (x, *module.parameters()))


def layer(name, hidden=64):
    torch.manual_seed(0)
    return dict(Recurrent(name, INPUT, hidden, dtype=DOUBLE).layers[0].named_parameters())


def test_starts_are_those_of_the_authors():
    start = layer("irnn")
    assert torch.equal(start["U"], torch.eye(64, dtype=DOUBLE)) and not start["b"].any()
    assert 0.0005 < start["W"].std() < 0.002
    reservoir = Recurrent("echo_state", INPUT, 64, dtype=DOUBLE).layers[0]
    assert torch.linalg.eigvals(reservoir.W).abs().max().item() == pytest.approx(0.9)
    assert 0.05 < (reservoir.W != 0).double().mean() < 0.15 and not list(reservoir.parameters())
    for name in ("layer_norm_lstm", "layer_norm_gru"):
        vectors = {key: value for key, value in layer(name).items() if value.ndim == 1}
        assert all((value == float(key[0] in "uwv")).all() for key, value in vectors.items())
    decay = torch.sigmoid(layer("rg_lru")["lam"]) ** 8
    assert 0.9 <= decay.min() < 0.93 and 0.99 < decay.max() <= 0.999
    modulus = torch.exp(-torch.exp(layer("lru")["nu"]))
    assert 0 < modulus.min() < 0.3 and 0.95 < modulus.max() < 1
    assert not any(layer("slstm")[f"R_{gate}"].any() for gate in "zifo")


@pytest.mark.parametrize(("name", "count"), [
    ("nig_lstm", 3 * 32 + 2 * 4), ("nfg_lstm", 3 * 32 + 2 * 4), ("nog_lstm", 3 * 32 + 2 * 4),
    ("niaf_lstm", 4 * 32 + 3 * 4), ("noaf_lstm", 4 * 32 + 3 * 4), ("cifg_peephole_lstm", 3 * 32 + 2 * 4),
    ("fgr_lstm", 4 * 32 + 3 * 4 + 9 * 16), ("zoneout_lstm", 4 * 32), ("recurrent_dropout_lstm", 4 * 32),
    ("variational_dropout_lstm", 4 * 32), ("irnn", 32), ("echo_state", 0), ("leaky_rnn", 36),
    ("slstm", 4 * (12 + 4 + 4)),
    ("mingru", 2 * 16), ("minlstm", 3 * 16), ("sru", 4 * 12 + 4 * 4), ("qrnn_f", 4 * 12), ("qrnn_fo", 6 * 12),
    ("qrnn_ifo", 8 * 12),
])  # fmt: skip
def test_parameter_counts(name, count):
    assert load_cell(name).parameter_count({"input": 3, "hidden": 4}) == count
