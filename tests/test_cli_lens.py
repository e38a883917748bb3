"""`cellula lens` as a user types it."""

import json
import sys

import numpy as np
import pyarrow
import pytest

import cellula
from cellula import Forecaster, cli
from cellula.tasks.options import TrainingOptions


def call(monkeypatch, capsys, *words):
    """Run a command line: (exit code, standard output, standard error)."""
    monkeypatch.setattr(sys, "argv", ["cellula", *map(str, words)])
    with pytest.raises(SystemExit) as stop:
        cli.main()
    found = capsys.readouterr()
    return stop.value.code, found.out, found.err


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    monkeypatch.chdir(tmp_path)
    return lambda *words: call(monkeypatch, capsys, *words)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """A tiny run of two series with a known covariate."""
    folder = tmp_path_factory.mktemp("lens")
    rows = np.arange(200)
    table = {
        "unique_id": np.repeat(["a", "b"], 200),
        "ds": np.tile(np.datetime64("2024-01-01T00", "s") + rows * np.timedelta64(3600, "s"), 2),
        "y": np.concatenate([np.sin(rows * np.pi / 6), 3 * np.cos(rows * np.pi / 6)]),
        "holiday": np.tile((rows % 24 < 5).astype(float), 2),
    }
    quick = TrainingOptions(epochs=1, steps_per_epoch=2)
    forecaster = Forecaster("gru", horizon=4, window=24, season=12, hidden_size=5, known="holiday", training=quick)
    forecaster.fit(pyarrow.table(table), run=folder / "run")
    lines = ["unique_id,ds,y,holiday"]
    lines += [f"a,2024-02-01T{hour:02d}:00:00,{hour % 5},0" for hour in range(24)]
    (folder / "new.csv").write_text("\n".join(lines) + "\n")
    ahead = ["unique_id,ds,holiday"] + [f"a,2024-02-02T{hour:02d}:00:00,1" for hour in range(4)]
    (folder / "known.csv").write_text("\n".join(ahead) + "\n")
    return folder


def test_a_run_is_looked_at_on_its_newest_window(run, trained, tmp_path):
    code, out, err = run("lens", trained / "run", "--node", "z,h", "--unit", 3, "--output", "pictures", "--series", "b")
    assert code == 0, err
    assert "encoder: 4 steps of 6 rows of 1 h, 2 sequences" in out
    assert "z     gate" in out and "memory  " in out
    names = {path.name for path in (tmp_path / "pictures").iterdir()}
    assert names == {"heat-map.png", "memory.png", "saturation.png", "trace-3.png", "lens.json"}
    assert "wrote pictures/heat-map.png" in err


def test_a_run_on_other_data_and_its_decoder(run, trained):
    code, out, err = run(
        "lens", trained / "run", "--input", trained / "new.csv", "--known", trained / "known.csv",
        "--part", "decoder", "--json",
    )  # fmt: skip
    assert code == 0, err
    found = json.loads(out)
    assert (found["part"], found["steps"], found["rows"], found["files"]) == ("decoder", 4, 1, [])
    code, _, err = run("lens", trained / "run", "--part", "decoder")
    assert code == 1 and "known" in err


def test_the_picture_of_a_run_has_its_data_in_its_own_units(trained):
    found = Forecaster.load(trained / "run")
    shown = cellula.lens(found).shown
    rows = np.arange(176, 200)
    np.testing.assert_allclose(shown.values[:, 1, 0], 3 * np.cos(rows * np.pi / 6), atol=1e-5)
    assert (shown.rows_per_step, shown.names) == (6, ("y",))


def test_a_cell_before_training(run, tmp_path):
    code, out, _ = run("lens", "elman", "--hidden", 16, "--steps", 40, "--input", 3, "--output", "p", "--svg")
    assert code == 0
    assert out.startswith("elman: 40 steps, 4 sequences") and "vanishes" in out and "hint" in out
    assert (tmp_path / "p" / "memory.svg").exists()
    first, second = (run("lens", "gru", "--hidden", 8, "--json")[1] for _ in range(2))
    assert first == second
    assert json.loads(first)["memory"]["verdict"] == "vanishes"
    (tmp_path / "my.cell").write_text("h[t] = 1.5 * h[t-1] + x[t] @ W\n")
    code, out, _ = run("lens", "my.cell", "--hidden", 8)
    assert code == 0 and "explodes" in out and "clip it" in out


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("lens", "RUN", "--node", "q"), "is not a node"),
        (("lens", "RUN", "--unit", "5"), "--unit 5 is not there; write a number from 0 to 4"),
        (("lens", "RUN", "--layer", "2", "--node", "z"), "layer 2 is not there"),
        (("lens", "RUN", "--series", "c"), "--series 'c' is not there; there is 'a', 'b'"),
        (("lens", "RUN", "--hidden", "3"), "--hidden does not fit"),
        (("lens", "RUN", "--input", "empty.csv"), "empty.csv"),
        (("lens", "folder"), "folder"),
        (("lens", "missing.safetensors"), "missing.safetensors"),
        (("lens", "gru", "--part", "encoder"), "--part does not fit gru"),
        (("lens", "gru", "--input", "data.csv"), "write --input 8"),
        (("lens", "no_such_cell"), "no_such_cell"),
    ],
)
def test_what_is_refused(run, trained, tmp_path, words, message):
    (tmp_path / "folder").mkdir()
    (tmp_path / "empty.csv").write_text("")
    code, out, err = run(*(trained / "run" if word == "RUN" else word for word in words))
    assert code == 1 and message in err and "Traceback" not in err
    assert out == ""
