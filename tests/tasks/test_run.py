"""Model files and the run directory: nothing is overwritten, half written or trusted."""

from __future__ import annotations

import errno
import json
import os
import pickle
import resource
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from cellula.errors import RunError, UsageError
from cellula.tasks.atomic import write_atomic
from cellula.tasks.plain import plain
from cellula.tasks.run import (
    RunDirectory,
    data_fingerprint,
    differences,
    load_model,
    load_weights,
    save_model,
)
from cellula.tasks.tensor_file import write_tensor_file

TENSORS = {
    "weight": torch.arange(6.0).reshape(2, 3),
    "bias": torch.tensor(-1.5, dtype=torch.bfloat16),
    "mask": torch.tensor([True, False]),
    "empty": torch.zeros(0, 4),
    "count": torch.tensor([2**40]),
}
METADATA = {"formula": "h[t] = tanh(x[t] @ W + β)", "sizes": [2, 3], "scale": {"temp": [0.1, 1e-30]}, "none": None}


def assert_loads_equal(path: Path) -> None:
    tensors, metadata = load_model(path)
    assert tensors.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        assert tensors[name].dtype == tensor.dtype
        assert torch.equal(tensors[name], tensor)
    assert metadata == METADATA


@pytest.fixture(scope="module")
def valid(tmp_path_factory) -> bytes:
    path = tmp_path_factory.mktemp("valid") / "model.safetensors"
    save_model(path, TENSORS, METADATA)
    assert_loads_equal(path)
    return path.read_bytes()


def test_tied_and_strided_weights_are_saved(tmp_path):
    weight = torch.randn(3, 4)
    save_model(tmp_path / "m", {"a": weight, "b": weight, "turned": weight.T}, {})
    tensors, _ = load_model(tmp_path / "m")
    assert torch.equal(tensors["b"], weight)
    assert torch.equal(tensors["turned"], weight.T)


def test_saving_equal_models_gives_equal_files(valid, tmp_path):
    for number in range(5):
        save_model(tmp_path / str(number), dict(reversed(TENSORS.items())), dict(reversed(METADATA.items())))
        assert (tmp_path / str(number)).read_bytes() == valid


def foreign_safetensors(path: Path) -> None:
    save_file({"w": torch.ones(2)}, path, {"format": "pt"})


def torch_file(path: Path) -> None:
    torch.save({"w": torch.ones(2)}, path)


class Trap:
    """Runs code when it is unpickled."""

    def __reduce__(self):
        return os.mkdir, ("trapped",)


def pickle_file(path: Path) -> None:
    path.write_bytes(pickle.dumps(Trap()))


def newer_file(path: Path) -> None:
    entry = {"format": 2, "kind": "model", "novelty": 1}
    save_file({"w": torch.ones(2)}, path, {"cellula": json.dumps(entry)})


def checkpoint_file(path: Path) -> None:
    write_tensor_file(path, "checkpoint", {}, {})


BAD_FILES = {
    "missing": (lambda path: None, "cannot read .*: No such file or directory"),
    "folder": (lambda path: path.mkdir(), "is a folder, not a model file"),
    "fifo": (lambda path: os.mkfifo(path), "is not a regular file"),
    "empty": (lambda path: path.write_bytes(b""), "is damaged: it is empty"),
    "short": (lambda path: path.write_bytes(b"abc"), "was not written by Cellula"),
    "text": (lambda path: path.write_text("h[t] = x[t]\n" * 99), "was not written by Cellula"),
    "endless header": (lambda path: path.write_bytes(b"\xff" * 64), "was not written by Cellula"),
    "json that is no header": (lambda path: path.write_bytes(b"\x02" + bytes(7) + b"[]"), "was not written by Cellula"),
    "deep json": (lambda path: path.write_bytes((99999).to_bytes(8, "little") + b"[" * 99999), "was not written"),
    "safetensors of others": (foreign_safetensors, "was not written by Cellula"),
    "torch.save": (torch_file, "looks like a file of torch.save: such a file can run code"),
    "pickle": (pickle_file, "was not written by Cellula"),
    "newer": (newer_file, "has format version 2; this Cellula reads up to 1: update Cellula"),
    "checkpoint": (checkpoint_file, r"is a training checkpoint .*; expected a model"),
}


@pytest.mark.parametrize("name", BAD_FILES)
def test_a_bad_file_gives_a_clear_error(tmp_path, monkeypatch, name):
    make, message = BAD_FILES[name]
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "model.safetensors"
    make(path)
    with pytest.raises(RunError, match=message) as caught:
        load_model(path)
    assert str(path) in str(caught.value)
    assert not (tmp_path / "trapped").exists()


@given(data=st.data())
@settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_a_truncated_file_is_refused(valid, tmp_path, data):
    size = data.draw(st.integers(0, len(valid) - 1))
    path = tmp_path / "model.safetensors"
    path.write_bytes(valid[:size])
    with pytest.raises(RunError):
        load_model(path)


@given(data=st.data())
@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_flipped_bits_are_refused_or_do_not_matter(valid, tmp_path, data):
    """A flip may leave the meaning as it is (a space in the header); it may never change a weight unnoticed."""
    damaged = bytearray(valid)
    for place in data.draw(st.lists(st.integers(0, len(valid) * 8 - 1), min_size=1, max_size=3, unique=True)):
        damaged[place // 8] ^= 1 << place % 8
    path = tmp_path / "model.safetensors"
    path.write_bytes(damaged)
    try:
        load_model(path)
    except RunError:
        return
    assert_loads_equal(path)


def test_every_flipped_weight_bit_is_found(valid, tmp_path):
    path = tmp_path / "model.safetensors"
    start = 8 + int.from_bytes(valid[:8], "little")
    for place in range(start * 8, len(valid) * 8):
        damaged = bytearray(valid)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        with pytest.raises(RunError, match="is damaged"):
            load_model(path)


def test_what_has_no_json_form_is_named(tmp_path):
    with pytest.raises(UsageError, match=r"metadata.scale\[1\] is nan"):
        save_model(tmp_path / "m", {}, {"scale": [1.0, float("nan")]})
    with pytest.raises(UsageError, match=r"metadata.cell is <built-in function len>"):
        save_model(tmp_path / "m", {}, {"cell": len})
    with pytest.raises(UsageError, match="'w' is list; a model file holds tensors only"):
        save_model(tmp_path / "m", {"w": [1.0]}, {})  # pyright: ignore[reportArgumentType]
    assert list(tmp_path.iterdir()) == []


def test_plain_values():
    value = {
        "scalar": np.float32(0.5),
        "rows": np.arange(2),
        "time": np.datetime64("2013-01-01T05"),
        "times": np.array(["2013-01-01"], dtype="datetime64[D]"),
        "path": Path("a/b"),
        3: (True, None, float("inf")),
    }
    expected = {
        "scalar": 0.5,
        "rows": [0, 1],
        "time": "2013-01-01T05",
        "times": ["2013-01-01"],
        "path": "a/b",
        "3": [True, None, None],
    }
    assert plain(value) == expected


def test_weights_that_do_not_fit_are_all_named():
    model = torch.nn.Linear(2, 3)
    tensors = {"weight": torch.zeros(3, 4), "extra": torch.zeros(1)}
    with pytest.raises(RunError) as caught:
        load_weights(model, tensors, "a.safetensors")
    assert str(caught.value).splitlines() == [
        "a.safetensors does not fit the network:",
        "  bias: missing",
        "  extra: the network has no such weight",
        "  weight: the file has float32 [3, 4], the network needs float32 [3, 2]",
    ]
    with pytest.raises(RunError, match="bias: holds a value that is not finite"):
        load_weights(model, {"weight": torch.zeros(3, 2), "bias": torch.full((3,), torch.nan)}, "a")


def test_fingerprint_sees_every_change():
    base = [np.arange(4.0), np.array(["a", "bc"], dtype=object)]
    marks = {
        data_fingerprint(*base),
        data_fingerprint(base[0] + 1e-12, base[1]),
        data_fingerprint(base[0].reshape(2, 2), base[1]),
        data_fingerprint(base[0], np.array(["ab", "c"], dtype=object)),
        data_fingerprint(base[0]),
    }
    assert len(marks) == 5
    assert data_fingerprint(*base) == data_fingerprint(*[entry.copy() for entry in base])


def test_differences_are_listed_by_name():
    stored = {"a": 1, "deep": {"b": [1, 2], "log_every": 3}, "gone": 0}
    given_now = {"a": 1.0, "deep": {"b": [1, 3], "log_every": 9}, "new": "x"}
    assert differences(stored, given_now) == [
        "a: the run has 1, now 1.0",
        "deep.b: the run has [1, 2], now [1, 3]",
        "gone: the run has 0, now null",
        'new: the run has null, now "x"',
    ]


def make_run(folder: Path) -> None:
    with RunDirectory.create(folder) as run:
        run.describe({"task": "waves"})
        run.write_json("metrics.json", {"mae": 1.0})
        run.write_bytes("plots/a.png", b"picture")
        run.save_model({"w": torch.ones(1)}, {"epoch": 1})


def contents(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != ".lock")
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_an_existing_run_is_not_overwritten_unless_told(tmp_path):
    folder = tmp_path / "deep" / "run"
    make_run(folder)
    (folder / "notes.txt").write_text("mine")
    before = contents(folder)
    with pytest.raises(RunError, match=r"already holds a run: .*--resume.*--overwrite"):
        RunDirectory.create(folder)
    assert contents(folder) == before
    with RunDirectory.create(folder, overwrite=True) as run:
        # Not before the first write: until then something may turn out to be wrong.
        assert contents(folder) == before
        run.describe({"task": "tides"})
    assert set(contents(folder)) == {"config.json", "notes.txt"}
    assert RunDirectory.open(folder).read_config() == {"task": "tides"}


def test_a_folder_of_other_files_is_never_touched(tmp_path):
    (tmp_path / "thesis.tex").write_text("all of it")
    (tmp_path / "figure.png").write_text("all of it")
    for told in ({}, {"overwrite": True}, {"resume": True}):
        with pytest.raises(RunError, match=r"holds files that are no run of Cellula"):
            RunDirectory.create(tmp_path, **told)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["figure.png", "thesis.tex"]


def test_what_a_run_needs_is_said(tmp_path):
    with pytest.raises(RunError, match="there is no run to resume"):
        RunDirectory.create(tmp_path / "none", resume=True)
    with pytest.raises(RunError, match="is not a run directory"):
        RunDirectory.open(tmp_path / "none")
    with pytest.raises(UsageError, match="exclude each other"):
        RunDirectory.create(tmp_path / "none", resume=True, overwrite=True)
    assert list(tmp_path.iterdir()) == []


def test_a_damaged_config_is_named(tmp_path):
    make_run(tmp_path / "run")
    run = RunDirectory.open(tmp_path / "run")
    (tmp_path / "run" / "config.json").write_text('{"cellula_run": 1, ')
    with pytest.raises(RunError, match=r"config.json is damaged: it is not JSON"):
        run.read_config()


def test_the_model_file_carries_config_and_metadata(tmp_path):
    with RunDirectory.create(tmp_path / "run") as run:
        run.describe({"task": "waves"}, {"formula": "h[t] = x[t]"})
        run.save_model({"w": torch.ones(1)}, {"epoch": 4})
    _, metadata = RunDirectory.open(tmp_path / "run").load_model()
    assert metadata == {"config": {"task": "waves"}, "formula": "h[t] = x[t]", "training": {"epoch": 4}}


def test_one_process_has_the_folder_and_leftovers_of_a_kill_go(tmp_path):
    with RunDirectory.create(tmp_path / "run") as run:
        run.describe({})
        (run.path / ".model.safetensors.12ab.cellula-tmp").write_bytes(b"half")
        with pytest.raises(RunError, match=f"process {os.getpid()}"):
            RunDirectory.create(tmp_path / "run", resume=True)
    with RunDirectory.create(tmp_path / "run", resume=True):
        assert contents(tmp_path / "run").keys() == {"config.json"}


def test_only_the_main_process_writes(tmp_path, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    with RunDirectory.create(tmp_path / "run") as run:
        run.describe({})
        run.write_text("metrics.json", "{}")
        run.save_model({"w": torch.ones(1)}, {})
    assert not (tmp_path / "run").exists()


def test_a_path_under_a_file_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(RunError, match=r"cannot make the folder .*run: Not a directory; a part of the path is a file"):
        RunDirectory.create(tmp_path / "file" / "run")
    with pytest.raises(RunError, match=r"cannot make the folder .*file: File exists"):
        RunDirectory.create(tmp_path / "file")
    with pytest.raises(RunError, match=r"cannot write .*m.safetensors: Not a directory"):
        save_model(tmp_path / "file" / "m.safetensors", {}, {})


@pytest.mark.skipif(os.geteuid() == 0, reason="the permissions of a folder do not bind root")
def test_a_folder_without_permission_is_a_clear_error(tmp_path):
    tmp_path.chmod(0o500)
    with pytest.raises(RunError, match=r"Permission denied; choose a folder that you may write to"):
        RunDirectory.create(tmp_path / "run")


@pytest.mark.parametrize("function", ["fsync", "replace"])
@pytest.mark.parametrize(
    ("number", "advice"), [(errno.ENOSPC, "free some space"), (errno.EROFS, "read-only"), (errno.EIO, "check the disk")]
)
def test_a_failed_write_keeps_the_old_file(tmp_path, monkeypatch, function, number, advice):
    path = tmp_path / "model.safetensors"
    write_atomic(path, b"old")

    def full(*arguments: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, function, full)
    with pytest.raises(RunError, match=f"cannot write {path}: {os.strerror(number)}; .*{advice}"):
        write_atomic(path, b"new")
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]


def test_a_write_past_a_real_limit_keeps_the_old_file(tmp_path):
    """The operating system itself refuses here, in the middle of the file."""
    path = tmp_path / "model.safetensors"
    write_atomic(path, b"old")
    program = (
        "import sys; from pathlib import Path; from cellula.errors import RunError\n"
        "from cellula.tasks.atomic import write_atomic\n"
        "try: write_atomic(Path(sys.argv[1]), bytes(100_000))\n"
        "except RunError as error: print(error)"
    )
    source = Path(__file__).parents[2] / "src"
    answer = subprocess.run(
        [sys.executable, "-c", program, str(path)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": str(source)},
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (50_000, 50_000)),
        timeout=60,
    )
    assert answer.stdout.startswith(f"cannot write {path}: File too large; the limit on the size"), answer.stderr
    assert path.read_bytes() == b"old"
    assert [entry.name for entry in tmp_path.iterdir()] == ["model.safetensors"]
