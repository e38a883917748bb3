"""The benchmark of the recurrent cells: its peers compute what we compute, and its arithmetic is right.

Speed is not tested. JAX runs in the benchmark's own process alone, since it starts threads that outlive a test.
"""

import importlib
import json
import math
import os
import subprocess
import sys
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

BENCHMARKS = Path(__file__).resolve().parents[2] / "benchmarks"
sys.path.append(str(BENCHMARKS))
problem, ours, versus, timing, goals, report, children, zoo = (
    importlib.import_module(f"peers.{name}")
    for name in ("problem", "ours", "versus", "timing", "goals", "report", "children", "zoo")
)
TINY = problem.Shape(3, 5, 6)
MODES = ("train", "inference")
# Who has which cell.
PAIRS = [
    *(("torch", cell) for cell in ("lstm", "gru", "elman")),
    *(("eager", cell) for cell in problem.CELLS),
    ("torchrecurrent", "peephole_lstm"),
]
MACHINE = dict.fromkeys("processor cores system python compiler commit when".split(), "?") | {"versions": {}}


def case(cell, mode="train", shape=TINY):
    return problem.make_problem(problem.Case(cell, mode, shape))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("peer", "cell"), PAIRS)
def test_peers_compute_what_we_compute(peer, cell, mode):
    if peer == "torchrecurrent" and not find_spec("torchrecurrent"):
        pytest.skip("torchrecurrent is not installed: pip install torchrecurrent==0.2.5")
    given = case(cell, mode)
    theirs = versus.PEERS[peer](given)
    mine = ours.make_ours(given, "reference")
    found, expected = theirs.read(theirs.run()), mine.read(mine.run())
    assert set(expected) == ({"output", "x", *given.weights} if mode == "train" else {"output"})
    assert problem.compare(peer, found, expected) < 1e-5
    assert all(value.abs().max() > 1e-3 for value in expected.values())


@pytest.mark.parametrize("spoil", [lambda v: v * 1.01, lambda v: v * math.nan, lambda v: v[1:], lambda v: None])
def test_what_disagrees_is_refused(spoil):
    mine = ours.make_ours(case("gru"), "reference")
    right = mine.read(mine.run())
    wrong = {**right, "c": spoil(right["c"])}
    wrong = {key: value for key, value in wrong.items() if value is not None}
    assert problem.compare("itself", right, right) == 0
    with pytest.raises(problem.Disagreement, match="ours"):
        problem.compare("spoilt", wrong, right)


@pytest.mark.skipif(not find_spec("jax"), reason="jax is not installed: pip install jax==0.10.2")
def test_jax_computes_what_we_compute():
    common = {"section": "peers", "backend": "reference", "shape": TINY, "peers": ["jax"]}
    tasks = [common | {"cell": cell, "mode": mode} for cell, mode in product(problem.CELLS, MODES)]
    told = []
    children.run_tasks(tasks, 1, timing.Pace(least=1, most=1), lambda task, message: told.append(message))
    assert not [message for message in told if "error" in message or "skipped" in message]
    rows = [row for message in told for row in message.get("rows", ()) if row["peer"] == "jax"]
    assert [(row["cell"], row["mode"]) for row in rows] == [(task["cell"], task["mode"]) for task in tasks]
    assert all(row["deviation"] < 1e-5 for row in rows)


@pytest.mark.parametrize(("peer", "cell"), [("torch", "peephole_lstm"), ("torchrecurrent", "lstm")])
def test_what_a_peer_lacks_is_said(peer, cell):
    with pytest.raises(problem.Unavailable, match=f"has no {cell}"):
        versus.PEERS[peer](case(cell))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("cell", problem.CELLS)
def test_roof_is_the_products_of_the_cell(cell, mode):
    counted = []

    class Count(TorchDispatchMode):
        def __torch_dispatch__(self, function, types, arguments=(), named=None):
            if function._schema.name == "aten::mm":
                counted.append(2 * arguments[0].shape[0] * arguments[0].shape[1] * arguments[1].shape[1])
            return function(*arguments, **(named or {}))

    contestant = versus.PEERS["roof"](case(cell, mode))
    with Count():
        contestant.run()
    columns = problem.CELLS[cell].gates * TINY.units
    forward = TINY.steps * TINY.batch * 2 * (2 * TINY.units * columns)
    assert sum(counted) == (3 if mode == "train" else 1) * forward


def test_everyone_runs_once_a_round_and_the_first_in_every_round():
    order = []
    calls = {name: lambda name=name: order.append(name) for name in ("ours", "a", "b")}
    pace = timing.Pace(least=3, most=4, budget=1, sample=1e-9)
    found = timing.interleave(calls, pace)
    assert {name: len(values) for name, values in found.items()} == {"ours": 4, "a": 4, "b": 4}
    assert all(value > 0 for values in found.values() for value in values)
    assert set(order) == set(calls)


def test_ratios_are_paired_by_round():
    # The machine became ten times slower in the middle; the ratio of the medians would be 0.2.
    ratio = timing.paired([2, 2, 2, 20, 20], [1, 10, 1, 10, 10])
    assert ratio.median == 2
    assert ratio.low < 2 == ratio.high
    assert timing.paired([3.0], [1.5, 9.0]) == timing.Spread(2.0, 2.0, 2.0)


def row(peer, ratio, shape, cell="lstm", mode="train"):
    numbers = dict.fromkeys(("ms", "ours_ms", "ratio", "ratio_low", "ratio_high"), ratio)
    where = {"threads": 1, "cell": cell, "mode": mode, **problem.Shape(*shape)._asdict()}
    return where | numbers | {"peer": peer, "deviation": None, "first_call_s": 2.0}


def test_goals_are_met_or_missed():
    rows = [row("torch", 1.1, (1, 100, 64)), row("torch", 2.0, (32, 100, 128)), row("torch", 0.9, (32, 100, 256))]
    zoo_rows = [{"threads": 1, "cell": name, "hidden": 128, "per operation": v} for name, v in (("a", 1.1), ("b", 1.3))]
    found = {verdict.goal: verdict for verdict in goals.verdicts({"peers": rows, "zoo": zoo_rows})}
    everywhere = found["lstm, train, torch: >= 1 everywhere"]
    assert not everywhere.met
    assert everywhere.where == "(32, 100, 256)"
    wide = found["lstm, train, torch: >= 1.15 geometric mean (>= 128 units)"]
    assert wide.met
    assert wide.rows == 2
    assert wide.found == pytest.approx(math.sqrt(1.8))
    assert not found["lstm, train, torch: >= 1.8 at (1, 100, 64), (32, 1000, 64)"].met
    assert found["zoo: per operation <= 1.2"].where == "b, 128; 1 over"
    assert len(found) == 4


def test_losses_are_printed():
    rows = [row("ours", 1.0, (1, 2, 3)), row("torch", 0.5, (1, 2, 3)), row("roof", 0.4, (1, 2, 3))]
    text = report.write_report(
        {"rows": {"peers": rows}, "left_out": ["something"], "errors": [], "machine": MACHINE, "backend": "c"}
    )
    slower = text.partition("## Where we are slower")[2].partition("##")[0]
    assert "| torch |" in slower
    assert "roof" not in slower
    assert "- something" in text
    assert "Errors" not in text


def test_random_formulas_are_always_the_same():
    first = zoo.random_formulas(2)
    assert len(set(first)) == 2
    assert zoo.random_formulas(2) == first


def test_a_loop_that_compiles_too_long_is_stopped(monkeypatch):
    monkeypatch.setattr(children, "COMPILE_LIMIT", 0.5)
    told = []
    task = {"section": "peers", "backend": "reference", "cell": "lstm", "mode": "train", "shape": TINY}
    task |= {"peers": ["compile"], "alone": True}
    children.run_tasks([task], 1, timing.Pace(), lambda task, message: told.append(message))
    assert [message.get("skipped") for message in told] == ["did not compile within 0 s"]


def test_whole_way(tmp_path):
    saved = tmp_path / "found.json"
    options = "--quick --sections peers,streaming --repeats 1 --threads 1 --shapes 2x4x3 --cells gru,elman"
    command = [sys.executable, str(BENCHMARKS / "recurrent.py"), *options.split(), "--peers", "torch,eager,roof"]
    environment = os.environ | {"PYTHONPATH": str(BENCHMARKS.parent / "src")}
    done = subprocess.run(
        [*command, "--json", str(saved)], capture_output=True, text=True, env=environment, timeout=200
    )
    assert done.returncode == 0, done.stderr
    assert saved.with_suffix(".md").read_text() in done.stdout
    record = json.loads(saved.read_text())
    found = {(row["peer"], row["cell"], row["mode"]) for row in record["rows"]["peers"]}
    assert found == set(product(("ours", "torch", "eager", "roof"), ("gru", "elman"), MODES))
    assert record["rows"]["streaming"]
    assert not record["errors"]
    assert record["machine"]["versions"]["torch"] == torch.__version__


@pytest.mark.parametrize("wrong", [["--shapes", "1x2"], ["--cells", "gruu"], ["--threads", "0"], ["--repeats", "0"]])
def test_options_that_are_wrong(wrong, monkeypatch, capsys):
    module = importlib.import_module("recurrent")
    monkeypatch.setattr(sys, "argv", ["recurrent.py", *wrong])
    with pytest.raises(SystemExit):
        module.read_options()
    assert wrong[1] in capsys.readouterr().err


def test_a_part_does_not_overwrite_the_whole(monkeypatch):
    module = importlib.import_module("recurrent")
    for arguments, path in (([], module.RESULTS), (["--cells", "lstm"], None), (["--quick"], None)):
        monkeypatch.setattr(sys, "argv", ["recurrent.py", *arguments])
        assert module.read_options()[0].json == path
