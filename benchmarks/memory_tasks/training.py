"""One training: a cell, a task, a seed, a learning rate."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

from cellula import Recurrent
from memory_tasks.task import Batch, Task

__all__ = ["Network", "Trained", "train"]

# Between two looks at the validation sequences.
INTERVAL = 50
LARGEST_NORM = 1.0
EVALUATION_BATCH = 128


class Network(nn.Module):
    """A recurrent layer and a linear one on its output at every step.

    Args:
        cell: a name of the zoo, a file or the text of a formula.
        task: gives the sizes of input and output.
        hidden: units.
        backend: of the layer.
    """

    def __init__(self, cell: str, task: Task, hidden: int, backend: str = "auto") -> None:
        super().__init__()
        self.recurrent = Recurrent(cell, task.input_size, hidden, backend=backend)
        self.readout = nn.Linear(hidden, task.output_size)

    def forward(self, x: Tensor) -> Tensor:
        """Outputs `[T, B, O]` for inputs `[T, B, I]`."""
        output, _ = self.recurrent(x)
        return self.readout(output)


@dataclass
class Trained:
    """What a training came to.

    Args:
        score: on the test sequences, of the weights with the least validation loss.
        validation_loss: the least.
        steps: that were trained.
        solved_at: the step at which the score of the validation sequences was first good enough; None if never.
        seconds: of processor time.
        wall: seconds by the clock.
        diverged: whether a loss was not a number.
        losses: on the validation sequences, every `INTERVAL` steps.
    """

    score: float = math.nan
    validation_loss: float = math.inf
    steps: int = 0
    solved_at: int | None = None
    seconds: float = 0.0
    wall: float = 0.0
    diverged: bool = False
    losses: list[float] = field(default_factory=list)


@torch.no_grad()
def evaluate(network: Network, task: Task, batch: Batch) -> Tensor:
    """Outputs for many sequences, a few at a time so that they stay in the cache."""
    return torch.cat([network(part.contiguous()) for part in batch.x.split(EVALUATION_BATCH, dim=1)], dim=1)


def train(cell: str, task: Task, hidden: int, seed: int, rate: float, steps: int | None = None) -> Trained:
    """Train a cell on a task.

    Args:
        cell: a name of the zoo, a file or the text of a formula.
        task: what is to be learned.
        hidden: units.
        seed: of the starting weights and of the training sequences.
        rate: the learning rate of Adam.
        steps: at most; by default those of the task.
    """
    began, began_wall = time.process_time(), time.perf_counter()
    torch.manual_seed(seed)
    network = Network(cell, task, hidden)
    generator = torch.Generator().manual_seed(seed)
    parameters = list(network.parameters())
    optimizer = torch.optim.Adam(parameters, lr=rate, fused=True)
    validation, found, best = task.validation(), Trained(), {}
    for step in range(1, (steps or task.steps) + 1):
        batch = task.draw(task.batch, generator)
        loss = task.loss(network(batch.x), batch)
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(parameters, LARGEST_NORM)
        optimizer.step()
        found.steps = step
        if step % INTERVAL == 0:
            best = _look(network, task, validation, found) or best
            if found.diverged or (len(found.losses) > 1 and max(found.losses[-2:]) <= task.stop):
                break
    if best:
        network.load_state_dict(best)
    test = task.test()
    found.score = task.score(evaluate(network, task, test), test)
    found.seconds, found.wall = time.process_time() - began, time.perf_counter() - began_wall
    return found


def _look(network: Network, task: Task, validation: Batch, found: Trained) -> dict[str, Any]:
    """Note how the network does; its weights if they are the best so far."""
    outputs = evaluate(network, task, validation)
    loss = task.loss(outputs, validation).item()
    found.losses.append(loss)
    if not math.isfinite(loss):
        found.diverged = True
        return {}
    if found.solved_at is None and task.is_solved(task.score(outputs, validation)):
        found.solved_at = found.steps
    if loss >= found.validation_loss:
        return {}
    found.validation_loss = loss
    return {name: value.clone() for name, value in network.state_dict().items()}
