"""One step of each variant, written by hand from its paper: (x, state, p) -> (output, new state); no code of ours."""

import torch
from torch.nn.functional import layer_norm, logsigmoid, softplus

sigmoid, tanh, exp = torch.sigmoid, torch.tanh, torch.exp


def linear(x, h, p, gate, recurrent="U"):
    return x @ p[f"W_{gate}"] + h @ p[f"{recurrent}_{gate}"] + p[f"b_{gate}"]


def odyssey(x, s, p, without=""):
    """Greff et al. 2017: the vanilla LSTM with peepholes, and what each variant leaves out or adds."""
    c, y = s["c"], s["y"]
    gates = {"i": s.get("i"), "f": s.get("f"), "o": s.get("o")}

    def gate(name, peephole):
        value = linear(x, y, p, name, "R") + p[f"p_{name}"] * peephole
        if without == "FGR":
            value = value + sum(old @ p[f"R_{other}{name}"] for other, old in gates.items())
        return sigmoid(value)

    z = linear(x, y, p, "z", "R")
    z = z if without == "NIAF" else tanh(z)
    i = torch.ones_like(c) if without == "NIG" else gate("i", c)
    if without in ("NFG", "CIFG"):
        f = torch.ones_like(c) if without == "NFG" else 1 - i
    else:
        f = gate("f", c)
    c = z * i + c * f
    o = torch.ones_like(c) if without == "NOG" else gate("o", c)
    y = (c if without == "NOAF" else tanh(c)) * o
    return y, {"i": i, "f": f, "o": o, "c": c, "y": y}


def lstm(x, s, p, update=lambda f, c, i, g: f * c + i * g):
    i, f, o = (sigmoid(linear(x, s["h"], p, gate)) for gate in "ifo")
    c = update(f, s["c"], i, tanh(linear(x, s["h"], p, "g")))
    return o * tanh(c), {"c": c, "h": o * tanh(c)}


def zoneout_lstm(x, s, p):
    """Krueger et al. 2017; the expectation, as at test time."""
    h, new = lstm(x, s, p)
    c, h = 0.5 * s["c"] + 0.5 * new["c"], 0.05 * s["h"] + 0.95 * h
    return h, {"c": c, "h": h}


def projected_lstm(x, s, p):
    """Sak et al. 2014 without peepholes: what is fed back and goes out is a linear map of o * tanh(c)."""
    wide, new = lstm(x, s, p)
    return wide @ p["W_h"], {"c": new["c"], "h": wide @ p["W_h"]}


def projected_gru(x, s, p):
    """Cheng et al. 2018, PGRU, with the reset after the product: a wide memory goes out and back in as a linear map."""
    r, z = (sigmoid(linear(x, s["h"], p, gate)) for gate in "rz")
    n = tanh(x @ p["W_n"] + p["b_n"] + r * (s["h"] @ p["U_n"] + p["c_n"]))
    m = n + z * (s["m"] - n)
    return m @ p["W_h"], {"m": m, "h": m @ p["W_h"]}


def layer_norm_lstm(x, s, p):
    """Ba et al. 2016, supplement, each gate normalised by itself."""
    units = s["h"].shape[-1:]
    f, i, o, g = (layer_norm(s["h"] @ p[f"U_{k}"], units, p[f"u_{k}"]) + p[f"b_{k}"]
                  + layer_norm(x @ p[f"W_{k}"], units, p[f"w_{k}"]) for k in "fiog")  # fmt: skip
    c = sigmoid(f) * s["c"] + sigmoid(i) * tanh(g)
    h = sigmoid(o) * tanh(layer_norm(c, units, p["v_c"], p["b_c"]))
    return h, {"c": c, "h": h}


def layer_norm_gru(x, s, p):
    """Ba et al. 2016, supplement, each gate normalised by itself."""
    h, units = s["h"], s["h"].shape[-1:]
    z, r = (layer_norm(h @ p[f"U_{k}"], units, p[f"u_{k}"], p[f"b_{k}"])
            + layer_norm(x @ p[f"W_{k}"], units, p[f"w_{k}"]) for k in "zr")  # fmt: skip
    candidate = layer_norm(x @ p["W_n"], units, p["w_n"], p["b_n"])
    candidate = tanh(candidate + sigmoid(r) * layer_norm(h @ p["U_n"], units, p["u_n"], p["c_n"]))
    h = (1 - sigmoid(z)) * h + sigmoid(z) * candidate
    return h, {"h": h}


def irnn(x, s, p):
    h = torch.relu(x @ p["W"] + s["h"] @ p["U"] + p["b"])
    return h, {"h": h}


def leaky_rnn(x, s, p):
    tau = 1 / (1 + exp(-p["s"]))
    h = tau * s["h"] + (1 - tau) * tanh(x @ p["W"] + s["h"] @ p["U"] + p["b"])
    return h, {"h": h}


def echo_state(x, s, p):
    h = 0.7 * s["h"] + 0.3 * tanh(x @ p["W_in"] + s["h"] @ p["W"] + p["b"])
    return h, {"h": h}


def ltc(x, s, p):
    """Hasani et al. 2021, the fused solver with six unfolding steps."""
    h, delta, tau = s["h"], 1 / 6, 1 / softplus(p["w"])
    for _ in range(6):
        f = sigmoid(x @ p["W"] + h @ p["W_r"] + p["b"])
        h = (h + delta * f * p["A"]) / (1 + delta * (1 / tau + f))
    return h, {"h": h}


def cfc(x, s, p, dt=1.0):
    """Hasani et al. 2022, with a shared backbone; the gate is sigmoid(-f t), as printed."""
    backbone = 1.7159 * tanh(0.666 * (torch.cat([x, s["h"]], -1) @ torch.cat([p["W"], p["U"]]) + p["b"]))
    g, k, a, b = (backbone @ p[f"W_{head}"] + p[f"b_{head}"] for head in "gkab")
    h = sigmoid(-(a * dt + b)) * tanh(g) + (1 - sigmoid(-(a * dt + b))) * tanh(k)
    return h, {"h": h}


def slstm(x, s, p):
    """Beck et al. 2024 before stabilising: plain exponentials; c and n are divided by exp(m) only to be compared."""
    heads = {f"R_{k}": torch.block_diag(*p[f"R_{k}"]) if p[f"R_{k}"].ndim == 3 else p[f"R_{k}"] for k in "zifo"}
    z, i, f, o = (linear(x, s["h"], {**p, **heads}, k, "R") for k in "zifo")
    c = sigmoid(f) * (s["c"] * exp(s["m"])) + exp(i) * tanh(z)
    n = sigmoid(f) * (s["n"] * exp(s["m"])) + exp(i)
    h = sigmoid(o) * c / n
    m = torch.maximum(logsigmoid(f) + s["m"], i)
    return h, {"m": m, "c": c * exp(-m), "n": n * exp(-m), "h": h}


def mingru(x, s, p):
    z = sigmoid(x @ p["W_z"] + p["b_z"])
    h = (1 - z) * s["h"] + z * (x @ p["W_h"] + p["b_h"])
    return h, {"h": h}


def minlstm(x, s, p):
    f, i = (sigmoid(x @ p[f"W_{k}"] + p[f"b_{k}"]) for k in "fi")
    h = f / (f + i) * s["h"] + i / (f + i) * (x @ p["W_h"] + p["b_h"])
    return h, {"h": h}


def sru(x, s, p):
    """Lei et al. 2018, with the input of the highway through W_x and its scale sqrt(1 + 2 exp(0))."""
    f, r = (sigmoid(x @ p[f"W_{k}"] + p[f"v_{k}"] * s["c"] + p[f"b_{k}"]) for k in "fr")
    c = f * s["c"] + (1 - f) * (x @ p["W"])
    return r * c + (1 - r) * (x @ p["W_x"]) * 3**0.5, {"c": c}


def qrnn(x, s, p, pooling):
    """Bradbury et al. 2017: convolutions of width 2 over time, then the pooling."""
    window = torch.cat([s["x"], x], -1)
    gates = {k: window @ torch.cat([p[f"V_{k}"], p[f"W_{k}"]]) for k in "z" + pooling}
    f, memory = sigmoid(gates["f"]), "h" if pooling == "f" else "c"
    i = sigmoid(gates["i"]) if "i" in pooling else 1 - f
    c = f * s[memory] + i * tanh(gates["z"])
    return (sigmoid(gates["o"]) * c if "o" in pooling else c), {"x": x, memory: c}


def lru(x, s, p):
    """Orvieto et al. 2023, in complex numbers."""
    eigenvalue = exp(torch.complex(-exp(p["nu"]), exp(p["theta"])))
    gamma = exp(p["g"]) * (1 - eigenvalue.abs() ** 2).sqrt()
    state = eigenvalue * torch.complex(s["a"], s["b"]) + gamma * (x.to(eigenvalue) @ torch.complex(p["B_a"], p["B_b"]))
    return (state @ torch.complex(p["C_a"], p["C_b"])).real + x @ p["D"], {"a": state.real, "b": state.imag}


def rg_lru(x, s, p):
    """De et al. 2024; the decay as a power of a sigmoid, as printed."""
    u = x @ p["W"]
    r, i = (sigmoid(u @ p[f"W_{k}"] + p[f"b_{k}"]) for k in "ax")
    a = sigmoid(p["lam"]) ** (8 * r)
    h = a * s["h"] + (1 - a**2).sqrt() * (i * u)
    return h, {"h": h}


def _odyssey(without):
    return lambda x, s, p: odyssey(x, s, p, without)


def _qrnn(pooling):
    return lambda x, s, p: qrnn(x, s, p, pooling)


STEPS = {
    "nig_lstm": _odyssey("NIG"),
    "nfg_lstm": _odyssey("NFG"),
    "nog_lstm": _odyssey("NOG"),
    "niaf_lstm": _odyssey("NIAF"),
    "noaf_lstm": _odyssey("NOAF"),
    "cifg_peephole_lstm": _odyssey("CIFG"),
    "fgr_lstm": _odyssey("FGR"),
    # Nothing is dropped where the module does not train.
    "recurrent_dropout_lstm": lstm,
    "variational_dropout_lstm": lstm,
    "qrnn_f": _qrnn("f"),
    "qrnn_fo": _qrnn("fo"),
    "qrnn_ifo": _qrnn("ifo"),
    **{step.__name__: step for step in (
        zoneout_lstm, projected_lstm, projected_gru, layer_norm_lstm, layer_norm_gru, irnn, leaky_rnn, echo_state, ltc,
        cfc, slstm, mingru, minlstm, sru, lru, rg_lru)},
}  # fmt: skip


def run(step, x, state, parameters):
    """The outputs [T, B, H] and the last state by name."""
    outputs = []
    for value in x:
        output, new = step(value, state, parameters)
        state = {name: new[name] for name in state}
        outputs.append(output)
    return torch.stack(outputs), state
