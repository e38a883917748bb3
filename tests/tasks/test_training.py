"""The training loop: it learns, keeps the best, stops in time, and says where numbers went wrong."""

from __future__ import annotations

import copy
import gc
import json
import os
import subprocess
import sys
import threading
import time
from dataclasses import asdict
from itertools import chain, pairwise
from pathlib import Path

import numpy as np
import pytest
import torch

from cellula.errors import RunError, UsageError
from cellula.tasks.checkpoint import read_checkpoint
from cellula.tasks.log import RunLog
from cellula.tasks.options import learning_rate
from cellula.tasks.order import epoch_order, shard, validation_order
from cellula.tasks.run import RunDirectory, load_model
from cellula.tasks.training import TrainingOptions, train
from tasks.small_training import OPTIONS, Waves, network, noiseless, squared

SOURCE = Path(__file__).parents[2] / "src"


def options(**changes: object) -> TrainingOptions:
    return TrainingOptions(**{**OPTIONS, **changes})  # pyright: ignore[reportArgumentType]


def fit(folder: Path, loss=squared, model=None, training=None, validation=None, progress=None, **changes):
    """Trains the small network; gives it and the history."""
    model = network() if model is None else model
    with RunDirectory.create(folder) as run:
        history = train(
            model,
            loss,
            Waves(72, 1) if training is None else training,
            Waves(40, 2) if validation is None else validation,
            options(**changes),
            run,
            progress=progress,
        )
    return model, history


def log_of(folder: Path, event: str) -> list[dict]:
    records = [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]
    return [record for record in records if record["event"] == event]


def joined(batches: list[list[int]]) -> list[int]:
    return list(chain.from_iterable(batches))


def validation_loss(model: torch.nn.Module) -> float:
    with torch.no_grad():
        source = Waves(40, 2)
        return squared(model, (source.x, source.y)).item()


def test_it_learns_and_the_model_holds_the_best_weights(tmp_path):
    model, history = fit(tmp_path / "run", epochs=30, learning_rate=0.02, patience=None)
    losses = [record["validation_loss"] for record in history.epochs]
    assert history.stopped == "finished"
    assert len(losses) == 30
    assert min(losses) < 0.3 * losses[0]
    assert history.best_epoch == 1 + losses.index(min(losses))
    assert history.best_loss == min(losses)
    assert not model.training
    assert validation_loss(model) == pytest.approx(min(losses), rel=1e-5)
    tensors, metadata = load_model(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert metadata["training"]["epoch"] == history.best_epoch
    assert log_of(tmp_path / "run", "epoch") == [{"event": "epoch", **record} for record in history.epochs]
    assert len(log_of(tmp_path / "run", "step")) == 30 * 5


def test_it_stops_early_and_goes_back_to_the_best(tmp_path):
    """A rate that is far too high makes the later epochs worse."""
    model, history = fit(tmp_path / "run", epochs=50, learning_rate=5.0, schedule="constant", patience=2)
    assert history.stopped == "early"
    assert len(history.epochs) == history.best_epoch + 2 < 50
    assert validation_loss(model) == pytest.approx(history.best_loss, rel=1e-5)


def test_the_same_seed_gives_the_same_bits_and_another_one_does_not(tmp_path):
    states = [fit(tmp_path / str(run), seed=seed)[0].state_dict() for run, seed in enumerate((0, 0, 1))]
    assert all(torch.equal(states[0][name], states[1][name]) for name in states[0])
    assert not torch.equal(states[0]["0.weight"], states[2]["0.weight"])


def test_every_example_is_seen_once_an_epoch_in_another_order(tmp_path):
    source = Waves(72, 1)
    fit(tmp_path / "run", training=source, epochs=2)
    first, second = joined(source.seen[:5]), joined(source.seen[5:])
    assert sorted(first) == sorted(second) == list(range(72))
    assert first != second
    assert first == epoch_order(0, 1, 72).tolist()


def test_steps_an_epoch_and_validation_steps_are_capped(tmp_path):
    training, validation = Waves(720, 1), Waves(400, 2)
    fit(tmp_path / "run", training=training, validation=validation, steps_per_epoch=3, validation_steps=2)
    assert [len(batch) for batch in training.seen] == [16] * 9
    assert len(set(joined(training.seen[:3])) & set(joined(training.seen[3:6]))) < 10
    assert [len(batch) for batch in validation.seen] == [16] * 6
    assert validation.seen[0] == validation.seen[2]


def test_the_order_is_a_pure_function():
    assert np.array_equal(epoch_order(3, 5, 100), epoch_order(3, 5, 100))
    orders = [epoch_order(seed, epoch, 100).tolist() for seed in (0, 1) for epoch in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4
    assert validation_order(10, 4).tolist() == [0, 3, 6, 9]
    assert validation_order(3, 4).tolist() == [0, 1, 2]


@pytest.mark.parametrize("size", [1, 2, 5, 8])
@pytest.mark.parametrize("processes", [1, 2, 3])
def test_shards_average_to_the_gradient_of_the_whole_batch(size, processes):
    model, source = network(plain=True), Waves(8, 1)
    model.eval()

    def gradient(indices: np.ndarray, weight: float) -> torch.Tensor:
        model.zero_grad()
        (squared(model, source.batch(indices)) * weight).backward()
        return torch.cat([parameter.grad.flatten() for parameter in model.parameters() if parameter.grad is not None])

    batch = np.arange(size)
    parts = [gradient(*shard(batch, process, processes)) for process in range(processes)]
    torch.testing.assert_close(sum(parts) / processes, gradient(batch, 1.0))


def test_two_processes_train_as_one(tmp_path):
    """By Accelerate's own launcher; without GPUs gloo carries the gradients. 72 examples leave a batch of 8."""
    program = (
        "import sys, torch; torch.set_num_threads(1)\n"
        "from tasks.small_training import run_training\n"
        "history = run_training(sys.argv[1], plain=True)\n"
        "print(history.best_epoch)"
    )
    (tmp_path / "program.py").write_text(program)
    paths = os.pathsep.join([str(SOURCE), str(SOURCE.parent / "tests")])
    launcher = [sys.executable, "-m", "accelerate.commands.launch", "--multi_gpu", "--num_processes=2"]
    settings = ["--num_machines=1", "--mixed_precision=no", "--dynamo_backend=no", "--main_process_port=0"]
    answer = subprocess.run(
        [*launcher, *settings, str(tmp_path / "program.py"), str(tmp_path / "two")],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": paths, "OMP_NUM_THREADS": "1"},
        timeout=120,
    )
    assert answer.returncode == 0, answer.stderr
    with RunDirectory.create(tmp_path / "one") as run:
        run.describe({"task": "waves"}, {"formula": "h[t] = x[t]"})
        model = network(plain=True)
        train(model, noiseless, Waves(72, 1), Waves(40, 2), options(), run)
    two, metadata = load_model(tmp_path / "two" / "model.safetensors")
    assert metadata["training"]["step"] == 15
    assert read_checkpoint(tmp_path / "two" / "checkpoint.safetensors").identity["processes"] == 2
    assert len(log_of(tmp_path / "two", "epoch")) == 3
    for name, tensor in model.state_dict().items():
        torch.testing.assert_close(two[name], tensor, rtol=1e-4, atol=1e-5)


def faulty(at: int, value: float):
    """A loss that is `value` times the right one from its `at`-th call in training on."""
    calls = [0]

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        calls[0] += model.training
        return squared(model, batch) * (value if model.training and calls[0] >= at else 1.0)

    return loss


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_a_loss_that_is_not_finite_stops_with_the_step_named(tmp_path, value):
    model = network()
    message = rf"(?s)epoch 2, step 8: the loss is {value}; the best model so far \(epoch 1, .*lower learning_rate \(now"
    with pytest.raises(RunError, match=message):
        fit(tmp_path / "run", loss=faulty(8, value), model=model)
    tensors, metadata = load_model(tmp_path / "run" / "model.safetensors")
    assert metadata["training"]["epoch"] == 1
    assert all(bool(tensor.isfinite().all()) for tensor in tensors.values())
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert log_of(tmp_path / "run", "error")[0]["step"] == 8


class SteepRoot(torch.nn.Module):
    """Finite forward, infinite gradient: the root of zero."""

    def __init__(self) -> None:
        super().__init__()
        self.scale = torch.nn.Parameter(torch.zeros(1))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return (x[:, :1].abs() * self.scale).sqrt()


def test_a_gradient_that_is_not_finite_stops_and_names_the_weight(tmp_path):
    message = r"epoch 1, step 1: the norm of the gradient is (nan|inf) \(first in scale\); no model has been saved"
    with pytest.raises(RunError, match=message):
        fit(tmp_path / "run", model=SteepRoot())


def test_a_validation_loss_that_is_not_finite_stops(tmp_path):
    validation = Waves(40, 2)
    validation.y[17] = float("nan")
    with pytest.raises(RunError, match=r"epoch 1, step 5: the validation loss is nan"):
        fit(tmp_path / "run", validation=validation)


def test_gradients_are_clipped_before_the_step(tmp_path):
    fit(tmp_path / "run", clip_norm=1e-3)
    assert min(record["gradient_norm"] for record in log_of(tmp_path / "run", "step")) > 1e-3
    seen = []

    class Watched(torch.optim.AdamW):
        def step(self, closure=None):
            gradients = [entry.grad for group in self.param_groups for entry in group["params"]]
            seen.append(torch.nn.utils.get_total_norm(gradients).item())
            return super().step(closure)

    original = torch.optim.AdamW
    torch.optim.AdamW = Watched
    try:
        fit(tmp_path / "watched", clip_norm=1e-3)
    finally:
        torch.optim.AdamW = original
    assert len(seen) == 15
    assert max(seen) <= 1e-3 * 1.0001


def test_bf16_trains_and_leaves_the_model_as_it_was(tmp_path):
    seen = []

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        hook = model[0].register_forward_hook(lambda *call: seen.append(call[2].dtype))
        value = squared(model, batch)
        hook.remove()
        return value

    model, history = fit(tmp_path / "run", loss=loss, precision="bf16", epochs=10, learning_rate=0.02)
    assert set(seen) == {torch.bfloat16}
    assert history.epochs[-1]["validation_loss"] < 0.6 * history.epochs[0]["validation_loss"]
    assert model(torch.zeros(2, 4)).dtype == torch.float32
    # A copy of the model must call its own weights, not those of the first.
    twin = copy.deepcopy(model)
    with torch.no_grad():
        twin[2 + 2].bias.add_(100.0)
    assert float(twin(torch.zeros(1, 4)).detach() - model(torch.zeros(1, 4)).detach()) == pytest.approx(100.0, abs=0.1)
    # And another precision in the same process works.
    assert fit(tmp_path / "again", precision="no")[1].stopped == "finished"


def test_memory_is_flat_over_steps(tmp_path):
    counts = []

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if model.training:
            counts.append(sum(type(entry) in (torch.Tensor, torch.nn.Parameter) for entry in gc.get_objects()))
        return squared(model, batch)

    fit(tmp_path / "run", loss=loss, epochs=4, patience=None)
    # From the second epoch on (optimizer state and best weights are there) the number of tensors alive is one.
    assert len(set(counts[10:])) == 1


def test_ctrl_c_before_the_first_validation_leaves_a_model_and_a_checkpoint(tmp_path):
    training = Waves(72, 1, pause=0.02)

    def loss(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        if len(training.seen) == 2:
            os.kill(os.getpid(), 2)
        return squared(model, batch)

    model, history = fit(tmp_path / "run", loss=loss, training=training)
    assert (history.stopped, history.best_epoch, history.best_loss, history.epochs) == ("interrupted", 0, None, ())
    assert len(training.seen) == 2
    tensors, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert (tmp_path / "run" / "checkpoint.safetensors").exists()


def test_it_trains_in_another_thread(tmp_path):
    stopped = []
    thread = threading.Thread(target=lambda: stopped.append(fit(tmp_path / "run")[1].stopped))
    thread.start()
    thread.join()
    assert stopped == ["finished"]


def test_the_bar_shows_loss_speed_and_time_left_where_asked(tmp_path, capfd):
    fit(tmp_path / "quiet")
    assert capfd.readouterr().err == ""
    fit(tmp_path / "shown", progress=True, training=Waves(72, 1, pause=0.03))
    line = capfd.readouterr().err
    for part in ("epoch 3/3", "15/15", "batch/s", "loss=", "validation=", "<00:0"):
        assert part in line


def test_a_full_disk_stops_with_the_path_and_keeps_the_model(tmp_path, monkeypatch):
    replace = os.replace

    def fills(source: str, target: str) -> None:
        if str(target).endswith("checkpoint.safetensors") and (tmp_path / "run" / "model.safetensors").exists():
            raise OSError(28, "No space left on device")
        replace(source, target)

    monkeypatch.setattr(os, "replace", fills)
    model = network()
    with pytest.raises(RunError, match=r"cannot write .*checkpoint.safetensors: No space left on device; free some"):
        fit(tmp_path / "run", model=model)
    monkeypatch.undo()
    tensors, _ = load_model(tmp_path / "run" / "model.safetensors")
    assert all(torch.equal(tensor, tensors[name]) for name, tensor in model.state_dict().items())
    assert not list((tmp_path / "run").glob(".*.cellula-tmp"))


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full on this system")
def test_a_full_disk_under_the_log_is_a_clear_error(tmp_path):
    (tmp_path / "log.jsonl").symlink_to("/dev/full")
    log = RunLog(tmp_path / "log.jsonl")
    with pytest.raises(RunError, match=r"cannot write .*log.jsonl: No space left on device; free some space"):
        log.write("step", {"loss": 1.0})


def test_frozen_weights_stay_and_vectors_do_not_decay(tmp_path):
    model = network(plain=True)
    model[0].weight.requires_grad_(False)
    before = model[0].weight.clone()
    fit(tmp_path / "run", model=model)
    assert torch.equal(model[0].weight, before)

    def nothing(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
        return model(batch[0]).mean() * 0.0

    model = network(plain=True)
    before = copy.deepcopy(model.state_dict())
    # The first epoch is the best one, as all are equal.
    fit(tmp_path / "decay", model=model, loss=nothing, weight_decay=10.0, epochs=1)
    assert torch.equal(model[0].bias, before["0.bias"])
    assert float(model[0].weight.detach().norm()) < 0.97 * float(before["0.weight"].norm())


def test_what_cannot_be_trained_is_said(tmp_path):
    with pytest.raises(UsageError, match="there are no validation examples"):
        fit(tmp_path / "empty", validation=Waves(0, 1))
    with pytest.raises(UsageError, match=r"the loss gave shape \[16, 1\]; expected a scalar"):
        fit(tmp_path / "shape", loss=lambda model, batch: model(batch[0]))
    with pytest.raises(UsageError, match="the loss gave float"):
        fit(tmp_path / "float", loss=lambda model, batch: 1.0)
    if not torch.accelerator.is_available():
        with pytest.raises(UsageError, match='precision="fp16" needs a GPU'):
            fit(tmp_path / "half", precision="fp16")


BAD_OPTIONS = [
    ("epochs", 0, "a whole number of 1 or more"),
    ("epochs", 2.5, "a whole number of 1 or more"),
    ("batch_size", True, "a whole number of 1 or more"),
    ("learning_rate", 0.0, "a number above 0"),
    ("learning_rate", float("nan"), "a number above 0"),
    ("learning_rate", "fast", "a number above 0"),
    ("clip_norm", -1, "a number above 0 or None"),
    ("weight_decay", None, "a number of 0 or more"),
    ("patience", 0, "a whole number of 1 or more or None"),
    ("schedule", "cosinus", "one of 'cosine', 'linear', 'constant'"),
    ("precision", ["no"], "one of 'no', 'bf16', 'fp16'"),
]


@pytest.mark.parametrize(("name", "value", "expected"), BAD_OPTIONS)
def test_an_option_out_of_range_is_named(name, value, expected):
    with pytest.raises(UsageError) as caught:
        TrainingOptions(**{name: value})
    assert str(caught.value) == f"{name}={value!r}: expected {expected}"


def test_every_option_has_its_rule():
    changed = {"clip_norm": None, "patience": None, "schedule": "linear", "precision": "bf16", "device": "cpu"}
    assert asdict(TrainingOptions(**changed)).items() >= changed.items()


def test_the_learning_rate_rises_then_falls():
    for schedule, end in (("cosine", 0.0), ("linear", 0.0), ("constant", 1.0)):
        chosen = TrainingOptions(learning_rate=1.0, warmup_steps=10, schedule=schedule)
        rates = [learning_rate(chosen, step, 1000) for step in range(1000)]
        assert rates[:10] == pytest.approx([0.1 * step for step in range(1, 11)])
        assert rates[10] == 1.0
        assert all(before >= after for before, after in pairwise(rates[10:]))
        assert rates[-1] == pytest.approx(end, abs=2e-3)
    # A short training is not all warm-up.
    assert max(learning_rate(TrainingOptions(learning_rate=1.0), step, 10) for step in range(10)) == 1.0


def test_the_loop_itself_costs_little(tmp_path):
    """A step of a network that does nothing: the loop's own cost must vanish beside a real step (0.1 s)."""
    began = time.perf_counter()
    fit(tmp_path / "run", epochs=4, training=Waves(1600, 1), checkpoint_every=1000, log_every=10, patience=None)
    assert (time.perf_counter() - began) / 400 < 0.03


def test_a_bar_needs_no_lock_of_other_processes(tmp_path):
    """Somebody was killed while drawing: tqdm's lock, which all forked processes share, is never let go."""
    program = (
        "import multiprocessing, tqdm\n"
        "tqdm.tqdm.set_lock(multiprocessing.Lock())\n"
        "tqdm.tqdm.get_lock().acquire()\n"
        "from cellula.tasks.progress import ProgressBar\n"
        "bar = ProgressBar(3, 0, True)\n"
        "bar.advance()\n"
        "bar.close()\n"
        "print('drawn')\n"
    )
    environment = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "src")}
    run = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, env=environment)
    assert run.stdout == "drawn\n", run.stderr
