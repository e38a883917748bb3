"""A training that takes a moment, and a program that runs it in forked children, so that tests can kill them.

As a program it reads one JSON request a line from stdin and answers with the process number of the child; an empty
line then asks how the child ended. Until that is asked, the number stays the child's own, even after its end, so a
test can never kill a stranger. The imports are paid once for many children.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import torch

from cellula.errors import CellulaError
from cellula.tasks.run import RunDirectory
from cellula.tasks.training import History, TrainingOptions, train

OPTIONS = {"epochs": 3, "batch_size": 16, "checkpoint_every": 2, "log_every": 1, "device": "cpu", "warmup_steps": 3}


class Waves:
    """Noisy sums of sines: `count` examples of four numbers and one answer."""

    def __init__(self, count: int, seed: int, pause: float = 0.0) -> None:
        generator = np.random.default_rng(seed)
        self.x = torch.from_numpy(generator.normal(size=(count, 4)).astype(np.float32))
        self.y = self.x.sin().sum(1, keepdim=True) + 0.1 * torch.from_numpy(
            generator.normal(size=(count, 1)).astype(np.float32)
        )
        self.pause = pause
        self.seen: list[list[int]] = []

    def __len__(self) -> int:
        return len(self.x)

    def batch(self, indices: np.ndarray) -> tuple[torch.Tensor, ...]:
        time.sleep(self.pause)
        self.seen.append(indices.tolist())
        return self.x[indices], self.y[indices]


def network(*, plain: bool = False) -> torch.nn.Module:
    """A network with random numbers in its steps (dropout) and a state beside its weights (batch norm)."""
    torch.manual_seed(7)
    middle = [torch.nn.Tanh()] if plain else [torch.nn.BatchNorm1d(8), torch.nn.Tanh(), torch.nn.Dropout(0.3)]
    return torch.nn.Sequential(torch.nn.Linear(4, 8), *middle, torch.nn.Linear(8, 1))


def squared(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean squared error, and a draw from the global generator of numpy, as a task's own noise would be."""
    x, y = batch
    noise = float(np.random.normal()) if model.training else 0.0  # noqa: NPY002
    return (model(x) - y - 0.01 * noise).square().mean()


def noiseless(model: torch.nn.Module, batch: tuple[torch.Tensor, ...]) -> torch.Tensor:
    """Mean squared error."""
    x, y = batch
    return (model(x) - y).square().mean()


def run_training(folder: str | Path, *, pause: float = 0.0, plain: bool = False, **changes: object) -> History:
    """Trains in a folder; goes on where it already exists."""
    options = TrainingOptions(**{**OPTIONS, **changes})  # pyright: ignore[reportArgumentType]
    with RunDirectory.create(folder, resume=Path(folder).is_dir()) as run:
        run.describe({"task": "waves"}, {"formula": "h[t] = x[t]"})
        model = network(plain=plain)
        return train(model, noiseless if plain else squared, Waves(72, 1, pause), Waves(40, 2, pause), options, run)


def kill_at_call(number: int) -> None:
    """Makes the process kill itself at the `number`-th time that it asks the disk for something."""
    left = [number]

    def deadly(function):
        def call(*arguments, **names):
            left[0] -= 1
            if left[0] == 0:
                os.kill(os.getpid(), signal.SIGKILL)
            return function(*arguments, **names)

        return call

    for name in ("open", "fsync", "replace", "unlink", "mkdir"):
        setattr(os, name, deadly(getattr(os, name)))


def child(request: dict) -> None:
    """One training, in a process of its own."""
    fatal_call = request.pop("fatal_call", None)
    try:
        if fatal_call is not None:
            kill_at_call(fatal_call)
        history = run_training(**request)
        os._exit({"finished": 0, "early": 0, "interrupted": 3}[history.stopped])
    except CellulaError as error:
        sys.stderr.write(f"{error}\n")
        os._exit(4)
    except KeyboardInterrupt:
        os._exit(5)
    finally:
        # Whatever else happens, the child must not go on reading the parent's requests.
        os._exit(1)


def serve() -> None:
    """Answers requests until stdin ends."""
    torch.set_num_threads(1)
    # torch imports some parts at the first step only; a child has them ready after this.
    with tempfile.TemporaryDirectory() as folder:
        run_training(Path(folder) / "run")
    print("ready", flush=True)
    while line := sys.stdin.readline():
        number = os.fork()
        if number == 0:
            child(json.loads(line))
        print(number, flush=True)
        sys.stdin.readline()
        print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]), flush=True)


if __name__ == "__main__":
    serve()
