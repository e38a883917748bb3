"""Cells written out by hand from their papers, one step a function: (x, state, p) -> state, with the output last."""

import torch


def mlp(x, state, p):
    return (torch.tanh(torch.tanh(x @ p.W_a + p.b_a) @ p.W_h + p.b_h),)


def elman(x, state, p):
    return (torch.tanh(x @ p.W + state[0] @ p.U + p.b),)


def jordan(x, state, p):
    hidden = torch.tanh(x @ p.W + state[0] @ p.U + p.b)
    return (torch.tanh(hidden @ p.V + p.b_y),)


def gru(x, state, p):
    (h,) = state
    reset = torch.sigmoid(x @ p.W_r + h @ p.U_r + p.b_r)
    update = torch.sigmoid(x @ p.W_z + h @ p.U_z + p.b_z)
    candidate = torch.tanh(x @ p.W_n + (reset * h) @ p.U_n + p.b_n)
    return (update * h + (1 - update) * candidate,)


def gru_torch(x, state, p):
    (h,) = state
    reset = torch.sigmoid(x @ p.W_r + h @ p.U_r + p.b_r)
    update = torch.sigmoid(x @ p.W_z + h @ p.U_z + p.b_z)
    candidate = torch.tanh(x @ p.W_n + p.b_n + reset * (h @ p.U_n + p.c_n))
    return (update * h + (1 - update) * candidate,)


def lstm(x, state, p):
    c, h = state
    i, f, o = (torch.sigmoid(x @ p[f"W_{k}"] + h @ p[f"U_{k}"] + p[f"b_{k}"]) for k in "ifo")
    c = f * c + i * torch.tanh(x @ p.W_g + h @ p.U_g + p.b_g)
    return c, o * torch.tanh(c)


def peephole_lstm(x, state, p):
    c, h = state
    i, f = (torch.sigmoid(x @ p[f"W_{k}"] + h @ p[f"U_{k}"] + p[f"p_{k}"] * c + p[f"b_{k}"]) for k in "if")
    c = f * c + i * torch.tanh(x @ p.W_g + h @ p.U_g + p.b_g)
    o = torch.sigmoid(x @ p.W_o + h @ p.U_o + p.p_o * c + p.b_o)
    return c, o * torch.tanh(c)


def cifg_lstm(x, state, p):
    c, h = state
    i, o = (torch.sigmoid(x @ p[f"W_{k}"] + h @ p[f"U_{k}"] + p[f"b_{k}"]) for k in "io")
    c = (1 - i) * c + i * torch.tanh(x @ p.W_g + h @ p.U_g + p.b_g)
    return c, o * torch.tanh(c)


def lstm_printed(x, state, p):
    c, h = state
    i, f, o = (torch.sigmoid(x @ p[f"B_{k}"] + h @ p[f"W_{k}"]) for k in "ifo")
    c = torch.sigmoid(f * c + i * torch.tanh(x @ p.B_g + h @ p.W_g))
    return c, torch.tanh(c) * o


STEPS = {step.__name__: step for step in (
    mlp, elman, jordan, gru, gru_torch, lstm, peephole_lstm, cifg_lstm, lstm_printed)}  # fmt: skip


class Parameters(dict):
    """Parameters that read like the paper: `p.W_i`."""

    __getattr__ = dict.__getitem__


def run(name, x, state, parameters):
    """The outputs [T, B, H] and the last state."""
    outputs = []
    for value in x:
        new = STEPS[name](value, state, Parameters(parameters))
        outputs.append(new[-1])
        state = new if state else ()
    return torch.stack(outputs), state
