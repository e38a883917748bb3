"""A training that is killed, interrupted or told to stop loses nothing, and ends with the same bits."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch

from cellula.errors import RunError
from cellula.tasks.interrupt import StopRequest
from cellula.tasks.run import RunDirectory, load_model
from cellula.tasks.tensor_file import read_tensor_file
from cellula.tasks.training import train
from tasks.small_training import OPTIONS, TrainingOptions, Waves, network, run_training, squared

SOURCE = Path(__file__).parents[2] / "src"


class Nursery:
    """A process that starts trainings as its children (see `small_training.serve`)."""

    def __init__(self) -> None:
        environment = {**os.environ, "PYTHONPATH": str(SOURCE), "OMP_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).with_name("small_training.py"))]
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True
        )
        assert self.answer() == "ready"

    def answer(self) -> str:
        """The next line of the process; where it hangs, it and its children are ended, and the line is empty."""
        assert self.process.stdout is not None
        watch = threading.Timer(120, os.killpg, (self.process.pid, signal.SIGKILL))
        watch.start()
        try:
            return self.process.stdout.readline().strip()
        finally:
            watch.cancel()

    def send(self, line: str) -> None:
        """Sends a line to the process."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()

    def start(self, folder: Path, **request: object) -> int:
        """Starts a training and gives its process number."""
        self.send(json.dumps({"folder": str(folder), **request}))
        return int(self.answer())

    def wait(self) -> int:
        """The exit code of the training; minus the signal where one ended it."""
        self.send("")
        return int(self.answer())

    def run(self, folder: Path, **request: object) -> int:
        """Starts a training and waits for its end."""
        self.start(folder, **request)
        return self.wait()

    def close(self) -> None:
        """Ends the process."""
        self.process.communicate(timeout=20)


def wait_for(path: Path, content: bytes = b"") -> None:
    """Waits until a file is there and has some content."""
    deadline = time.monotonic() + 30
    while not path.exists() or content not in path.read_bytes():
        assert time.monotonic() < deadline, f"{path} did not come"
        time.sleep(0.005)


@pytest.fixture(scope="module")
def nursery():
    process = Nursery()
    yield process
    process.close()


@pytest.fixture(scope="module")
def whole(nursery, tmp_path_factory) -> Path:
    """The folder of a training that nothing disturbed."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert nursery.run(folder) == 0
    return folder


def log_without_times(folder: Path) -> list[dict]:
    """The log, less what differs from one run to the next for no fault of the code."""
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [{name: value for name, value in record.items() if name != "seconds"} for record in records]


def assert_same(folder: Path, whole: Path) -> None:
    """Same best model, same final weights and moments, same log, to the last bit."""
    assert (folder / "model.safetensors").read_bytes() == (whole / "model.safetensors").read_bytes()
    ours, _ = read_tensor_file(folder / "checkpoint.safetensors", "checkpoint")
    theirs, _ = read_tensor_file(whole / "checkpoint.safetensors", "checkpoint")
    assert ours.keys() == theirs.keys()
    assert all(torch.equal(ours[name], theirs[name]) for name in theirs)
    assert log_without_times(folder) == log_without_times(whole)
    assert {path.name for path in folder.iterdir()} == {path.name for path in whole.iterdir()}


def test_the_comparison_rejects_another_training(nursery, whole, tmp_path):
    assert nursery.run(tmp_path / "run", seed=1) == 0
    with pytest.raises(AssertionError):
        assert_same(tmp_path / "run", whole)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_killed_at_random_moments(nursery, whole, tmp_path, seed):
    """The kill comes from outside, at any time; each life of the training gets a little further."""
    generator = random.Random(seed)
    folder = tmp_path / "run"
    kills = 0
    for life in range(60):
        number = nursery.start(folder, pause=0.006)
        time.sleep(generator.uniform(0.0, 0.1) + 0.008 * life)
        os.kill(number, signal.SIGKILL)
        code = nursery.wait()
        assert code in (0, -signal.SIGKILL)
        if code == 0:
            break
        kills += 1
    assert nursery.run(folder) == 0
    assert kills >= 2
    assert_same(folder, whole)


@pytest.mark.parametrize("seed", range(5))
def test_killed_at_any_call_to_the_disk(nursery, whole, tmp_path, seed):
    """The kill hits a chosen call: between writing, syncing, renaming, of the log, the model, the checkpoint."""
    generator = random.Random(seed)
    folder = tmp_path / "run"
    codes = []
    while not codes or codes[-1] != 0:
        codes.append(nursery.run(folder, fatal_call=generator.randint(1, 45)))
        assert codes[-1] in (0, -signal.SIGKILL)
        assert len(codes) < 200
    assert len(codes) > 2
    assert_same(folder, whole)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_stops_after_the_step_and_resume_goes_on(nursery, whole, tmp_path, number):
    folder = tmp_path / "run"
    process = nursery.start(folder, pause=0.03)
    wait_for(folder / "log.jsonl", b'"step": 7')
    os.kill(process, number)
    assert nursery.wait() == 3
    assert json.loads((folder / "log.jsonl").read_text().splitlines()[-1])["stopped"] == "interrupted"
    tensors, metadata = load_model(folder / "model.safetensors")
    assert metadata["formula"] == "h[t] = x[t]"
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert nursery.run(folder) == 0
    assert_same(folder, whole)


def test_a_second_ctrl_c_stops_at_once(nursery, whole, tmp_path):
    folder = tmp_path / "run"
    process = nursery.start(folder, pause=3.0)
    # The first checkpoint is written inside the block that handles signals.
    wait_for(folder / "checkpoint.safetensors")
    time.sleep(0.1)
    os.kill(process, signal.SIGINT)
    time.sleep(0.2)
    began = time.monotonic()
    os.kill(process, signal.SIGINT)
    assert nursery.wait() == 5
    assert time.monotonic() - began < 1.5
    assert nursery.run(folder) == 0
    assert_same(folder, whole)


def test_two_trainings_in_one_folder_are_refused(nursery, whole, tmp_path):
    folder = tmp_path / "run"
    process = nursery.start(folder, pause=0.2)
    wait_for(folder / "checkpoint.safetensors")
    with pytest.raises(RunError, match=f"is in use by another training \\(process {process}\\)"):
        RunDirectory.create(folder, resume=True)
    with pytest.raises(RunError, match="is in use"):
        RunDirectory.create(folder, overwrite=True)
    # A lock does not outlive the process that held it, however it ended.
    os.kill(process, signal.SIGKILL)
    assert nursery.wait() == -signal.SIGKILL
    assert nursery.run(folder) == 0
    assert_same(folder, whole)


def test_resuming_a_finished_run_changes_nothing(whole):
    before = {path.name: path.read_bytes() for path in whole.iterdir() if path.name != ".lock"}
    history = run_training(whole)
    assert history.stopped == "finished"
    assert len(history.epochs) == 3
    assert before == {path.name: path.read_bytes() for path in whole.iterdir() if path.name != ".lock"}


def test_a_resumed_model_holds_the_best_weights(whole):
    model = network()
    options = TrainingOptions(**OPTIONS)
    with RunDirectory.create(whole, resume=True) as run:
        run.describe({"task": "waves"}, {"formula": "h[t] = x[t]"})
        train(model, squared, Waves(72, 1), Waves(40, 2), options, run)
    best, _ = load_model(whole / "model.safetensors")
    state = model.state_dict()
    assert all(torch.equal(state[name], best[name]) for name in best)


CHANGES = [
    ({"learning_rate": 0.5}, r"options.learning_rate: the run has 0.002, now 0.5"),
    ({"epochs": 9, "seed": 4}, r"(?s)options.epochs: the run has 3, now 9.*options.seed: the run has 0, now 4"),
    ({"plain": True}, r"weights.1.weight: the run has \[8\], now null"),
]


@pytest.mark.parametrize(("changes", "message"), CHANGES)
def test_resuming_with_other_settings_is_refused(whole, changes, message):
    with pytest.raises(RunError, match=message):
        run_training(whole, **changes)


def test_a_setting_that_changes_no_weight_may_change(whole):
    assert run_training(whole, checkpoint_every=7, log_every=3).stopped == "finished"


def test_resuming_with_other_data_or_config_is_refused(whole):
    options = TrainingOptions(**OPTIONS)
    with RunDirectory.create(whole, resume=True) as run:
        with pytest.raises(RunError, match=r'task: the run has "waves", now "tides"'):
            run.describe({"task": "tides"})
        run.describe({"task": "waves"})
        with pytest.raises(RunError, match="training_examples: the run has 72, now 71"):
            train(network(), squared, Waves(71, 1), Waves(40, 2), options, run)


def copy_of(whole: Path, folder: Path) -> Path:
    folder.mkdir()
    for path in whole.iterdir():
        (folder / path.name).write_bytes(path.read_bytes())
    return folder


def test_a_damaged_checkpoint_is_named(whole, tmp_path):
    folder = copy_of(whole, tmp_path / "run")
    data = (folder / "checkpoint.safetensors").read_bytes()
    (folder / "checkpoint.safetensors").write_bytes(data[:-40])
    with pytest.raises(RunError, match=r"checkpoint.safetensors is damaged: it is cut off"):
        run_training(folder)


def test_a_model_without_its_checkpoint_is_not_overwritten(whole, tmp_path):
    folder = copy_of(whole, tmp_path / "run")
    (folder / "checkpoint.safetensors").unlink()
    before = (folder / "model.safetensors").read_bytes()
    with pytest.raises(RunError, match="holds a model and no checkpoint"):
        run_training(folder)
    assert (folder / "model.safetensors").read_bytes() == before


def test_a_log_that_was_deleted_is_rebuilt_from_its_epochs(nursery, whole, tmp_path):
    folder = tmp_path / "run"
    process = nursery.start(folder, pause=0.01)
    wait_for(folder / "log.jsonl", b'"epoch": 2')
    os.kill(process, signal.SIGKILL)
    nursery.wait()
    (folder / "log.jsonl").unlink()
    assert nursery.run(folder) == 0
    epochs = [record for record in log_without_times(folder) if record["event"] == "epoch"]
    assert epochs == [record for record in log_without_times(whole) if record["event"] == "epoch"]


def test_signal_handlers_come_back_and_other_threads_are_left_alone():
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopRequest() as stop:
        assert signal.getsignal(signal.SIGINT) == stop.handle
    assert before == (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM))
    seen = []

    def elsewhere() -> None:
        with StopRequest():
            seen.append(signal.getsignal(signal.SIGINT))

    thread = threading.Thread(target=elsewhere)
    thread.start()
    thread.join()
    assert seen == [before[0]]
