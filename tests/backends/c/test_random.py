"""Random formulas: generated C is the reference, in values and in all gradients, also where masks are drawn."""

import re

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from c_backend import QUICK, Case, compiler_flags, filled_memory, needs_compiler, programs
from cellula import build
from compare import assert_close
from strategies import SIZES, formulas

pytestmark = needs_compiler

# Every example costs two runs of the compiler. The same few are tried each time; tens of thousands by hand:
# CELLULA_EXAMPLES=500 tries others.
RANDOM = settings(max_examples=10, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.too_slow])
DRAWS = ("dropout({}, 0.5)", "variational_dropout({}, 0.25)", "zoneout({}, 0.3 * ({}), 0.4)")


@pytest.fixture(scope="module", autouse=True)
def _quick_and_poisoned():
    with compiler_flags(QUICK), filled_memory():
        yield


def check(text, steps, rows, lengths, training):
    """A formula by both back ends, with gradients and without."""
    graph = build(text)
    c, reference = programs(graph)
    case = Case(graph, steps, rows, 0, 0, lengths, sizes=SIZES)
    found, names = [], tuple(graph.equation)
    for program in (c, reference):
        torch.manual_seed(1)
        values = case.everything(program, training=training)
        torch.manual_seed(1)
        again = case.without_gradients(program, training=training, record=names)
        found.append(values | {f"alone {name}": value for name, value in again.items()})
    assert_close(*found, 1e-8)


@RANDOM
@given(formulas(numeric=True), st.integers(1, 4), st.sampled_from([1, 2, 3, 7]), st.data())
def test_random_formulas(text, steps, rows, data):
    ragged = st.none() | st.lists(st.integers(0, steps), min_size=rows, max_size=rows)
    check(text, steps, rows, data.draw(ragged), False)


@RANDOM
@given(formulas(numeric=True), st.sampled_from(DRAWS), st.booleans())
def test_random_formulas_that_draw(text, draw, training):
    """The last equation's value goes through dropout or zoneout."""
    head, equals, last = re.fullmatch(r"(.*\n)?(\S+\[t\][^=\n]*)= tanh\((.*)\)\n", text, re.DOTALL).group(1, 2, 3)
    drawn = draw.format(f"({last})", last)
    check(f"{head or ''}{equals}= tanh({drawn})\n", 3, 2, None, training)
