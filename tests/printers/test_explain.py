"""Every stage of every cell can be printed."""

import pytest

from cellula import build, cells, explain, make_plan
from cellula.printers.plan import print_plan


@pytest.mark.parametrize("name", cells())
def test_every_cell_is_explained(name):
    text = explain(name)
    titles = ("1. FORMULA", "2. MEANING", "3. WHAT RUNS WHEN", "4. BACKPROPAGATION THROUGH TIME")
    assert [text.index(title) for title in titles] == sorted(text.index(title) for title in titles)
    assert "Node(" not in text and "object at" not in text


def test_stages_show_what_leaves_the_loop():
    text = print_plan(make_plan(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)\ny[t] = h[t] @ V")))
    before, loop, after = text.split("step by step")[0], text.split("step by step")[1], text.split("after the loop")[1]
    assert "x[t] @ W" in before and "h[t] = " in loop and "y[t] = h[t] @ V" in after
    assert "carried to the next step: h" in loop


def test_a_formula_without_memory_has_no_loop():
    assert "step by step" not in print_plan(make_plan(build("h[t] = tanh(x[t] @ W)")))


def test_costs_count_products_and_blocks():
    text = print_plan(make_plan(build("U = matrix(blocks=4)\nh[t] = tanh(x[t] @ W + h[t-1] @ U + h[t-2] @ V)")))
    assert "2*hidden*hidden + 2*hidden*hidden/4 flops a step" in text
