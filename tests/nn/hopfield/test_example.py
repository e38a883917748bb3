"""The example runs, says what it measured, and writes its picture."""

import importlib.util
import sys
from pathlib import Path

import pytest

EXAMPLE = Path(__file__).parents[3] / "examples" / "hopfield.py"


def test_the_example_measures_and_draws(tmp_path, capsys, monkeypatch):
    pytest.importorskip("matplotlib", reason="matplotlib (extra `forecast`) is missing: no picture to draw")
    spec = importlib.util.spec_from_file_location("hopfield_example", EXAMPLE)
    example = importlib.util.module_from_spec(spec)
    # A dataclass looks its module up by name.
    monkeypatch.setitem(sys.modules, spec.name, example)
    spec.loader.exec_module(example)
    picture = tmp_path / "picture.png"
    example.main(str(picture), example.Effort(units=80, networks=2, probes=5, patterns=200))
    written = picture.read_bytes()
    assert written.startswith(b"\x89PNG") and len(written) > 50_000
    printed = capsys.readouterr().out
    assert "letters: 5 of 5 recalled" in printed and "one-step error at load 0.138: 0.0" in printed
    assert "modern network, 64 units: 100.0% of 200" in printed
