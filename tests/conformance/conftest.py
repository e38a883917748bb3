"""These tests run as a user would: by generated C where it can, else by the reference."""

import pytest


@pytest.fixture(autouse=True)
def _as_a_user(monkeypatch):
    monkeypatch.setenv("CELLULA_BACKEND", "auto")
