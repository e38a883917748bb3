"""Which back ends there are."""

import pytest

from cellula import UsageError, compile, load_cell, make_plan
from cellula.backends import BACKENDS


def test_every_back_end_named_is_there():
    for backend in BACKENDS:
        assert compile(make_plan(load_cell("lstm")), backend).plan.graph is load_cell("lstm")


def test_another_is_refused():
    with pytest.raises(
        UsageError, match="backend is 'triton': there is no such back end; write one of 'auto', 'c', 'reference'"
    ):
        compile(make_plan(load_cell("lstm")), "triton")
