"""The command line as a user types it: output, exit codes, mistakes without a traceback."""

import gzip
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from safetensors.torch import load_file

from cellula import cli
from cellula.errors import UsageError

GOOD = '"""A cell of my own."""\nleak = setting(0.3)\nh[t] = (1 - leak) * h[t-1] + leak * tanh(x[t] @ W + h[t-1] @ U)\n'
BAD = "h[t] = tnah(x[t] @ W)\nz[t] = q[t] + 1\n"


@pytest.fixture
def run(monkeypatch, capsys, tmp_path):
    """Run a command line in an empty folder: (exit code, standard output, standard error)."""
    monkeypatch.chdir(tmp_path)

    def call(*words):
        monkeypatch.setattr(sys, "argv", ["cellula", *map(str, words)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        found = capsys.readouterr()
        return stop.value.code, found.out, found.err

    return call


def write_series(path, rows=400):
    """Hourly rows of a wave with a little noise, as CSV (packed where the name says so)."""
    noise = np.random.default_rng(0).normal(0, 0.1, rows)
    lines = ["when,load,noise"]
    for hour in range(rows):
        value = math.sin(hour * math.tau / 24) + noise[hour]
        lines.append(f"2024-01-{1 + hour // 24:02d}T{hour % 24:02d}:00:00,{value:.4f},{noise[hour]:.4f}")
    text = ("\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(text) if path.suffix == ".gz" else text)
    return path


SMALL = "--window 24 --horizon 6 --season 24 --hidden 4 --epochs 1 --batch-size 64".split()


def test_cells_are_listed_one_line_each(run):
    code, out, _ = run("cells")
    assert code == 0
    assert len(out.splitlines()) == len(json.loads(run("cells", "--json")[1]))
    assert any(line.startswith("peephole_lstm") and "[c, h]" in line for line in out.splitlines())


def test_show_tells_gates_from_layers_and_counts(run):
    code, out, _ = run("show", "lstm", "--input", 3, "--hidden", 5)
    assert code == 0
    assert "i  gate node" in out and "g  layer node" in out and "learned     180 numbers" in out
    summary = json.loads(run("show", "lstm", "--input", 3, "--hidden", 5, "--json")[1])
    assert summary["parameter_count"] == 180
    assert {node["name"]: node["role"] for node in summary["nodes"]}["c"] == "combination"


def test_show_as_one_thing_only(run):
    code, out, _ = run("show", "peephole_lstm", "--as", "bptt")
    assert code == 0 and "dp_o = do_in[t] * c[t]" in out
    assert json.loads(run("show", "elman", "--as", "formula", "--json")[1])["formula"].startswith('"""Elman network')
    assert run("show", "lstm", "--as", "poem")[0] == 2
    code, out, _ = run("show", "lstm", "--as", "plan", "--input", 8, "--hidden", 128)
    assert code == 0 and "carried to the next step: c, h" in out and "with hidden = 128, input = 8: forward" in out
    assert r"\delta b_{f} &= \sum_{t} \delta \overline{f}_t" in run("show", "lstm", "--as", "bptt-latex")[1]


def test_show_the_generated_source(run):
    code, out, _ = run("show", "gru", "--as", "c")
    assert code == 0 and out.startswith("/* The kernels of gru. */") and "int backward(" in out
    whole = run("show", "gru", "--as", "c", "--whole")[1]
    assert whole.startswith("#define CELLULA_DOUBLE 0\n") and whole.endswith(out) and len(whole) > len(out)


def test_a_diagram_goes_to_a_file_or_to_the_reader_of_the_output(run, tmp_path, monkeypatch):
    code, out, _ = run("show", "lstm", "--as", "diagram")
    assert code == 0 and out.startswith("<svg") and out.endswith("</svg>\n")
    assert json.loads(run("show", "lstm", "--as", "diagram", "--json")[1])["diagram"] == out
    (tmp_path / "my.cell").write_text(GOOD)
    code, out, err = run("show", "my.cell", "--as", "diagram", "--steps", 3, "--output", "my.png")
    assert (code, out, err) == (0, "", "wrote my.png\n")
    assert (tmp_path / "my.png").read_bytes().startswith(b"\x89PNG")
    assert json.loads(run("show", "gru", "--as", "diagram", "--output", "a.svg", "--json")[1])["output"] == "a.svg"
    # A terminal gets no pages of XML but a file of the cell's name, which is not replaced without a word.
    monkeypatch.setattr("cellula.cli.pictures.to_a_terminal", lambda: True)
    assert run("show", "my.cell", "--as", "diagram") == (0, "", "wrote my.svg\n")
    code, _, err = run("show", "my.cell", "--as", "diagram")
    assert code == 1 and "my.svg is there already; write --output my.svg" in err


def test_cells_are_compared_in_one_picture(run, tmp_path):
    (tmp_path / "my.cell").write_text(GOOD)
    code, out, _ = run("compare", "lstm", "peephole_lstm", "my.cell")
    assert code == 0 and "<title>lstm and peephole_lstm and my, compared</title>" in out
    assert run("compare", "lstm", "gru", "--output", "two.svg")[0] == 0
    assert (tmp_path / "two.svg").read_text().startswith("<svg")


def test_every_form_can_be_written_to_a_file(run, tmp_path):
    assert run("show", "lstm", "--as", "latex", "--output", "lstm.tex") == (0, "", "wrote lstm.tex\n")
    assert (tmp_path / "lstm.tex").read_text() == run("show", "lstm", "--as", "latex")[1]


def test_check_passes_a_good_file_and_lists_all_that_is_wrong_with_a_bad_one(run, tmp_path):
    (tmp_path / "my.cell").write_text(GOOD)
    (tmp_path / "bad.cell").write_text(BAD)
    code, out, _ = run("check", "my.cell", "--quick", "--input", 3, "--hidden", 5)
    assert code == 0 and "my.cell: ok" in out and "memory      h" in out and "40 learned numbers in 2 tensors" in out
    code, out, err = run("check", "bad.cell")
    assert code == 1 and out == ""
    assert "did you mean `tanh`?" in err and "`q[t]` is not computed anywhere" in err and "Traceback" not in err
    found = json.loads(run("check", "bad.cell", "--json")[1])
    assert [(p["kind"], p["line"], p["column"]) for p in found["problems"]] == [
        ("unknown-function", 1, 8),
        ("unknown-node", 2, 8),
    ]


def test_check_puts_a_cell_through_the_suite(run, tmp_path, monkeypatch):
    # The compiler is four times as fast.
    monkeypatch.setenv("CELLULA_CFLAGS", f"-O0 {os.environ.get('CELLULA_CFLAGS', '')}")
    (tmp_path / "my.cell").write_text(GOOD)
    code, out, _ = run("check", "my.cell")
    assert code == 0 and "my: passed" in out and "finite differences" in out and "no hints" in out
    code, out, _ = run("check", "my.cell", "--set", "leak=0", "--json")
    found = json.loads(out)
    # Nothing but the leak leads from the matrices to the output.
    assert code == 0 and {(hint["kind"], hint["where"]) for hint in found["hints"]} >= {("no-gradient", "W")}
    assert found["ok"] and found["parameter_count"] == 8 * 64 + 64 * 64 and found["gradient_over_lags"]["verdict"]


def test_check_fails_what_gives_no_numbers(run, tmp_path):
    (tmp_path / "nan.cell").write_text("h[t] = log(x[t] @ W)\n")
    code, out, err = run("check", "nan.cell")
    assert code == 1 and "nan.cell: FAILED" in out and "output is NaN" in out and err == ""
    assert run("check", "nan.cell", "--quick")[0] == 0
    found = json.loads(run("check", "nan.cell", "--json")[1])
    assert not found["ok"] and [one["check"] for one in found["checks"] if one["status"] == "failed"] == ["finite"]


@pytest.mark.parametrize(("name", "content", "message"), [
    ("empty.cell", b"", "the formula has no equation"),
    ("bytes.cell", b"h[t] = x[t]\xff\x00", "not UTF-8 text"),
    ("folder.cell", None, "the file cannot be read"),
    ("absent.cell", "absent", "No such file"),
    ("lstn", "absent", "did you mean `lstm`?"),
])  # fmt: skip
def test_check_says_what_is_wrong_with_a_file(run, tmp_path, name, content, message):
    if content is None:
        (tmp_path / name).mkdir()
    elif content != "absent":
        (tmp_path / name).write_bytes(content)
    code, out, err = run("check", name)
    assert code == 1 and out == "" and message in err and "Traceback" not in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["check", "lstm", "--set", "leak=1"], 1, "no size or setting 'leak'"),
        (["show", "lstn"], 1, "did you mean `lstm`?"),
        (["show", "none.cell"], 1, "No such file"),
        (["show", "lstm", "--set", "leak"], 1, "--set leak=0.3"),
        (["show", "lstm", "--set", "leak=1"], 1, "no size or setting 'leak'"),
        (["show", "lstm", "--hidden", "0"], 2, "0 is not in the range"),
        (["show", "lstm", "--whole"], 1, "--as c --whole"),
        (["show"], 2, "Missing argument"),
        ([], 2, "cellula train forecast --cell my.cell"),
        (["train"], 2, "cellula train forecast"),
        (["show", "lstm", "--steps", "3"], 1, "write --as diagram"),
        (["show", "lstm", "--as", "diagram", "--steps", "0"], 2, "0 is not in the range"),
        (["show", "lstm", "--as", "diagram", "--output", "lstm.pdf"], 1, "write lstm.svg"),
        (["show", "lstm", "--as", "diagram", "--output", "none/lstm.svg"], 1, "none/lstm.svg"),
        (["compare", "lstm"], 1, "2 to 12 cells can be compared"),
        (["compare", "lstm", "grv"], 1, "did you mean `gru`?"),
        (["shwo"], 2, "No such command"),
        (["predict", "nowhere"], 1, "nowhere"),
        (["train", "forecast", "none.csv"], 1, "there is no such file"),
        (["train", "forecast", "--resume"], 1, "--resume needs --run"),
    ],
)
def test_a_mistake_is_said_without_a_traceback(run, words, code, message):
    found, _, err = run(*words)
    assert found == code
    assert message in err and "Traceback" not in err


def test_messages_name_options_of_the_command_line(run, tmp_path):
    rows = write_series(tmp_path / "load.csv").read_text().splitlines()
    rows[100] = rows[100].replace(rows[100].split(",")[1], "")
    (tmp_path / "hole.csv").write_text("\n".join(rows))
    words = ["train", "forecast", "hole.csv", "--time", "when", "--target", "load", "--cell", "elman", *SMALL]
    code, _, err = run(*words)
    assert code == 1 and "say --missing forward or --missing interpolate" in err
    # What is mended is said in one line, without the line of code that said it.
    code, out, err = run(*words, "--missing", "forward", "--level", 50, "--fixed-intervals")
    assert code == 0 and "50 % interval" in out and "80 % interval" not in out
    assert err == "note: --missing forward: 1 value (0.25 %) of 'load' was filled; with the last value before\n"
    # A formula's text is left alone.
    assert "a[t] = level=3" in run("show", "a[t] = level=3")[2]
    code, _, err = run("train", "forecast", "load.csv", "--target", "load")
    assert code == 1 and "column 'when' holds times: say --time" in err


def test_debug_shows_the_traceback(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["cellula", "show", "lstn", "--debug"])
    with pytest.raises(UsageError):
        cli.main()


def test_every_command_has_help_with_an_example(run):
    for words in (["cells"], ["show"], ["compare"], ["check"], ["train", "forecast"], ["predict"], ["backtest"]):
        code, out, _ = run(*words, "--help")
        assert code == 0 and "Examples:" in out and f"cellula {' '.join(words)}" in out


def test_a_formula_of_ones_own_trains_predicts_and_is_tested(run, tmp_path):
    write_series(tmp_path / "load.csv.gz")
    (tmp_path / "my.cell").write_text(GOOD)
    words = ["train", "forecast", "load.csv.gz", "--time", "when", "--target", "load", "--cell", "my.cell", *SMALL]
    code, out, _ = run(*words, "--run", "mine")
    assert code == 0
    assert "seasonal naive" in out and "report   mine/report.html" in out
    folder = tmp_path / "mine"
    names = {path.name for path in folder.iterdir()}
    assert {"config.json", "model.safetensors", "log.jsonl", "metrics.json", "report.html", "forecast.png"} <= names
    # A program sees the same numbers again.
    again = json.loads(run("backtest", "mine", "--json")[1])
    stored = json.loads((folder / "metrics.json").read_text())
    assert again["scores"]["network"]["mae"] == pytest.approx(stored["scores"]["network"]["mae"], rel=1e-5)
    # What was trained is not replaced unless told so.
    code, _, err = run(*words, "--run", "mine")
    assert code == 1 and "--overwrite" in err
    code, out, _ = run("predict", "mine")
    assert code == 0
    lines = out.splitlines()
    assert lines[0] == "when,load,load_lo_80,load_hi_80,load_lo_95,load_hi_95" and len(lines) == 7
    rows = json.loads(run("predict", "mine", "load.csv.gz", "--level", "80", "--json")[1])
    assert [f"{row['load']:.7g}" for row in rows] == [line.split(",")[1] for line in lines[1:]]
    assert run("predict", "mine", "--output", "forecast.parquet")[0] == 0
    assert (tmp_path / "forecast.parquet").stat().st_size > 0


def test_runs_are_numbered_where_no_name_is_given(run, tmp_path):
    write_series(tmp_path / "load.csv")
    words = ["train", "forecast", "load.csv", "--time", "when", "--target", "load", "--cell", "elman", *SMALL, "--json"]
    assert [json.loads(run(*words)[1])["run"] for _ in range(2)] == ["runs/forecast-1", "runs/forecast-2"]


def test_a_file_that_is_no_table_is_refused(run, tmp_path):
    (tmp_path / "empty.csv").write_text("")
    (tmp_path / "noise.csv").write_bytes(bytes(range(256)) * 20)
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"a,b\n1,2\n" * 1000)[:30])
    (tmp_path / "names.csv").write_text("ds,y\n")
    (tmp_path / "fake.parquet").write_text("not parquet")
    for name in ("empty.csv", "noise.csv", "cut.csv.gz", "names.csv", "fake.parquet", "."):
        code, _, err = run("train", "forecast", name)
        assert code == 1 and "Traceback" not in err and err.startswith("error: "), name


def start(words, folder, code="import runpy; runpy.run_module('cellula', run_name='__main__')"):
    """The command line, or other code, in a process of its own."""
    source = os.pathsep.join([str(Path(cli.__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": source, "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", code, *words]
    return subprocess.Popen(command, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE)


@pytest.mark.parametrize(
    ("package", "code", "extra"),
    [
        ("pyarrow", "from cellula.cli import main; main()", "cellula[forecast]"),
        ("accelerate", "import cellula; cellula.Forecaster", "cellula[forecast]"),
        ("torch", "import cellula; cellula.Recurrent", "cellula"),
    ],
)
def test_a_package_that_is_not_installed_is_named_with_the_remedy(tmp_path, package, code, extra):
    # None in sys.modules makes an import fail as if the package were not there.
    process = start(["train", "forecast"], tmp_path, f"import sys; sys.modules[{package!r}] = None; {code}")
    _, err = process.communicate(timeout=60)
    assert process.returncode == 1
    assert f"{package} is needed for this and is not installed; write: pip install '{extra}'" in err.decode()


def weights(path):
    return {name: tensor.numpy().tobytes() for name, tensor in load_file(path / "model.safetensors").items()}


def test_a_killed_run_goes_on_to_the_same_weights(tmp_path):
    write_series(tmp_path / "load.csv")
    words = "train forecast load.csv --time when --target load --cell gru --window 24 --horizon 6 --hidden 4".split()
    words += ["--epochs", "4", "--batch-size", "4"]
    whole = start([*words, "--run", "whole"], tmp_path)
    assert whole.wait(timeout=120) == 0, whole.communicate()[1].decode()
    killed = start([*words, "--run", "killed"], tmp_path)
    log = tmp_path / "killed" / "log.jsonl"
    # In the middle of an epoch: some steps after the first one has ended.
    while killed.poll() is None and not (log.exists() and '"epoch"' in log.read_text() and log.stat().st_size > 1500):
        time.sleep(0.01)
    killed.kill()
    killed.communicate()
    assert killed.returncode == -signal.SIGKILL
    assert not (tmp_path / "killed" / "report.html").exists()
    resumed = start([*words, "--run", "killed", "--resume"], tmp_path)
    assert resumed.wait(timeout=120) == 0, resumed.communicate()[1].decode()
    assert weights(tmp_path / "killed") == weights(tmp_path / "whole")
