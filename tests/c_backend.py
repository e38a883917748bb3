"""What the tests of the C back end share: one call through two back ends, compiler flags, processes of their own."""

import contextlib
import os
import shutil
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch

from cellula import compile, load_cell, make_plan
from cellula.backends.c.launch import binding
from cellula.backends.c.launch.kernels import compiled
from compare import gradients
from zoo_sizes import sizes_of

needs_compiler = pytest.mark.skipif(
    not any(shutil.which(name) for name in ("cc", "gcc", "clang")), reason="this machine has no C compiler"
)
# Scratch memory starts as NaN, so that no result can rest on what happened to lie there.
POISON = "-DCELLULA_POISON"
# The text of a kernel is the same, and the compiler is eight times as fast.
QUICK = f"-O0 {POISON}"
# CELLULA_CFLAGS=-O3 in the environment has the last word in all tests.
GIVEN = os.environ.get("CELLULA_TESTS_CFLAGS", "")


class Case:
    """Numbers for one call of a cell, all of which want gradients.

    Args:
        cell: a graph, or a name of the zoo.
        steps, rows, inputs, hidden: the sizes; blocks may ask for more hidden units.
        lengths: steps of every row, or None.
        dtype: in which the numbers can be written.
        sizes: of the cell, where they do not follow from the others.
    """

    def __init__(self, cell, steps, rows, inputs, hidden, lengths=None, dtype=torch.float64, sizes=None):
        self.graph = graph = load_cell(cell) if isinstance(cell, str) else cell
        self.sizes = sizes = sizes_of(graph, inputs, hidden) if sizes is None else sizes
        self.lengths, self.slots = lengths, [state.slot for state in graph.states]
        self.settings = {setting.name: setting.default for setting in graph.settings}
        draw = torch.Generator().manual_seed(0)

        def random(*shape):
            return (torch.randn(shape, generator=draw, dtype=torch.float64) * 0.6).to(dtype).requires_grad_()

        self.leaves = {"x": random(steps, rows, sizes["input"])}
        for state in graph.states:
            # A state may be a divisor: it stays away from 0.
            start = random(rows, 1 if state.size is None else sizes[state.size]).detach()
            self.leaves[f"state {state.slot}"] = (start.sigmoid() + 0.1).requires_grad_()
        for parameter in graph.parameters:
            # Sums of many terms stay as large as those of few.
            shape = graph.shape(parameter, sizes)
            value = random(*shape).detach() / (shape[-2] ** 0.5 if len(shape) > 1 else 1)
            self.leaves[parameter.name] = value.requires_grad_()

    def double(self):
        """The same numbers in float64."""
        other = object.__new__(Case)
        vars(other).update(vars(self))
        other.leaves = {name: value.detach().double().requires_grad_() for name, value in self.leaves.items()}
        return other

    def run(self, program, training=False, record=()):
        """One call."""
        leaves, alive = self.leaves, None
        if self.lengths is not None:
            alive = (torch.arange(len(leaves["x"]))[:, None] < torch.tensor(self.lengths)).unsqueeze(-1)
        return program(
            leaves["x"], {slot: leaves[f"state {slot}"] for slot in self.slots},
            {parameter.name: leaves[parameter.name] for parameter in self.graph.parameters},
            self.settings, self.sizes, alive=alive, training=training, record=record,
        )  # fmt: skip

    def values(self, program, **options):
        """The output, the final states and what was recorded, by name."""
        result = self.run(program, **options)
        states = {f"final {slot}": value for slot, value in result.state.items()}
        return {"output": result.output, **states, **result.recorded}

    def everything(self, program, ends="", training=False, record=()):
        """Values, and the gradient of a weighted sum of those whose name starts with `ends`, for every leaf."""
        values = self.values(program, training=training, record=record)
        found = gradients([v for name, v in values.items() if name.startswith(ends)], [*self.leaves.values()])
        return values | {f"d {name}": value for name, value in zip(self.leaves, found, strict=True)}

    def without_gradients(self, program, training=False, record=()):
        """Values from the kernel for inference."""
        with torch.no_grad():
            return self.values(program, training=training, record=record)


def programs(cell):
    """The program in C and the reference."""
    plan = make_plan(load_cell(cell) if isinstance(cell, str) else cell)
    return compile(plan, "c"), compile(plan, "reference")


@contextlib.contextmanager
def compiler_flags(text):
    """Within the block new programs are compiled with these flags after the usual ones."""
    before = os.environ.get("CELLULA_CFLAGS", "")
    os.environ["CELLULA_CFLAGS"] = f"{text} {GIVEN}"
    compiled.cache_clear()
    try:
        yield
    finally:
        compiled.cache_clear()
        os.environ["CELLULA_CFLAGS"] = before


@contextlib.contextmanager
def the_binding(used):
    """Within the block small calls go by way of the binding, or not."""
    state = binding._binding
    before = state.run, state.problem, state.mode
    problem = binding.prepare_binding() if used else "switched off"
    if used and problem:
        pytest.skip(f"there is no binding: {problem}")
    state.run, state.problem = (state.run if used else None), problem
    try:
        yield
    finally:
        state.run, state.problem, state.mode = before


@contextlib.contextmanager
def filled_memory():
    """Within the block memory that torch does not fill holds NaN."""
    torch.use_deterministic_algorithms(True)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(False)


@contextlib.contextmanager
def torch_threads(count):
    """Within the block torch runs on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def run_child(code, timeout=120, **environment):
    """What a Python process of its own prints, given code or the path of a script; it is killed when it hangs."""
    # As a user has it, unless the test says otherwise.
    given = {**os.environ, "CELLULA_BACKEND": None, **environment}
    own = {name: value for name, value in given.items() if value is not None}
    own["PYTHONPATH"] = os.pathsep.join(path for path in sys.path if path)
    command = [sys.executable, str(code)] if isinstance(code, Path) else [sys.executable, "-c", textwrap.dedent(code)]
    child = subprocess.run(command, env=own, capture_output=True, text=True, timeout=timeout, check=False)
    assert child.returncode == 0, f"the process ended with {child.returncode}\n{child.stdout}\n{child.stderr}"
    return child.stdout.strip()
