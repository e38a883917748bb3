"""The reference program against the slow truth, and against what torch's transforms expect of it."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import naive
from cellula import build, cells, compile, load_cell, make_plan
from compare import assert_close, gradients
from strategies import SIZES, formulas
from zoo_sizes import sizes_of

CELLS = [
    *map(load_cell, cells()),
    build("h[t] = tanh(x[t] @ W + h[t-2] @ U + x[t-1] @ V)", "two_steps_back"),
    build("h[t] = x[t] @ W + h[t-1] * scale + sum(x[t-3])\nscale = scalar(init=0.5)", "sums"),
]


def by_name(cell):
    return getattr(cell, "name", None)


def leaves(graph, sizes, steps=4, rows=3, dtype=torch.float64, seed=0):
    """Random input, start and parameters, all of which want gradients."""
    draw = torch.Generator().manual_seed(seed)

    def random(*shape):
        return (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.7).to(dtype).requires_grad_()

    x = random(steps, rows, sizes["input"])
    start = {s.slot: random(rows, 1 if s.size is None else sizes[s.size]) for s in graph.states}
    return x, start, {p.name: random(*graph.shape(p, sizes)) for p in graph.parameters}


def settings_of(graph):
    return {setting.name: setting.default for setting in graph.settings}


def both(graph, sizes, **options):
    """(values by name, gradients) of the reference program and of the slow truth."""
    x, start, parameters = leaves(graph, sizes, **options)
    wanted = [x, *start.values(), *parameters.values()]
    program = compile(make_plan(graph))
    result = program(x, start, parameters, settings_of(graph), sizes, record=tuple(graph.equation))
    nodes, state = naive.run(graph, x, start, parameters, settings_of(graph), sizes)
    ours = {"output": result.output, **{f"state {k}": v for k, v in result.state.items()}, **result.recorded}
    theirs = {"output": nodes[graph.output], **{f"state {k}": v for k, v in state.items()}, **nodes}
    return (ours, gradients(ours.values(), wanted)), (theirs, gradients(theirs.values(), wanted))


@pytest.mark.parametrize("graph", CELLS, ids=by_name)
@pytest.mark.parametrize(("steps", "rows", "hidden"), [(4, 3, 7), (1, 3, 7), (4, 1, 1), (1, 1, 1)])
def test_every_cell_is_the_slow_truth(graph, steps, rows, hidden):
    ours, theirs = both(graph, sizes_of(graph, 5, hidden), steps=steps, rows=rows)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other)


@settings(max_examples=60)
@given(formulas(numeric=True))
def test_random_formulas_are_the_slow_truth(text):
    ours, theirs = both(build(text), SIZES)
    for one, other in zip(ours, theirs, strict=True):
        assert_close(one, other, 1e-8)


@pytest.mark.parametrize("wrong", [
    ("c[t] = f[t] * c[t-1] + i[t] * g[t]", "c[t] = f[t] * c[t-1] - i[t] * g[t]"),
    ("c[t] = f[t] * c[t-1] + i[t] * g[t]", "c[t] = i[t] * c[t-1] + f[t] * g[t]"),
    ("h[t] = o[t] * tanh(c[t])", "h[t] = o[t] * tanh(c[t-1])"),
], ids=["sign", "swapped gates", "old state"])  # fmt: skip
def test_a_wrong_program_is_found(wrong):
    right = load_cell("lstm")
    other = build(right.source.text.replace("  # cell state: long memory", "").replace(*wrong))
    assert other != right
    sizes = {"input": 2, "hidden": 3}
    x, start, parameters = leaves(right, sizes)
    results = [compile(make_plan(g))(x, start, parameters, {}, sizes).output for g in (right, other)]
    with pytest.raises(AssertionError, match="differs by"):
        assert_close([results[1]], [results[0]])


def test_a_missing_gradient_and_a_wrong_shape_are_found():
    leaf = torch.ones(3, requires_grad=True)
    right, wrong = gradients([leaf * leaf], [leaf]), gradients([leaf * leaf.detach()], [leaf])
    with pytest.raises(AssertionError, match="differs by"):
        assert_close(wrong, right)
    with pytest.raises(AssertionError, match="shapes"):
        assert_close([torch.ones(3, 1)], [torch.ones(3)])
    with pytest.raises(AssertionError, match="differs by nan"):
        assert_close([torch.full((2,), torch.nan)], [torch.ones(2)])
    with pytest.raises(AssertionError, match="names"):
        assert_close({"a": leaf}, {"b": leaf})


def test_parts_of_a_definition_are_computed_anew_at_every_step():
    """The mean of i stands in the formula and in the definition of layer_norm, which is computed before it."""
    graph = build("i[t] = tanh(i[t-1] + x[t] @ W)\ng[t] = layer_norm(i[t])\nh[t] = h[t-1] + mean(i[t]) + g[t]")
    for one, other in zip(*both(graph, {"input": 3, "hidden": 4}), strict=True):
        assert_close(one, other)


LSTM = load_cell("lstm")
SMALL = {"input": 2, "hidden": 3}


def lstm_output(x, start, parameters):
    return compile(make_plan(LSTM))(x, start, parameters, settings_of(LSTM), SMALL).output


def test_a_batch_of_one_dimension_more_by_vmap():
    x, start, parameters = leaves(LSTM, SMALL)
    many = torch.stack([x, 2 * x, -x])
    found = torch.func.vmap(lstm_output, in_dims=(0, None, None))(many, start, parameters)
    assert_close([*found], [lstm_output(one, start, parameters) for one in many])


def test_gradients_of_every_row_by_itself():
    x, start, parameters = leaves(LSTM, SMALL)
    start = {name: torch.zeros_like(value) for name, value in start.items()}

    def loss(parameters, x, start):
        return lstm_output(x.unsqueeze(1), {k: v.unsqueeze(0) for k, v in start.items()}, parameters).square().sum()

    rows = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1, 0))(parameters, x, start)
    for row in range(x.shape[1]):
        alone = torch.func.grad(loss)(parameters, x[:, row], {k: v[row] for k, v in start.items()})
        assert_close({k: v[row] for k, v in rows.items()}, alone)


def test_forward_mode_agrees_with_a_difference_quotient():
    x, start, parameters = leaves(LSTM, SMALL)
    x, along = x.detach(), torch.randn_like(x)
    _, tangent = torch.func.jvp(lambda x: lstm_output(x, start, parameters), (x,), (along,))
    step = 1e-6
    up, down = (lstm_output(x + sign * step * along, start, parameters) for sign in (1, -1))
    assert_close([tangent], [(up - down) / (2 * step)], 1e-8)


def all_ops():
    """Few cells that have every op of all cells between them."""
    chosen, left = [], {node.op for graph in CELLS for node in graph.nodes}
    while left:
        best = max(CELLS, key=lambda graph: (len(left & {node.op for node in graph.nodes}), -len(graph.nodes)))
        chosen.append(best)
        left -= {node.op for node in best.nodes}
    return chosen


SECOND = all_ops()


@pytest.mark.parametrize("graph", CELLS, ids=by_name)
def test_first_and_second_derivatives_are_those_of_the_function(graph):
    sizes = sizes_of(graph, 2, 3)
    x, start, parameters = leaves(graph, sizes, steps=2, rows=1)
    names, slots = list(parameters), list(start)
    program = compile(make_plan(graph))

    def output(x, *values):
        states = dict(zip(slots, values, strict=False))
        given = dict(zip(names, values[len(slots) :], strict=True))
        result = program(x, states, given, settings_of(graph), sizes)
        return result.output, *result.state.values()

    inputs = (x, *start.values(), *parameters.values())
    assert torch.autograd.gradcheck(output, inputs, fast_mode=True)
    # torch makes the second from the first, op by op.
    if graph in SECOND:
        assert torch.autograd.gradgradcheck(output, inputs, fast_mode=True)


@pytest.mark.parametrize(("dtype", "tolerance"), [(torch.float32, 1e-5), (torch.bfloat16, 0.05), (torch.float16, 5e-3)])
def test_other_precisions(dtype, tolerance):
    x, start, parameters = leaves(LSTM, SMALL, dtype=dtype)
    output = lstm_output(x, start, parameters)
    assert output.dtype == dtype
    wide = {k: v.double() for k, v in start.items()}, {k: v.double() for k, v in parameters.items()}
    assert_close([output.double()], [lstm_output(x.double(), *wide)], tolerance)


@settings(max_examples=25)
@given(formulas(numeric=True), st.booleans())
def test_everything_stays_on_the_device_and_in_the_type_of_the_input(text, training):
    graph = build(text)
    x, start, parameters = leaves(graph, SIZES, dtype=torch.float32)
    meta = [{k: v.detach().to("meta") for k, v in group.items()} for group in (start, parameters)]
    program, options = compile(make_plan(graph)), {"record": tuple(graph.equation), "training": training}
    result = program(x.detach().to("meta"), *meta, settings_of(graph), SIZES, **options)
    for value in (result.output, *result.state.values(), *result.recorded.values()):
        assert value.device.type == "meta" and value.dtype == torch.float32


@settings(max_examples=40)
@given(formulas(numeric=True), st.lists(st.integers(0, 4), min_size=3, max_size=3))
def test_rows_of_different_lengths_are_rows_by_themselves(text, lengths):
    """Each row's output, state and gradients are those of its own steps; what lies behind is 0."""
    graph = build(text)
    x, start, parameters = leaves(graph, SIZES)
    alive = (torch.arange(4)[:, None] < torch.tensor(lengths)).unsqueeze(-1)
    program, wanted = compile(make_plan(graph)), [x, *start.values(), *parameters.values()]
    result = program(x, start, parameters, settings_of(graph), SIZES, alive=alive)
    assert not result.output.masked_select(~alive).any()
    ours, theirs = {}, {}
    for row, length in enumerate(lengths):
        one = {slot: value[row : row + 1] for slot, value in start.items()}
        ours |= {f"{row} state {slot}": value[row] for slot, value in result.state.items()}
        if length == 0:
            theirs |= {f"{row} state {slot}": value[0] for slot, value in one.items()}
            continue
        alone = program(x[:length, row : row + 1], one, parameters, settings_of(graph), SIZES)
        ours[f"{row} output"], theirs[f"{row} output"] = result.output[:length, row], alone.output[:, 0]
        theirs |= {f"{row} state {slot}": value[0] for slot, value in alone.state.items()}
    assert_close(ours, theirs, 1e-9)
    names = sorted(ours)
    assert_close(gradients([ours[n] for n in names], wanted), gradients([theirs[n] for n in names], wanted), 1e-8)


@pytest.mark.parametrize("graph", CELLS, ids=by_name)
def test_no_rows_at_all(graph):
    sizes = sizes_of(graph, 2, 3)
    x, start, parameters = leaves(graph, sizes, rows=0)
    result = compile(make_plan(graph))(x, start, parameters, settings_of(graph), sizes)
    assert result.output.shape[:2] == (4, 0)


def test_random_masks_draw_as_their_rows_say():
    text = "h[t] = dropout(x[t], 0.25) + 10 * variational_dropout(x[t], 0.5) + 0 * h[t-1]"
    graph = build(text)
    torch.manual_seed(0)
    x, start = torch.ones(50, 40, 30), {"h": torch.zeros(40, 30)}
    program = compile(make_plan(graph))
    output = program(x, start, {}, {}, {"input": 30, "hidden": 30}, training=True).output
    variational = (output / 10).round()
    per_step = output - 20 * (variational > 0)
    assert set(variational.unique().tolist()) == {0.0, 2.0}
    assert torch.equal(variational, variational[:1].expand_as(variational))
    assert sorted({round(value, 4) for value in per_step.flatten().tolist()}) == [0.0, 1.3333]
    assert per_step.mean().item() == pytest.approx(1.0, abs=0.01)
    assert (variational / 2).mean().item() == pytest.approx(0.5, abs=0.05)
    assert not torch.equal(per_step[0], per_step[1])
    assert torch.equal(program(x, start, {}, {}, {"input": 30, "hidden": 30}).output, torch.full_like(output, 11.0))
