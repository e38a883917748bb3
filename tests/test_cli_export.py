"""`cellula export`: what a user types, reads and gets."""

import json
import sys

import numpy as np
import pandas as pd
import pytest

from cellula import Forecaster, Recurrent, cli, import_onnx
from cellula.tasks.options import TrainingOptions
from onnx_tools import onnx, runtime

pytestmark = pytest.mark.usefixtures("on_the_reference")


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


def test_a_bare_cell_becomes_a_file_that_runs(run, tmp_path):
    code, out, _ = run("export", "lstm", "--input", 3, "--hidden", 4, "--layers", 2, "--bidirectional")
    assert code == 0 and "wrote lstm.onnx" in out and "not trained" in out
    assert "output  output      float32 ['time', 'batch', 8]" in out
    file = runtime.InferenceSession(str(tmp_path / "lstm.onnx"))
    assert file.run(["output"], {"x": np.zeros((7, 2, 3), "float32")})[0].shape == (7, 2, 8)
    module = import_onnx(tmp_path / "lstm.onnx")
    assert repr(module) == repr(Recurrent("lstm", 3, 4, num_layers=2, bidirectional=True))
    # The same seed gives the same file, another seed another one.
    before = (tmp_path / "lstm.onnx").read_bytes()
    assert run("export", "lstm", "--input", 3, "--hidden", 4, "--layers", 2, "--bidirectional")[0] == 0
    assert (tmp_path / "lstm.onnx").read_bytes() == before
    run("export", "lstm", "--input", 3, "--hidden", 4, "--layers", 2, "--bidirectional", "--seed", 1)
    assert (tmp_path / "lstm.onnx").read_bytes() != before


def test_a_formula_of_one_s_own_streaming_with_a_setting(run, tmp_path):
    (tmp_path / "my.cell").write_text("leak = setting(0.3)\nh[t] = (1 - leak) * h[t-1] + leak * tanh(x[t] @ W)\n")
    words = ("export", "my.cell", "--streaming", "--set", "leak=0.5", "--input", 2, "--hidden", 3, "--json")
    code, out, _ = run(*words, "--format", "onnx", "--output", "step.onnx")
    assert code == 0
    said = json.loads(out)
    assert said["file"] == "step.onnx"
    assert said["inputs"] == [
        {"name": "x", "type": "float32", "shape": ["batch", 2]},
        {"name": "h_0", "type": "float32", "shape": [1, "batch", 3]},
    ]
    assert [port["name"] for port in said["outputs"]] == ["output", "h_n"]
    assert import_onnx(tmp_path / "step.onnx").settings == {"leak": 0.5}
    said = json.loads(run("export", "my.cell", "--states", "--lengths", "--batch-first", "--json")[1])
    assert said["file"] == "my.onnx" and [port["name"] for port in said["inputs"]] == ["x", "lengths", "h_0"]
    assert said["inputs"][0]["shape"] == ["batch", "time", 8]


def test_a_run_becomes_its_whole_network(run, tmp_path):
    hours = np.arange(300)
    table = pd.DataFrame({"ds": pd.date_range("2024-01-01", periods=300, freq="h"), "y": np.sin(hours * np.pi / 12)})
    quick = TrainingOptions(epochs=1, steps_per_epoch=2)
    small = Forecaster("gru", horizon=6, window=24, season=24, hidden_size=4, training=quick)
    small.fit(table, run=tmp_path / "runs/mine")
    code, out, _ = run("export", "runs/mine")
    assert code == 0 and "wrote runs/mine/model.onnx" in out and "not trained" not in out
    file = runtime.InferenceSession(str(tmp_path / "runs/mine/model.onnx"))
    assert [port.name for port in file.get_inputs()] == ["history", "calendar"]
    assert [node.op_type for node in onnx.load("runs/mine/model.onnx").graph.node].count("GRU") == 2
    code, out, _ = run("export", "runs/mine/model.safetensors", "--output", "own.onnx")
    assert code == 0
    assert (tmp_path / "own.onnx").read_bytes() == (tmp_path / "runs/mine/model.onnx").read_bytes()
    code, _, err = run("export", "runs/mine", "--hidden", 4)
    assert code == 1 and "--hidden is for a bare cell" in err
    code, _, err = run("export", "runs/mine", "--streaming")
    assert code == 1 and "reads whole windows" in err


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (("nosuch",), 1, "there is no cell 'nosuch'"),
        (("lstm", "--streaming", "--bidirectional"), 1, "needs the whole sequence"),
        (("lstm", "--format", "png"), 2, "'png'"),
        (("lstm", "--output", "absent/m.onnx"), 1, "cannot write"),
        (("lstm", "--set", "leak=1"), 1, "no setting or size 'leak'"),
        (("projected_lstm",), 1, "proj"),
        ((".",), 1, "model.safetensors"),
    ],
)
def test_mistakes_end_without_a_traceback(run, tmp_path, words, code, message):
    found, _, err = run("export", *words)
    assert found == code and message in err and "Traceback" not in err
    assert not list(tmp_path.glob("**/*.onnx"))


def test_show_as_onnx_needs_no_onnx(run, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnx", None)
    code, out, _ = run("show", "mgu", "--as", "onnx", "--input", 3, "--hidden", 4)
    assert code == 0
    assert out.startswith("cellula (float32[time, batch, 3] x) => (float32[time, batch, 4] output, float32[1, batch")
    assert "layers.0.U_f  float32[4, 4]" in out and "    step (float32[batch, 4] h," in out and "f = Sigmoid" in out
    code, out, _ = run("show", "lstm", "--as", "onnx")
    assert "LSTM <hidden_size=64, direction=forward, activations=[Sigmoid, Tanh, Tanh]>" in out
    code, _, err = run("export", "lstm")
    assert code == 1 and "pip install 'cellula[onnx]'" in err
