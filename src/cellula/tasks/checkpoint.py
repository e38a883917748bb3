"""Everything that a training needs to go on as if it had never stopped, in one safetensors file.

Random numbers need no place here: every step is seeded by its number (see `order.py`), and the learning rate
is a function of the step.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch

from cellula.errors import RunError
from cellula.tasks.tensor_file import read_tensor_file, write_tensor_file

__all__ = ["Checkpoint", "Position", "load_optimizer", "read_checkpoint", "write_checkpoint"]


@dataclass
class Position:
    """Where a training is, and what it has found so far.

    Args:
        epoch: the epoch that is running, from 1.
        batch: batches of that epoch that are done.
        step: batches of all epochs that are done.
        loss_sum: the sum of the losses of the epoch's examples so far.
        examples: how many those are.
        seconds: time spent on the epoch so far.
        best_epoch: the epoch with the lowest validation loss, 0 before the first.
        best_loss: that loss.
        stopped: why the training ended ("finished" or "early"), or "" where it has not.
        epochs: one record for each epoch that is done.
    """

    epoch: int = 1
    batch: int = 0
    step: int = 0
    loss_sum: float = 0.0
    examples: int = 0
    seconds: float = 0.0
    best_epoch: int = 0
    best_loss: float | None = None
    stopped: str = ""
    epochs: list[dict[str, object]] = field(default_factory=list)

    def next_epoch(self) -> None:
        """Moves to the start of the next epoch."""
        self.epoch += 1
        self.batch = self.examples = 0
        self.loss_sum = self.seconds = 0.0


@dataclass(frozen=True)
class Checkpoint:
    """What the file holds.

    Args:
        weights: the network's state by name.
        moments: the optimizer's state, `{number of the parameter: {name: tensor}}`.
        position: where the training was.
        identity: what must be equal for a resumed training to end in the same weights.
        log_size: the size of the log in bytes at that moment.
        scaler: the state of the loss scaling of fp16, empty without it.
    """

    weights: Mapping[str, torch.Tensor]
    moments: Mapping[int, Mapping[str, torch.Tensor]]
    position: Position
    identity: Mapping[str, object]
    log_size: int
    scaler: Mapping[str, float] = field(default_factory=dict)


def write_checkpoint(path: Path, checkpoint: Checkpoint) -> None:
    """Writes a checkpoint, whole or not at all."""
    tensors = {f"model.{name}": tensor for name, tensor in checkpoint.weights.items()}
    for number, state in checkpoint.moments.items():
        tensors |= {f"optimizer.{number}.{name}": tensor for name, tensor in state.items()}
    metadata = {
        "position": asdict(checkpoint.position),
        "identity": checkpoint.identity,
        "log_size": checkpoint.log_size,
        "scaler": checkpoint.scaler,
    }
    write_tensor_file(path, "checkpoint", tensors, metadata)


def read_checkpoint(path: Path) -> Checkpoint:
    """Reads a checkpoint; RunError where the file is damaged or not a checkpoint."""
    tensors, metadata = read_tensor_file(path, "checkpoint")
    weights: dict[str, torch.Tensor] = {}
    moments: dict[int, dict[str, torch.Tensor]] = {}
    try:
        for name, tensor in tensors.items():
            part, _, rest = name.partition(".")
            if part == "model":
                weights[rest] = tensor
            else:
                number, _, key = rest.partition(".")
                moments.setdefault(int(number), {})[key] = tensor
        stored = metadata["position"]
        position = Position(**{entry.name: stored[entry.name] for entry in fields(Position)})
        return Checkpoint(weights, moments, position, metadata["identity"], metadata["log_size"], metadata["scaler"])
    except (KeyError, TypeError, ValueError) as error:
        raise RunError(f"{path} is not a checkpoint that this Cellula can read ({error!r}): start anew") from error


def load_optimizer(optimizer: torch.optim.Optimizer, moments: Mapping[int, Mapping[str, torch.Tensor]]) -> None:
    """Puts the moments back; the groups and their settings stay those of the optimizer."""
    groups = optimizer.state_dict()["param_groups"]
    state = {number: dict(values) for number, values in moments.items()}
    optimizer.load_state_dict({"state": state, "param_groups": groups})
