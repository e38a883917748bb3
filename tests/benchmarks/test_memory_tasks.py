"""The tasks of `benchmarks/choose_a_cell.py`: a perfect answer scores perfectly, no memory scores as stated."""

import importlib
import math
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch.nn import functional

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
adding, copy_memory, counting, plan, training, table, choose = (
    importlib.import_module(name)
    for name in (
        *(f"memory_tasks.{part}" for part in ("adding", "copy_memory", "counting", "plan", "training", "table")),
        "choose_a_cell",
    )
)
TASKS = plan.TASKS


def at_random(seed=0):
    return torch.Generator().manual_seed(seed)


def add_marked(x):
    """Adds what is marked, step by step."""
    return (x[:, :, 0] * x[:, :, 1]).cumsum(0).unsqueeze(2)


def copy_after_signal(x):
    """Keeps a list of the symbols, and writes them down from the signal on."""
    columns = []
    for shown in x.argmax(2).T.tolist():
        kept, written = [], []
        for step, symbol in enumerate(shown):
            after = copy_memory.SIGNAL in shown[:step]
            written.append(kept.pop(0) if after else copy_memory.BLANK)
            kept += [symbol] if symbol < copy_memory.BLANK else []
        columns.append(written)
    return functional.one_hot(torch.tensor(columns).T, copy_memory.SYMBOLS + 1).float()


def count_symbols(x):
    """Counts the a, and counts down with the b and with the c."""
    columns = []
    for shown in x.argmax(2).T.tolist():
        seen, answers = [0, 0, 0, 0], []
        for symbol in shown:
            seen[symbol] += 1
            a, b, c, _ = seen
            may = {0} if a == 0 else {0, 1} if b == 0 else {1} if b < a else {2} if c < a else {3}
            answers.append([1.0 if one in may else -1.0 for one in range(4)])
        columns.append(answers)
    return torch.tensor(columns).transpose(0, 1)


SOLVERS = {"adding": add_marked, "copy_memory": copy_after_signal, "counting": count_symbols}
PERFECT = {"adding": 0.0, "copy_memory": 1.0, "counting": counting.LONGEST}


@pytest.mark.parametrize("name", TASKS)
def test_a_solver_by_hand_scores_perfectly(name):
    batch = TASKS[name].test()
    outputs = SOLVERS[name](batch.x)
    found = TASKS[name].score(outputs, batch)
    assert found == pytest.approx(PERFECT[name], abs=1e-10) and TASKS[name].is_solved(found)
    if name != "adding":
        assert TASKS[name].loss(100 * outputs, batch).item() < 1e-6
        assert TASKS[name].loss(-100 * outputs, batch).item() > 1


@pytest.mark.parametrize("name", TASKS)
def test_sizes_are_as_stated(name):
    task = TASKS[name]
    batch = task.draw(7, at_random())
    steps, count, size = batch.x.shape
    assert (count, size) == (7, task.input_size)
    outputs = torch.randn(steps, 7, task.output_size, generator=at_random())
    assert math.isfinite(task.loss(outputs, batch).item()) and not task.is_solved(task.score(outputs, batch))


def test_without_memory_the_sum_is_one_at_best():
    batch = adding.ADDING.test()
    ones = torch.ones(len(batch.x), batch.x.shape[1], 1)
    assert adding.score(ones, batch) == pytest.approx(adding.ADDING.without_memory, rel=0.1)
    assert adding.score(ones + 0.2, batch) > adding.score(ones, batch)


def test_marks_stand_one_in_each_half():
    x = adding.draw(300, at_random()).x
    half = len(x) // 2
    assert (x[:half, :, 1].sum(0) == 1).all() and (x[half:, :, 1].sum(0) == 1).all()
    assert x[:, :, 1].sum(1).bool().all()


def test_without_memory_a_symbol_is_guessed():
    batch = copy_memory.COPY_MEMORY.test()
    always = torch.zeros(*batch.target.shape, copy_memory.SYMBOLS + 1)
    always[:, :, 2] = 1.0
    stated = copy_memory.COPY_MEMORY.without_memory
    assert copy_memory.score(always, batch) == pytest.approx(stated, abs=0.03)
    outputs = torch.rand(always.shape, generator=at_random())[:, :, : copy_memory.SYMBOLS]
    assert copy_memory.score(outputs, batch) == pytest.approx(stated, abs=0.03)


def test_nothing_of_the_symbols_is_seen_after_them():
    x = copy_memory.draw(50, at_random()).x
    assert (x[copy_memory.LENGTH :] == x[copy_memory.LENGTH :, :1]).all()
    assert not (x[: copy_memory.LENGTH] == x[: copy_memory.LENGTH, :1]).all()


def test_strings_are_spelled_out():
    batch = counting.strings(2)
    assert "".join("abcS"[int(step.argmax())] for step in batch.x[:, 1]) == "Saabbcc"
    after = ["".join(name for name, may in zip("abcT", step, strict=True) if may > 0) for step in batch.target[:, 1]]
    assert after == ["a", "ab", "ab", "b", "c", "c", "T"]
    assert (batch.target[4:, 0] == -1).all() and (batch.x[4:, 0] == 0).all()


def test_without_memory_one_string_is_right_at_most():
    batch = counting.COUNTING.test()
    last = batch.x.argmax(2)
    # Without memory an answer follows from the symbol alone. Right for n = 1: b leads to c, c to the end.
    answers = torch.tensor([[1, 1, -1, -1], [-1, -1, 1, -1], [-1, -1, -1, 1], [1, -1, -1, -1]]).float()
    assert counting.score(answers[last], batch) == counting.COUNTING.without_memory == 1


def test_the_score_counts_up_to_the_first_wrong_string():
    batch = counting.strings(8)
    outputs = count_symbols(batch.x)
    outputs[3, 5] *= -1
    assert counting.score(outputs, batch) == 5


@pytest.fixture
def small(monkeypatch):
    """Short trainings by the reference."""
    monkeypatch.setattr(training, "INTERVAL", 3)
    monkeypatch.setattr(training, "Network", partial(training.Network, backend="reference"))


def test_a_training_is_the_same_again_and_keeps_its_best_weights(small):
    def few():
        return adding.draw(64, at_random(1), 6)

    task = replace(TASKS["adding"], draw=lambda count, generator: adding.draw(count, generator, 6), steps=9)
    task = replace(task, validation=few, test=few)
    first, second = (training.train("elman", task, 4, seed=3, rate=0.01) for _ in range(2))
    assert first.losses == second.losses and len(first.losses) == 3
    # Validation and test are the same sequences here.
    assert first.score == pytest.approx(min(first.losses), rel=1e-5) and first.score < 1


def test_a_run_goes_on_where_it_was_and_chooses_the_rate(small):
    budget = plan.Budget(hidden=4, seeds=(0, 1), share=6 / 800)
    rows, saved = [], []
    list(plan.run(["mlp"], budget, rows, saved.append, ["counting"]))
    assert [row["phase"] for row in rows] == ["pilot", "pilot", "seed", "seed"] and saved == rows
    pilots = sorted(rows[:2], key=lambda row: row["validation_loss"])
    assert {row["rate"] for row in rows[2:]} == {pilots[0]["rate"]}
    rows.pop()
    list(plan.run(["mlp"], budget, rows, saved.append, ["counting"]))
    assert len(rows) == 4 and len(saved) == 5
    # Another formula under the name is another cell.
    rows[-1]["formula"] = "?"
    list(plan.run(["mlp"], budget, rows, saved.append, ["counting"]))
    assert len(rows) == 5


def test_a_record_survives_the_disk(tmp_path):
    row = {"cell": "lstm", "score": math.nan, "losses": [0.123456789, math.inf]}
    choose.write_record(tmp_path / "found.json", {"budget": {}, "machines": [{"cores": 2}], "rows": [row, row]})
    found = choose.read_record(tmp_path / "found.json")
    expected = {"cell": "lstm", "score": None, "losses": [0.12346, None]}
    assert found == {"budget": {}, "machines": [{"cores": 2}], "rows": [expected, expected]}


def test_every_cell_is_of_the_zoo_and_stands_once():
    every = [cell for family in plan.CELLS.values() for cell in family]
    assert len(every) == len(set(every)) >= 14
    assert all(plan.fingerprint(cell) for cell in every)
    assert plan.fingerprint("lstm") != plan.fingerprint("lstm_printed")


def test_words_are_no_part_of_a_fingerprint(tmp_path):
    text = (ROOT / "src" / "cellula" / "cells" / "lstm.cell").read_text()
    (tmp_path / "own.cell").write_text(text.replace("Long short-term", "Lasting").replace("# candidate", "# new"))
    (tmp_path / "other.cell").write_text(text.replace("init=1", "init=2"))
    assert plan.fingerprint(tmp_path / "own.cell") == plan.fingerprint("lstm")
    assert plan.fingerprint(tmp_path / "other.cell") != plan.fingerprint("lstm")


def seed_row(cell, seed, score, task="adding", **more):
    known = {"cell": cell, "formula": plan.fingerprint(cell), "task": task, "phase": "seed", "seed": seed}
    known |= {"rate": 0.01, "score": score, "solved_at": None, "seconds": 60.0, "hidden": 32, "most_steps": 1200}
    return known | more


def test_a_summary_counts_seeds_and_a_divergence_as_no_memory():
    rows = [seed_row("lstm", 3, 0.0, formula="of old"), seed_row("lstm", 100, 0.0, phase="pilot")]
    rows += [seed_row("lstm", 1, None), seed_row("lstm", 0, 0.001, solved_at=400), seed_row("lstm", 2, 0.02)]
    found = table.summarise(rows, "lstm", TASKS["adding"])
    assert found == table.Summary((0.001, adding.WITHOUT_MEMORY, 0.02), 1, 400, 0.01)
    assert table.summarise(rows, "gru", TASKS["adding"]) is None


def test_a_changed_formula_is_told():
    rows = [seed_row("lstm", 0, 0.1, formula="of old"), seed_row("lstm", 0, 0.1), seed_row("gru", 0, 0.1)]
    assert table.changed_since({"rows": rows}) == []
    assert table.changed_since({"rows": rows[::-1]}) == ["lstm"]


def test_the_main_table_has_a_line_a_cell():
    record = {"rows": [seed_row("gru", 0, 0.004), seed_row("gru", 1, 0.002), seed_row("mlp", 0, 0.1664)]}
    lines = table.main_table(record).splitlines()
    assert len(lines) == 4 and lines[2].startswith("| [`mlp`](cells/mlp.md) | 0.17, 0/1 | - | - |")
    assert "| 0.003 (0.002 to 0.004), 2/2 |" in lines[3]


def test_the_page_shows_what_was_measured():
    record = choose.read_record(choose.RESULTS)
    page = choose.PAGE.read_text(encoding="utf-8")
    assert choose.with_table(page, table.main_table(record)) == page, "run: python benchmarks/choose_a_cell.py --report"
    assert len({row["cell"] for row in record["rows"]}) >= 12
