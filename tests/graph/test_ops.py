"""The op table tested from its own rows."""

import math

import pytest
import torch

from cellula.backends.reference import SPELLING, evaluate
from cellula.graph.node import DrawMask, Parameter, apply, leaf
from cellula.graph.ops import OPS
from cellula.plan.expand import define, gradient
from compare import assert_close
from naive import FUNCTIONS

ROWS = list(OPS.values())
SIZES = {"hidden": 5}


def by_name(row):
    return row.name


def sample(row, seed=0, single=()):
    """The row's node on parameters, and values from the arguments' domains; those in `single` are one number."""
    draw = torch.Generator().manual_seed(seed)
    inputs, values = [], []
    for index, argument in enumerate(row.arguments):
        one = argument.number or index in single or (row.shape == "expand" and index == 0)
        inputs.append(leaf(Parameter(argument.name, "scalar" if one else "vector", () if one else ("hidden",))))
        low, high = argument.low, min(argument.high, 0.9) if argument.number else argument.high
        value = low + (high - low) * torch.rand(1 if one else (7, 5), dtype=torch.float64, generator=draw)
        values.append(value.requires_grad_(not argument.number))
    number = None if row.draw is None else 0
    return apply(row.name, tuple(inputs), number), dict(zip(inputs, values, strict=True))


def masked(node, registers):
    """Adds the row's mask, where it draws, set to its mean."""
    row = OPS[node.op]
    if row.draw is not None:
        rate = registers[node.inputs[-1]]
        registers[leaf(DrawMask(0, node.op, node.size))] = torch.ones_like(rate) if row.draw.inverted else rate
    return registers


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_a_row_is_complete(row):
    assert OPS[row.name] is row
    assert row.meaning and not row.meaning.endswith(".")
    assert len(row.gradient) == len(row.arguments) >= 1
    assert row.required >= 1 and all(a.low < a.high for a in row.arguments)
    # Without a definition a back end must spell the row, and its plain meaning must be testable.
    assert row.definition is not None or row.value is not None or row.shape == "expand"
    assert row.definition is not None or row.name in SPELLING
    assert all(text is None for text, argument in zip(row.gradient, row.arguments, strict=True) if argument.number)


@pytest.mark.parametrize("row", ROWS, ids=by_name)
def test_the_reference_computes_the_meaning(row):
    node, registers = sample(row)
    values = [registers[child] for child in node.inputs]
    found = evaluate([node], masked(node, dict(registers)), SIZES)[node]
    assert_close([found], [FUNCTIONS[row.name](*values).expand_as(found)], 1e-12)
    if row.value is not None and row.shape == "reduce":
        plain = [row.value(line) for line in values[0].tolist()]
        assert_close([found.expand(7, 1)[:, 0]], [torch.tensor(plain, dtype=torch.float64)])
    elif row.value is not None:
        columns = zip(*(value.flatten().tolist() for value in values), strict=True)
        plain = [row.value(*column) for column in columns]
        assert_close([found.flatten()], [torch.tensor(plain, dtype=torch.float64)])


@pytest.mark.parametrize("row", [row for row in ROWS if row.definition], ids=by_name)
def test_the_definition_is_the_native_spelling(row):
    node, registers = sample(row)
    definition = define(node)
    assert definition.op != row.name and definition.size == node.size
    found = evaluate([definition], masked(node, dict(registers)), SIZES)[definition]
    native = FUNCTIONS[row.name](*(registers[child] for child in node.inputs))
    assert_close([found], [native], 1e-12)


@pytest.mark.parametrize("single", [(), (0,), (1,)], ids=["vectors", "first single", "second single"])
@pytest.mark.parametrize("row", [row for row in ROWS if any(row.gradient)], ids=by_name)
def test_every_gradient_is_that_of_autograd(row, single):
    if single and (row.shape != "elementwise" or len(row.arguments) <= single[0]):
        return  # there is nothing to repeat
    node, registers = sample(row, seed=1, single=single)
    registers = masked(node, registers)
    spelled = evaluate([node], dict(registers), SIZES)[node]
    dy = leaf(Parameter("dy", "vector", ("hidden",)) if node.size else Parameter("dy", "scalar", ()))
    registers[dy] = torch.randn(spelled.shape, dtype=torch.float64)
    for index, child in enumerate(node.inputs):
        if OPS[row.name].arguments[index].number:
            continue
        (expected,) = torch.autograd.grad(
            spelled, registers[child], registers[dy], retain_graph=True, allow_unused=True, materialize_grads=True
        )
        wanted = gradient(node, index, dy)
        if wanted is None:
            assert not expected.any()
            continue
        found = evaluate([wanted], dict(registers), SIZES)[wanted]
        if row.shape != "expand":
            found = found.expand_as(expected if row.shape == "reduce" else spelled)
        # A number that was repeated for every unit gets the sum of their gradients.
        assert_close([found.sum_to_size(expected.shape)], [expected], 1e-10)


@pytest.mark.parametrize("row", [row for row in ROWS if row.range != (-math.inf, math.inf)], ids=by_name)
def test_every_value_lies_in_the_range(row):
    node, registers = sample(row, seed=2)
    found = evaluate([node], registers, SIZES)[node]
    assert (found >= row.range[0]).all() and (found <= row.range[1]).all()


@pytest.mark.parametrize("row", [row for row in ROWS if row.draw], ids=by_name)
def test_random_rows_say_what_their_mask_does(row):
    node, registers = sample(row)
    mask = leaf(DrawMask(0, node.op, node.size))
    for value in (0.0, 1.0):
        result = define(node)
        found = evaluate([result], {**registers, mask: torch.full((7, 5), value).double()}, SIZES)[result]
        inputs = [registers[child] for child in node.inputs]
        expected = inputs[0] * value if row.draw.inverted else inputs[1] if value else inputs[0]
        assert_close([found], [expected])
