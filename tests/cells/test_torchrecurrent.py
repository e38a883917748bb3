"""Cells that the package torchrecurrent has too: our weights in theirs give their numbers, over several steps.

Where its equations are not the paper's, ours are the paper's. Then two tests stand for one: our formula with the
package's equation put in gives the package's numbers, so that nothing else differs; and our own formula gives the
numbers of the paper's step, written by hand at the end of this file.
"""

from dataclasses import dataclass, field

import pytest
import torch

from cellula import Recurrent, cells, load_cell
from compare import assert_close

torchrecurrent = pytest.importorskip(
    "torchrecurrent", reason="torchrecurrent is not installed: pip install torchrecurrent==0.2.5"
)

STEPS, BATCH, INPUT, HIDDEN = 14, 3, 4, 5
TOLERANCE = 1e-10


@dataclass(frozen=True)
class Twin:
    """One cell there and here.

    Args:
        cell: the name of their class.
        parameters: their parameter -> ours in the order of its parts; `-` is a part that we do not have, set to 0.
        state: our names for the parts of their state, in their order.
        output: our name for their output.
        arguments: of their constructor; settings: of ours.
        scale: what ours are multiplied by to give theirs, parameters and state.
        replace: pieces of our formula and what the package has in their place.
        delay: how many steps before the last one lies the state that they take as a third argument.
    """

    cell: str
    parameters: dict[str, str]
    state: str = "h"
    output: str = ""
    arguments: dict[str, object] = field(default_factory=dict)
    settings: dict[str, float] = field(default_factory=dict)
    scale: dict[str, float] = field(default_factory=dict)
    replace: dict[str, str] = field(default_factory=dict)
    delay: int = 0
    input_size: int = INPUT


def gated(cell: str, gates: str, **others) -> Twin:
    """Every gate has W_, U_ and b_, and their parts come in this order."""
    names = {
        row: " ".join(f"{letter}_{gate}" for gate in gates.split())
        for row, letter in {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b"}.items()
    }
    return Twin(cell, names, **others)


TWINS = {
    "antisymmetric_rnn": Twin(
        "AntisymmetricRNNCell",
        {"weight_ih": "V", "weight_hh": "W", "bias_ih": "b"},
        arguments={"epsilon": 0.3, "gamma": 0.2},
        settings={"epsilon": 0.3, "gamma": 0.2},
    ),
    "gated_antisymmetric_rnn": Twin(
        "GatedAntisymmetricRNNCell",
        {"weight_ih": "V_z V_h", "weight_hh": "W", "bias_ih": "b_z b_h"},
        arguments={"epsilon": 0.3, "gamma": 0.2},
        settings={"epsilon": 0.3, "gamma": 0.2},
    ),
    "atr": Twin("ATRCell", {"weight_ih": "W", "weight_hh": "U"}),
    "br": Twin("BRCell", {"weight_ih": "U_a U_c U_x", "weight_hh": "w_a w_c", "bias_hh": "b_a b_c"}),
    "nbr": Twin("NBRCell", {"weight_ih": "U_a U_c U_x", "weight_hh": "W_a W_c", "bias_hh": "b_a b_c"}),
    "cfn": Twin(
        "CFNCell", {"weight_ih": "V_theta V_eta W", "weight_hh": "U_theta U_eta", "bias_ih": "b_theta b_eta -"}
    ),
    "co_rnn": Twin(
        "coRNNCell",
        {"weight_ih": "V", "weight_hh": "W_y", "weight_ch": "W_z", "bias_ih": "b"},
        "y z",
        arguments={"dt": 0.3, "gamma": 1.5, "epsilon": 0.7},
        settings={"dt": 0.3, "gamma": 1.5, "epsilon": 0.7},
    ),
    "unicornn": Twin(
        "UnICORNNCell",
        {"weight_ih": "V", "weight_hh": "w", "weight_ch": "c", "bias_ih": "b"},
        "y z",
        arguments={"dt": 0.3, "alpha": 1.5},
        settings={"dt": 0.3, "alpha": 1.5},
    ),
    "sgu": Twin("SGUCell", {"weight_ih": "W_xh W_xz", "weight_hh": "W_zxh W_hz", "bias_ih": "b_g b_z"}),
    "dsgu": Twin(
        "DSGUCell",
        {"weight_ih": "W_xh W_xz", "weight_hh": "W_zxh W_hz", "weight_ho": "W_go", "bias_ih": "b_g b_z"},
    ),
    "fast_rnn": Twin(
        "FastRNNCell", {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b", "alpha": "alpha", "beta": "beta"}
    ),
    # `nonlinearity` is the gate's there: with "sigmoid" their equation is the paper's.
    "fast_grnn": Twin(
        "FastGRNNCell",
        {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b_z b_h", "zeta": "zeta", "nu": "nu"},
        arguments={"nonlinearity": "sigmoid"},
    ),
    "ind_rnn": Twin(
        "IndRNNCell", {"weight_ih": "W", "vector_u": "u", "bias_ih": "b"}, arguments={"nonlinearity": "relu"}
    ),
    "intersection_rnn": gated("IntersectionRNNCell", "y h gy gh", output="y", input_size=HIDDEN),
    "ugrnn": gated("UGRNNCell", "c g"),
    "janet": gated("JANETCell", "f c", state="h h", arguments={"beta": 0.5}, settings={"beta": 0.5}),
    "lem": Twin(
        "LEMCell",
        {
            "weight_ih": "V_2 V_1 V_z V_y",
            "weight_hh": "W_2 W_1 W_z",
            "weight_ch": "W_y",
            "bias_ih": "b_2 b_1 b_z b_y",
        },
        "y z",
        arguments={"dt": 0.3},
        settings={"dt": 0.3},
        replace={"z[t] @ W_y": "z[t-1] @ W_y"},
    ),
    "light_ru": Twin("LightRUCell", {"weight_ih": "W_h W_f", "weight_hh": "U_f", "bias_ih": "b_h b_f"}),
    "li_gru": gated("LiGRUCell", "z h"),
    "mc_lstm": gated("MCLSTMCell", "f i o m n", state="v c", output="h"),
    "mgu": gated("MGUCell", "f h"),
    "minimal_rnn": Twin(
        "MinimalRNNCell",
        {"weight_ih": "W_x", "weight_hh": "U_h", "weight_mm": "U_z", "bias_ih": "b_z", "bias_hh": "b_u"},
    ),
    "miru1": gated("MiRU1Cell", "r h", arguments={"update_coefficient": 0.3}, settings={"keep": 0.3}),
    "miru2": gated(
        "MiRU2Cell",
        "h",
        arguments={"update_coefficient": 0.3, "reset_coefficient": 0.8},
        settings={"keep": 0.3, "reset": 0.8},
    ),
    "multiplicative_lstm": Twin(
        "MultiplicativeLSTMCell",
        {
            "weight_ih": "W_mx W_ix W_fx W_hx W_ox",
            "weight_hh": "W_mh",
            "weight_mh": "W_im W_fm W_hm W_om",
            "bias_ih": "- b_i b_f b_h b_o",
        },
        "h c",
    ),
    "mut1": Twin(
        "MUT1Cell",
        {"weight_ih": "W_xz W_xr P", "weight_hh": "W_hr W_hh", "bias_ih": "b_z b_r -", "bias_hh": "- b_h"},
    ),
    "mut2": Twin("MUT2Cell", {"weight_ih": "W_xz P W_xh", "weight_hh": "W_hz W_hr W_hh", "bias_ih": "b_z b_r b_h"}),
    "mut3": Twin("MUT3Cell", {"weight_ih": "W_xz W_xr W_xh", "weight_hh": "W_hz W_hr W_hh", "bias_ih": "b_z b_r b_h"}),
    "nas": Twin(
        "NASCell",
        {"weight_ih": " ".join(f"W_{n}" for n in range(8)), "weight_hh": " ".join(f"U_{n}" for n in range(8))},
        "h c",
        replace={"(x[t] @ W_3) * (h[t-1] @ U_3)": "x[t] @ W_3 + h[t-1] @ U_3"},
    ),
    # 4 * sigmoid(a) - 2 is 2 * tanh(a / 2): with half the weights and half the cell state, theirs is ours.
    "original_lstm": gated(
        "OriginalLSTMCell", "i g o", state="h c", scale={"W_g": 0.5, "U_g": 0.5, "b_g": 0.5, "c": 0.5}
    ),
    "peephole_lstm": Twin(
        "PeepholeLSTMCell",
        {"weight_ih": "W_i W_f W_g W_o", "weight_hh": "U_i U_f U_g U_o", "bias_ih": "b_i b_f b_g b_o"}
        | {"weight_ph": "p_i p_f p_o"},
        "h c",
    ),
    "ran": Twin("RANCell", {"weight_ih": "W_cx W_ix W_fx", "weight_hh": "W_ih W_fh", "bias_ih": "b_i b_f"}, "h c"),
    "res_lstm": Twin(
        "ResLSTMCell",
        {"weight_ih": "W_i W_f W_c W_o", "weight_hh": "U_i U_f U_c U_o", "bias_ih": "b_i b_f b_c b_o"}
        | {"weight_ph": "p_i p_f p_o", "weight_proj": "W_p", "weight_res": "W_r"},
        "h c",
    ),
    # The package feeds the output back, and puts it through tanh. 0.75 is exact in their float32 alpha.
    "scrn": Twin(
        "SCRNCell",
        {"weight_ih": "B A", "weight_hh": "R U", "weight_ch": "P V"},
        "y s",
        arguments={"alpha": 0.75},
        settings={"alpha": 0.75},
        replace={"h[t-1] @ R": "y[t-1] @ R", "y[t] = h[t] @ U + s[t] @ V": "y[t] = tanh(h[t] @ U + s[t] @ V)"},
    ),
    "sgrn": Twin("SGRNCell", {"weight_ih": "W", "weight_hh": "U", "bias_ih": "b", "bias_hh": "b_f"}),
    "star": Twin("STARCell", {"weight_ih": "W_z W_x", "weight_hh": "W_h", "bias_ih": "b_z b_k"}),
    "tau_gru": Twin(
        "tauGRUCell",
        {"weight_ih": "U_1 U_2 U_3 U_4", "weight_hh": "W_1 W_2 W_3 W_4", "bias_ih": "b_1 b_2 b_3 b_4"},
        delay=10,
    ),
    "trnn": Twin("TRNNCell", {"weight_ih": "W V", "bias_ih": "- b"}),
    "tgru": Twin("TGRUCell", {"weight_ih": "W_z W_f W_o", "weight_hh": "V_z V_f V_o", "bias_ih": "b_z b_f b_o"}, "h x"),
    "tlstm": Twin(
        "TLSTMCell",
        {"weight_ih": "W_z W_f W_o", "weight_hh": "V_z V_f V_o", "bias_ih": "b_z b_f b_o"},
        "c x",
        output="h",
    ),
    "wmc_lstm": Twin(
        "WMCLSTMCell",
        {"weight_ih": "W_i W_f W_g W_o", "weight_hh": "U_i U_f U_g U_o", "weight_mh": "V_i V_f V_o"}
        | {"bias_ih": "b_i b_f b_g b_o"},
        "h c",
    ),
}


# Their cells that the formula language cannot say: both need a parameter and its transpose in one sum.
@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(0)


def ours(name, twin, text=None):
    """Our cell with random weights, its parameters, and a random start."""
    module = Recurrent(text or name, twin.input_size, HIDDEN, dtype=torch.float64, **twin.settings)
    parameters = module.layers[0].tensors()
    with torch.no_grad():
        for tensor in parameters.values():
            tensor.normal_(std=0.6)
    sizes = {slot: module.layers[0].state_sizes[slot] for slot in module.state_names}
    start = {slot: 0.7 * torch.randn(1, BATCH, size, dtype=torch.float64) for slot, size in sizes.items()}
    return module, parameters, start


def theirs(twin, parameters):
    """Their cell with our weights; what we do not have is 0."""
    cell = getattr(torchrecurrent, twin.cell)(twin.input_size, HIDDEN, **twin.arguments).to(torch.float64)
    used = [name for names in twin.parameters.values() for name in names.split() if name != "-"]
    assert sorted(used) == sorted(parameters), "every parameter of ours goes to one place"
    with torch.no_grad():
        for name, tensor in cell.named_parameters():
            if name in twin.parameters:
                parts = twin.parameters[name].split()
                rows = len(tensor) // len(parts)
                tensor.copy_(torch.cat([part(parameters, twin, p, tensor[:rows]) for p in parts]))
            elif name not in twin.arguments:
                tensor.zero_()
    return cell


def part(parameters, twin, name, like):
    """One of our parameters as a part of theirs: their matrices are the transpose of ours."""
    if name == "-":
        return torch.zeros_like(like)
    value = parameters[name] * twin.scale.get(name, 1.0)
    return value.t() if value.ndim == 2 else value.reshape(like.shape)


def run_theirs(cell, twin, x, start):
    """Their outputs [T, B, H] and their last state, in our names and our scale."""
    names = twin.state.split()
    state = tuple(start[name][0] * twin.scale.get(name, 1.0) for name in names)
    past = [start[f"h_lag{lag}"][0] for lag in range(twin.delay + 1, 1, -1)]
    outputs = []
    for step in x:
        past = [*past, state[0]]
        state = state if len(state) > 1 else state[0]
        output = cell(step, state, past[-twin.delay - 1]) if twin.delay else cell(step, state)
        if twin.output:
            output, state = output
        else:
            state, output = output, output[0] if isinstance(output, tuple) else output
        state = state if isinstance(state, tuple) else (state,)
        outputs.append(output)
    return torch.stack(outputs), {n: s / twin.scale.get(n, 1.0) for n, s in zip(names, state, strict=True)}


def compare(name, twin, text=None):
    """Both over the same steps from the same start."""
    module, parameters, start = ours(name, twin, text)
    x = torch.randn(STEPS, BATCH, twin.input_size, dtype=torch.float64)
    with torch.no_grad():
        output, state = module(x, module.state(**start))
        expected, last = run_theirs(theirs(twin, parameters), twin, x, start)
    assert_close({"output": output}, {"output": expected}, TOLERANCE)
    assert_close({n: getattr(state, n)[0] for n in last}, last, TOLERANCE)


def text_of_package(name, twin):
    """Our formula with the package's equations in place of the paper's."""
    text = load_cell(name).source.text
    for old, new in twin.replace.items():
        assert text.count(old) == 1
        text = text.replace(old, new)
    return text


@pytest.mark.parametrize("name", TWINS)
def test_our_weights_in_theirs_give_their_numbers(name):
    twin = TWINS[name]
    compare(name, twin, text_of_package(name, twin) if twin.replace else None)


@pytest.mark.parametrize("name", [name for name, twin in TWINS.items() if twin.replace])
def test_where_the_package_differs_from_the_paper_so_do_the_numbers(name):
    module, _, _ = ours(name, TWINS[name])
    package, _, _ = ours(name, TWINS[name], text_of_package(name, TWINS[name]))
    package.load_state_dict(module.state_dict())
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    assert (module(x)[0] - package(x)[0]).abs().max() > 1e-3


@pytest.mark.parametrize("name", TWINS)
def test_a_wrong_mapping_is_noticed(name):
    """Two parts of equal shape changed places, or, where there is only one part, its scale is wrong."""
    twin = TWINS[name]
    row, parts = max(((row, names.split()) for row, names in twin.parameters.items()), key=lambda pair: len(pair[1]))
    if len(parts) > 1:
        wrong = Twin(**{**vars(twin), "parameters": {**twin.parameters, row: " ".join([*parts[1:], parts[0]])}})
    else:
        wrong = Twin(**{**vars(twin), "scale": {parts[0]: 1.001}})
    with pytest.raises(AssertionError, match="differs by"):
        compare(name, wrong, text_of_package(name, twin) if twin.replace else None)


def test_every_cell_of_the_package_is_here():
    there = {name for name in dir(torchrecurrent) if name.endswith("Cell")}
    assert there == {twin.cell for twin in TWINS.values()}
    assert set(TWINS) <= set(cells())


# The paper's step, written by hand, for each cell whose equations in the package are other ones.


def lem_step(w, x, y, z, dt):
    step_z = dt * torch.sigmoid(x @ w["V_1"] + y @ w["W_1"] + w["b_1"])
    step_y = dt * torch.sigmoid(x @ w["V_2"] + y @ w["W_2"] + w["b_2"])
    z = z + step_z * (torch.tanh(x @ w["V_z"] + y @ w["W_z"] + w["b_z"]) - z)
    # The package takes the old z here; the paper, equation (3), and the authors' code take the new one.
    y = y + step_y * (torch.tanh(x @ w["V_y"] + z @ w["W_y"] + w["b_y"]) - y)
    return y, {"y": y, "z": z}


def nas_step(w, x, h, c):
    i, m = [x @ w[f"W_{n}"] for n in range(8)], [h @ w[f"U_{n}"] for n in range(8)]
    sigmoid, tanh, relu = torch.sigmoid, torch.tanh, torch.relu
    # The product in the fourth leaf is the authors' (tf.contrib.rnn.NASCell); the package adds.
    left = tanh(sigmoid(i[0] + m[0]) * relu(i[1] + m[1])) + c
    c = tanh(left) * tanh(sigmoid(i[2] + m[2]) + relu(i[3] * m[3]))
    right = tanh(tanh(i[4] + m[4]) * sigmoid(i[5] + m[5])) + sigmoid(tanh(i[6] + m[6]) + sigmoid(i[7] + m[7]))
    h = tanh(c * tanh(right))
    return h, {"h": h, "c": c}


def scrn_step(w, x, h, s, alpha):
    s = (1 - alpha) * (x @ w["B"]) + alpha * s
    # The hidden layer sees itself; the package feeds its output back instead.
    h = torch.sigmoid(s @ w["P"] + x @ w["A"] + h @ w["R"])
    return h @ w["U"] + s @ w["V"], {"h": h, "s": s}


def original_lstm_step(w, x, h, c):
    def logistic(gate, low, high):
        return low + (high - low) / (1 + torch.exp(-(x @ w[f"W_{gate}"] + h @ w[f"U_{gate}"] + w[f"b_{gate}"])))

    c = c + logistic("i", 0, 1) * logistic("g", -2, 2)
    h = logistic("o", 0, 1) * (2 / (1 + torch.exp(-c)) - 1)
    return h, {"h": h, "c": c}


BY_HAND = {"lem": lem_step, "nas": nas_step, "scrn": scrn_step, "original_lstm": original_lstm_step}


@pytest.mark.parametrize("name", BY_HAND)
def test_the_papers_step_by_hand(name):
    module, parameters, start = ours(name, TWINS[name])
    x = torch.randn(STEPS, BATCH, INPUT, dtype=torch.float64)
    with torch.no_grad():
        output, state = module(x, module.state(**start))
        values, outputs = {slot: value[0] for slot, value in start.items()}, []
        for step in x:
            result, values = BY_HAND[name](parameters, step, **values, **TWINS[name].settings)
            outputs.append(result)
    assert_close({"output": output}, {"output": torch.stack(outputs)}, TOLERANCE)
    assert_close({slot: getattr(state, slot)[0] for slot in values}, values, TOLERANCE)


def test_every_difference_has_its_step_by_hand():
    assert {name for name, twin in TWINS.items() if twin.replace} <= set(BY_HAND)


@pytest.mark.parametrize("name", ["mut1", "mut2"])
def test_the_input_itself_goes_in_where_the_sizes_agree(name):
    """The paper has x[t] where the formula has x[t] @ P, and P starts as the identity."""
    tensors = Recurrent(name, HIDDEN, HIDDEN, dtype=torch.float64).layers[0].tensors()
    assert torch.equal(tensors["P"], torch.eye(HIDDEN, dtype=torch.float64))


def test_the_plus_rnn_takes_any_size():
    output, state = Recurrent("intersection_rnn", INPUT, HIDDEN, num_layers=2)(torch.randn(STEPS, BATCH, INPUT))
    assert output.shape == (STEPS, BATCH, INPUT) and state.h.shape == (2, BATCH, HIDDEN)
