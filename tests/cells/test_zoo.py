"""Every cell of the zoo, and how a cell is found."""

from pathlib import Path

import pytest

from cellula import FormulaError, Recurrent, UsageError, build, cells, load_cell


@pytest.mark.parametrize("name", cells())
def test_every_cell_says_what_it_is(name):
    graph = load_cell(name)
    assert graph.name == name and graph.title and graph.description and graph.references
    assert not graph.title.endswith(".") and len(graph.title) <= 80
    assert all(equation.comment for equation in graph.equations)
    for reference in graph.references:
        assert any(str(year) in reference for year in range(1980, 2030)) or "textbook" in reference
    assert load_cell(name) is graph


def test_the_zoo_has_what_it_promises():
    promised = "mlp elman jordan lstm lstm_printed peephole_lstm gru gru_torch cifg_lstm".split()
    assert set(promised) <= set(cells()) and list(cells()) == sorted(cells())


@pytest.mark.parametrize(
    ("name", "count"),
    [
        ("elman", 3 * 4 + 4 * 4 + 4),
        ("lstm", 4 * (3 * 4 + 4 * 4 + 4)),
        ("gru", 3 * (3 * 4 + 4 * 4 + 4)),
        ("gru_torch", 3 * (3 * 4 + 4 * 4 + 4) + 4),
        ("cifg_lstm", 3 * (3 * 4 + 4 * 4 + 4)),
        ("lstm_printed", 4 * (3 * 4 + 4 * 4)),
        ("peephole_lstm", 4 * (3 * 4 + 4 * 4 + 4) + 3 * 4),
        ("mlp", 3 * 4 + 4 + 4 * 4 + 4),
        ("jordan", 3 * 4 + 4 + 2 * (4 * 4) + 4),
    ],
)
def test_parameter_counts(name, count):
    assert load_cell(name).parameter_count({"input": 3, "hidden": 4}) == count


@pytest.mark.parametrize(
    ("name", "states"),
    [
        ("mlp", ()),
        ("elman", ("h",)),
        ("jordan", ("y",)),
        ("gru", ("h",)),
        ("lstm", ("c", "h")),
        ("peephole_lstm", ("c", "h")),
    ],
)
def test_what_a_cell_remembers(name, states):
    assert tuple(state.slot for state in load_cell(name).states) == states


def test_ways_to_name_a_cell(tmp_path: Path):
    text = "h[t] = tanh(x[t] @ W)"
    path = tmp_path / "own.cell"
    path.write_text(f"\ufeff{text}\r\n", encoding="utf-8")
    graph = build(text)
    for cell in (graph, text, path, str(path), text + "\n"):
        assert load_cell(cell) == graph
    assert load_cell(path).name == "own" and load_cell(graph) is graph


@pytest.mark.parametrize(
    ("cell", "error", "message"),
    [
        ("lstmm", UsageError, "did you mean `lstm`"),
        ("", UsageError, "there is no cell ''"),
        (3, UsageError, "not int 3"),
        ("absent.cell", FormulaError, "absent.cell"),
        ("absent/lstm", FormulaError, "cannot be read"),
        ("h = 3", FormulaError, "setting"),
        ("a\0b.cell", FormulaError, "cannot be read"),
        ("a\ud800.cell", FormulaError, "cannot be read"),
    ],
)
def test_a_cell_that_is_not_there(cell, error, message):
    with pytest.raises(error, match=message):
        load_cell(cell)


def test_a_newcomers_file_goes_the_same_way(tmp_path: Path):
    path = tmp_path / "mine.cell"
    path.write_text(
        '"""Mine."""\nu[t] = sigmoid(x[t] @ W + h[t-1] @ U + b)  # gate\nh[t] = u[t] * h[t-1] + (1 - u[t]) * x[t] @ V\n'
    )
    module = Recurrent(path, 3, 4)
    assert module.graph.title == "Mine" and module.state_names == ("h",)
