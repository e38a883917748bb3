"""What the outer sigmoid of `lstm_printed` does to long memory, as its docstring says."""

import torch

from cellula import Recurrent

STEPS = 10


def contribution(name, open_gate):
    """|d c[t] / d c[0]| for t = 1..10 along c alone, the largest unit, with the forget gate at this value."""
    torch.manual_seed(0)
    module = Recurrent(name, 4, 16, dtype=torch.float64)
    layer = module.layers[0]
    with torch.no_grad():
        if name == "lstm":
            for gate in "ifgo":
                # The gates look at the input only, so that c has no second way to itself through h.
                getattr(layer, f"U_{gate}").zero_()
            layer.W_f.zero_()
            layer.b_f.fill_(torch.logit(torch.tensor(open_gate, dtype=torch.float64)))
        else:
            for gate in "ifog":
                getattr(layer, f"W_{gate}").zero_()
            # There is no bias: a large input of 1 opens the forget gate.
            layer.B_f.zero_()
            layer.B_f[0].fill_(torch.logit(torch.tensor(open_gate, dtype=torch.float64)))
    x = torch.randn(STEPS, 1, 4, dtype=torch.float64)
    x[..., 0] = 1.0
    start = torch.full((1, 1, 16), 0.5, dtype=torch.float64, requires_grad=True)
    _, _, recorded = module(x, module.state(c=start, h=torch.zeros_like(start)), record=("c",))
    series = recorded["c"][0, :, 0]  # [T, H]
    return [torch.autograd.grad(value.sum(), start, retain_graph=True)[0].abs().max().item() for value in series]


def test_the_usual_cell_remembers_and_the_printed_one_forgets(capsys):
    usual, printed = contribution("lstm", 0.999), contribution("lstm_printed", 0.999)
    with capsys.disabled():
        print("\n|dc[t]/dc[0]|, forget gate 0.999, after 1, 5, 10 steps: "
              f"lstm {usual[0]:.3f} {usual[4]:.3f} {usual[9]:.3f}, "
              f"lstm_printed {printed[0]:.2e} {printed[4]:.2e} {printed[9]:.2e}")  # fmt: skip
    for lag, (one, other) in enumerate(zip(usual, printed, strict=True), start=1):
        assert abs(one - 0.999**lag) < 1e-9
        assert 0.0 < other <= 0.25**lag
    assert printed[-1] < 1e-6 < 0.98 < usual[-1]


def test_the_printed_cell_cannot_store_a_negative_number():
    module = Recurrent("lstm_printed", 4, 16)
    for parameter in module.parameters():
        torch.nn.init.normal_(parameter, std=3.0)
    _, _, recorded = module(torch.randn(50, 3, 4), record=("c",))
    assert (recorded["c"] > 0).all() and (recorded["c"] < 1).all()
