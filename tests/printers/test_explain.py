"""Every stage of every cell can be printed."""

import re
import shutil
import subprocess

import pytest

from c_backend import needs_compiler
from cellula import build, cells, explain, load_cell, make_plan
from cellula.backends.c.passes import comment
from cellula.printers.explain import explain_plan, print_source
from cellula.printers.plan import print_plan


@pytest.mark.parametrize("name", cells())
def test_every_cell_is_explained(name):
    text = explain(name)
    titles = ("1. FORMULA", "2. MEANING", "3. WHAT RUNS WHEN", "4. BACKPROPAGATION THROUGH TIME", "5. KERNELS")
    titles += ("6. GENERATED SOURCE",)
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


def test_the_plan_has_the_stages_and_the_kernels_with_numbers():
    text = explain_plan(load_cell("lstm"), {"input": 8, "hidden": 64})
    stages, kernels = text.split("KERNELS")
    assert stages.startswith("WHAT RUNS WHEN") and "before the loop, for all steps at a time" in stages
    assert "takes the place of o[t]" in kernels and "1,536 saved" in kernels


@pytest.mark.parametrize("name", ["lstm", "gru", "layer_norm_lstm"])
def test_the_source_names_what_it_computes(name):
    text, graph = print_source(load_cell(name)), load_cell(name)
    for equation in graph.equations:
        assert f";  /* {equation.name} */" in text
    for parameter in graph.parameters:
        words = rf"@ {parameter.name}\b" if parameter.kind == "matrix" else f"/\\* parameter {parameter.name} \\*/"
        assert re.search(words, text), parameter.name
    assert "/* Pass 1 of " in text and text.count("/*") == text.count("*/")


def test_a_comment_of_the_source_cannot_be_left():
    text = comment("a */ system(1); /* \\ ??/ b")
    assert text.startswith("  /* a ") and text.count("/") == text.count("*") == 2 and not set(text) & {"\\", "?", ";"}


@needs_compiler
def test_the_whole_source_compiles(tmp_path):
    (tmp_path / "gru.c").write_text(print_source(load_cell("gru"), whole=True))
    compiler = next(name for name in ("cc", "gcc", "clang") if shutil.which(name))
    subprocess.run([compiler, "-std=gnu11", "-fsyntax-only", "-Wall", tmp_path / "gru.c"], check=True)
