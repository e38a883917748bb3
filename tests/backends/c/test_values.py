"""Bits: the same for the same row, whatever stands beside it; NaN and infinity where the reference has them."""

import pytest
import torch

from c_backend import QUICK, Case, compiler_flags, needs_compiler, programs, torch_threads
from cellula import load_cell
from compare import gradients

pytestmark = needs_compiler

CELLS = ("lstm", "gru", "layer_norm_lstm", "slstm")
LENGTHS = (7, 3, 0, 7, 1, 2, 7, 6, 5, 7, 7, 4, 7)


def bits(case, program, threads=1):
    """Values and gradients on so many threads."""
    with torch_threads(threads):
        return {name: value.detach() for name, value in case.everything(program).items()}


def assert_same_bits(one, other):
    assert one.keys() == other.keys()
    assert [name for name in one if not torch.equal(one[name], other[name])] == []


@pytest.fixture(scope="module", autouse=True)
def _flags_of_the_package():
    with compiler_flags(""):
        yield


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_the_same_inputs_give_the_same_bits(name, threads):
    c, _ = programs(name)
    for shape in ((7, 13, 20, 40, None), (7, 13, 20, 40, LENGTHS), (20, 150, 30, 24, None), (9, 1, 40, 256, None)):
        case = Case(name, *shape, dtype=torch.float32)
        first = bits(case, c, threads)
        for _ in range(3):
            assert_same_bits(bits(case, c, threads), first)


@pytest.mark.parametrize("name", CELLS)
def test_threads_do_not_change_values_and_gradients_of_rows(name):
    """Sums over the rows of a batch are made in the order of its parts, and their number is that of the threads."""
    c, _ = programs(name)
    for shape in ((9, 1, 40, 256, None), (9, 2, 40, 256, None), (7, 13, 64, 128, LENGTHS), (5, 150, 64, 96, None)):
        case = Case(name, *shape, dtype=torch.float32)
        one, two = (bits(case, c, threads) for threads in (1, 2))
        of_rows = [key for key in one if key.split()[0] in ("output", "final") or key.startswith("d state")]
        assert_same_bits({key: one[key] for key in of_rows}, {key: two[key] for key in of_rows})


def cut(case, rows):
    """The same case with some of its rows."""
    other = object.__new__(Case)
    vars(other).update(vars(case))
    other.leaves = {
        name: value.detach()[:, rows] if name == "x" else value.detach()[rows] if "state" in name else value
        for name, value in case.leaves.items()
    }
    other.lengths = None if case.lengths is None else [case.lengths[row] for row in rows]
    return other


@pytest.mark.parametrize("saving", [False, True], ids=["inference", "training"])
@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_a_row_does_not_depend_on_the_batch_it_stands_in(name, threads, saving):
    c, _ = programs(name)
    run = Case.values if saving else Case.without_gradients
    for rows, inputs, hidden in ((13, 20, 40), (13, 64, 64), (70, 33, 17), (150, 5, 40)):
        case = Case(name, 7, rows, inputs, hidden, dtype=torch.float32)
        with torch_threads(threads):
            whole = run(case, c)
        for part in ([0], [rows - 1], [3, 11], [4, 0, 9], [*range(1, 13)], [*range(rows - 2, 0, -1)]):
            with torch_threads(threads):
                alone = run(cut(case, part), c)
            for key, value in alone.items():
                expected = whole[key][:, part] if key == "output" else whole[key][part]
                assert torch.equal(value, expected), f"{key} of rows {part[:3]} of {rows}"


@pytest.mark.parametrize("threads", [1, 2])
@pytest.mark.parametrize("name", CELLS)
def test_the_gradient_of_a_row_does_not_depend_on_the_batch_it_stands_in(name, threads):
    """Through the steps: the products that follow them are torch's."""
    c, _ = programs(name)

    def gradients_of_states(case):
        states = [value for key, value in case.leaves.items() if key.startswith("state")]
        output = case.values(c)["output"]
        return torch.autograd.grad(output, states, output.detach().sin())

    for rows, hidden in ((13, 40), (70, 64)):
        case = Case(name, 7, rows, 20, hidden, dtype=torch.float32)
        with torch_threads(threads):
            whole = gradients_of_states(case)
            for part in ([0], [3, 11], [*range(rows - 2, 0, -1)]):
                other = cut(case, part)
                other.leaves = {key: value.detach().requires_grad_() for key, value in other.leaves.items()}
                for alone, all_rows in zip(gradients_of_states(other), whole, strict=True):
                    assert torch.equal(alone, all_rows[part]), f"rows {part[:3]} of {rows}"


@pytest.mark.parametrize("name", CELLS)
def test_a_row_does_not_depend_on_how_long_the_others_are(name):
    c, _ = programs(name)
    case = Case(name, 7, 13, 20, 40, LENGTHS, dtype=torch.float32)
    whole = case.without_gradients(c)
    for row, length in enumerate(LENGTHS):
        if length:
            other = cut(case, [row])
            other.leaves["x"] = other.leaves["x"][:length].contiguous()
            other.lengths = None
            alone = other.without_gradients(c)
            assert torch.equal(alone["output"], whole["output"][:length, [row]])
            assert all(torch.equal(alone[key], whole[key][[row]]) for key in alone if key != "output")


@pytest.fixture
def quick():
    """Bits are not in question."""
    with compiler_flags(QUICK):
        yield


HOSTILE = (0.0, -0.0, 1e-40, -1e-40, 1e30, -1e30, 3e38, -3e38, float("inf"), -float("inf"), float("nan"))


@pytest.mark.parametrize("name", ["lstm", "gru", "layer_norm_lstm", "slstm", "elman", "nas", "lru", "ltc"])
def test_numbers_that_no_cell_expects(name, quick):
    """NaN where the reference has NaN, infinity where it has infinity, and the rows beside it as if nothing were.

    A block-diagonal matrix is multiplied with its zeros where its blocks are no whole vectors: there a NaN in one block
    reaches the others of its row too.
    """
    c, reference = programs(name)
    blocks = any(parameter.blocks > 1 for parameter in load_cell(name).parameters)
    clean = Case(name, 4, len(HOSTILE) + 2, 5, 7)
    expected = clean.without_gradients(c)
    for place in ("x", *(f"state {slot}" for slot in clean.slots)):
        case = Case(name, 4, len(HOSTILE) + 2, 5, 7)
        with torch.no_grad():
            for row, number in enumerate(HOSTILE):
                (case.leaves["x"][1, row] if place == "x" else case.leaves[place][row])[0] = number
        ours, theirs = (case.without_gradients(program) for program in (c, reference))
        for key in ours:
            if blocks:
                assert not (theirs[key].isnan() & ~ours[key].isnan()).any(), (place, key)
            else:
                assert torch.equal(ours[key].isnan(), theirs[key].isnan()), (place, key)
                assert torch.equal(ours[key].isposinf(), theirs[key].isposinf()), (place, key)
            rows = (slice(None), slice(-2, None)) if key == "output" else slice(-2, None)
            assert torch.equal(ours[key][rows], expected[key][rows]), (place, key)
        assert ours["output"].isnan().any() or name == "lstm"


@pytest.mark.parametrize("name", ["lstm", "gru", "slstm"])
def test_gradients_that_no_loss_should_have(name, quick):
    c, _ = programs(name)
    for number in HOSTILE:
        case = Case(name, 4, 3, 5, 7, dtype=torch.float32)
        output = case.values(c)["output"]
        found = torch.autograd.grad(output, [*case.leaves.values()], torch.full_like(output, number), allow_unused=True)
        assert number == number or any(one.isnan().any() for one in found if one is not None)


@pytest.mark.parametrize("name", ["lstm", "gru"])
def test_parameters_that_are_broken(name, quick):
    c, reference = programs(name)
    for number in (float("nan"), float("inf"), 1e30):
        case = Case(name, 4, 3, 5, 7)
        with torch.no_grad():
            case.leaves[next(p.name for p in load_cell(name).parameters if p.kind == "matrix")][0, 0] = number
        found = [gradients(case.values(p).values(), [*case.leaves.values()]) for p in (c, reference)]
        ours, theirs = (case.without_gradients(program) for program in (c, reference))
        assert all(torch.equal(ours[key].isnan(), theirs[key].isnan()) for key in ours)
        assert all(torch.equal(a.isnan(), b.isnan()) for a, b in zip(*found, strict=True))
