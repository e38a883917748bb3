"""Generated C under the address and undefined-behaviour sanitizers of the compiler, in a process of its own."""

import os
import shutil
import subprocess

import pytest

from c_backend import run_child

FLAGS = "-O1 -g1 -fsanitize=address,undefined -fno-sanitize-recover=undefined"
# Reductions, blocks of whole and of broken vectors, a projection, two steps back, a single number, a setting.
EVERYTHING = """
R = matrix(blocks=2)
D = diagonal()
s = scalar(init=0.5)
rate = setting(0.25)
z[t]: hidden = layer_norm(x[t] @ W + p[t-1] @ U + b) + h[t-1] @ R + h[t-2] @ D
a[t] = sigmoid(mean(z[t]) + s * a[t-1] + rate)
h[t]: hidden = a[t] * tanh(z[t]) + (1 - a[t]) * h[t-1]
p[t]: proj = h[t] @ P + x[t-1] @ V
y[t]: proj = softmax(p[t]) @ R_2
"""
# What runs in the process; the values are right too.
RUN = """
import os
# The compiler needs no sanitizer itself.
os.environ.pop("LD_PRELOAD")
import torch
from c_backend import Case, programs, torch_threads
from cellula import build, load_cell
from cellula.backends.c.launch import calls, kernels
from compare import assert_close

def check(graph):
    c, reference = programs(graph)
    for steps, rows, hidden, lengths in ((1, 1, 2, None), (4, 3, 10, (4, 0, 2)), (3, 2, 64, None), (3, 130, 6, None)):
        sizes = {{"input": 5, "hidden": hidden, "proj": 3}}
        case = Case(graph, steps, rows, 0, 0, lengths, sizes=sizes)
        for small in (0, calls.SMALL):
            calls.SMALL = small
            for threads in (1, 2):
                with torch_threads(threads):
                    assert_close(case.everything(c), case.everything(reference), 1e-9)
                    case.without_gradients(c)

{what}
print("clean")
"""


def library(name):
    """Where the compiler has a library of its own."""
    compiler = next((found for found in map(shutil.which, ("gcc", "cc")) if found), None)
    if compiler is None:
        pytest.skip("this machine has no gcc, whose sanitizers can be loaded into Python")
    found = subprocess.run([compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True)
    path = found.stdout.strip()
    if not os.path.isabs(path):
        pytest.skip(f"the compiler {compiler} has no {name}")
    return os.path.realpath(path)


def run_sanitized(what, flags="", **environment):
    preloaded = f"{library('libasan.so')} {library('libubsan.so')}"
    return run_child(
        RUN.format(what=what), 400, LD_PRELOAD=preloaded, CELLULA_CFLAGS=f"{FLAGS} {flags}",
        ASAN_OPTIONS="detect_leaks=0", UBSAN_OPTIONS="print_stacktrace=1", **environment,
    )  # fmt: skip


@pytest.mark.parametrize("what", ['load_cell("lstm")', f"build({EVERYTHING!r})"], ids=["lstm", "everything"])
def test_no_wrong_access_and_nothing_undefined(what):
    # Every call is worth a second thread, a barrier, and parts of a few rows.
    flags = "-DSMALL_WORK=0 -DUNITS_WORK=0 -DMOST_ROWS=40"
    assert run_sanitized(f"check({what})", flags) == "clean"


@pytest.mark.parametrize(
    ("right", "wrong", "message"),
    [
        ("J->steps = n[4]", "J->steps = n[4] + 1", "heap-buffer-overflow"),
        (
            "J->chunk = MINIMUM",
            "int shift = (int)J->steps + 40; J->chunk = 0 * (1 << shift) + MINIMUM",
            "shift exponent",
        ),
    ],
    ids=["one step too many", "a shift too far"],
)
def test_a_wrong_kernel_is_found(right, wrong, message):
    what = f"""
load = kernels.load_library
def broken(source):
    assert {right!r} in source
    return load(source.replace({right!r}, {wrong!r}))
kernels.load_library = broken
check(load_cell("elman"))
"""
    with pytest.raises(AssertionError, match=message):
        run_sanitized(what)
