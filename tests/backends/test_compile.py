"""Which back ends there are."""

import pytest

from cellula import UsageError, compile, load_cell, make_plan
from cellula.backends import BACKENDS


def test_every_back_end_named_is_there():
    for backend in BACKENDS:
        program = compile(make_plan(load_cell("mingru")), backend)
        assert program.name == backend and program.plan.graph is load_cell("mingru")


def test_another_is_refused():
    names = ", ".join(map(repr, BACKENDS))
    with pytest.raises(UsageError, match=f"backend is 'triton': there is no such back end; write one of {names}"):
        compile(make_plan(load_cell("lstm")), "triton")


def test_a_cell_that_is_not_affine_is_refused_by_the_scan():
    with pytest.raises(UsageError, match=r"cannot run gru: in z\[t\] a matrix product mixes the units of h\[t-1\]"):
        compile(make_plan(load_cell("gru")), "scan")
