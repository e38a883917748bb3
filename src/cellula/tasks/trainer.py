"""The loop itself: epochs, steps, validation, and what is saved when."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
import torch
from accelerate import Accelerator

from cellula.errors import RunError, UsageError
from cellula.tasks.checkpoint import Checkpoint, Position, write_checkpoint
from cellula.tasks.interrupt import StopRequest
from cellula.tasks.log import RunLog
from cellula.tasks.options import TrainingOptions, learning_rate
from cellula.tasks.order import epoch_order, seed_step, shard, validation_order
from cellula.tasks.progress import ProgressBar
from cellula.tasks.run import RunDirectory

__all__ = ["Batch", "BatchSource", "Loss", "Start", "Trainer"]

Batch = tuple[torch.Tensor, ...]
Loss = Callable[[torch.nn.Module, Batch], torch.Tensor]


class BatchSource(Protocol):
    """Examples that can be gathered by number; a task gives one for training and one for validation."""

    def __len__(self) -> int:
        """The number of examples."""
        ...

    def batch(self, indices: np.ndarray, /) -> Batch:
        """Gathers examples.

        Args:
            indices: their numbers, int64, [B], in any order.

        Returns:
            Tensors that hold those examples, in that order.
        """
        ...


@dataclass(frozen=True)
class Start:
    """Where the loop begins: a new position, or that of a checkpoint."""

    position: Position
    identity: Mapping[str, object]
    checkpoint: Checkpoint | None
    best: Mapping[str, torch.Tensor] | None


@dataclass(frozen=True)
class Network:
    """A model and what Accelerate made of it: wrapped for several processes and mixed precision."""

    model: torch.nn.Module
    wrapped: torch.nn.Module
    optimizer: torch.optim.Optimizer
    accelerator: Accelerator


class Trainer:
    """Runs the loop from a start to the end, to an early stop, or to an interruption.

    Args:
        network: the model and its optimizer.
        loss: the mean loss over a batch.
        sources: the training examples and the validation examples.
        options: how to train.
        run: where to save.
        start: where to begin; its position is moved along.
        progress: whether to show the bar; None where stderr is a terminal.
    """

    def __init__(
        self,
        network: Network,
        loss: Loss,
        sources: tuple[BatchSource, BatchSource],
        options: TrainingOptions,
        run: RunDirectory,
        start: Start,
        progress: bool | None,
    ) -> None:
        self.network = network
        self.loss = loss
        self.training, self.validation = sources
        self.options = options
        self.run = run
        self.identity = start.identity
        self.position = start.position
        self.best = start.best
        self.process = network.accelerator.process_index
        self.processes = network.accelerator.num_processes
        limit = options.steps_per_epoch
        self.example_limit = None if limit is None else limit * options.batch_size
        taken = min(len(self.training), self.example_limit or len(self.training))
        self.batches = math.ceil(taken / options.batch_size)
        self.log = RunLog(run.log_path if run.writes else None)
        if not self.position.stopped:
            self.log.cut(start.checkpoint.log_size if start.checkpoint else 0, self.position.epochs)
        total = options.epochs * self.batches
        self.bar = ProgressBar(total, self.position.step, progress if run.writes else False)

    def train(self, stop: StopRequest) -> str:
        """Trains until something ends it; the model then holds the best weights.

        Returns:
            "finished", "early" or "interrupted".
        """
        try:
            if self.position.stopped:
                return self.position.stopped
            if self.position.step == 0:
                self.save_checkpoint()
            while not self.position.stopped:
                self.bar.epoch(self.position.epoch, self.options.epochs)
                validation_loss = self.validate(stop) if self.train_epoch(stop) else None
                if validation_loss is None:
                    return self.interrupt()
                self.end_epoch(validation_loss)
            return self.position.stopped
        finally:
            if self.best is not None:
                self.network.model.load_state_dict(dict(self.best))
            self.bar.close()
            self.log.close()

    def train_epoch(self, stop: StopRequest) -> bool:
        """Trains on the batches of the epoch that are left; False where a stop was asked for."""
        position, options = self.position, self.options
        order = epoch_order(options.seed, position.epoch, len(self.training), self.example_limit)
        self.network.wrapped.train()
        while position.batch < self.batches:
            first = position.batch * options.batch_size
            stopping = self.train_step(order[first : first + options.batch_size], stop)
            if stopping:
                return False
            if position.step % options.checkpoint_every == 0:
                self.save_checkpoint()
        return True

    def train_step(self, indices: np.ndarray, stop: StopRequest) -> bool:
        """One step of the optimizer; True where any process was asked to stop."""
        began = time.perf_counter()
        position, options, optimizer = self.position, self.options, self.network.optimizer
        rate = self.learning_rate(position.step)
        for group in optimizer.param_groups:
            group["lr"] = rate
        seed_step(options.seed, position.step, self.process, self.network.accelerator.device)
        value, weight = self.batch_loss(self.training, indices)
        self.network.accelerator.backward(value if weight == 1.0 else value * weight)
        batch_loss, stopping = self.agree(value.item() * weight, stop.requested)
        norm = self.clip_gradients(batch_loss)
        optimizer.step()
        optimizer.zero_grad(set_to_none=True)
        position.batch += 1
        position.step += 1
        position.examples += len(indices)
        position.loss_sum += batch_loss * len(indices)
        position.seconds += time.perf_counter() - began
        self.bar.show({"loss": batch_loss})
        self.bar.advance()
        if position.step % options.log_every == 0:
            figures = {"loss": batch_loss, "gradient_norm": norm, "learning_rate": rate}
            self.log.write("step", {"epoch": position.epoch, "step": position.step, **figures})
        return stopping

    def learning_rate(self, step: int) -> float:
        """The learning rate of a step."""
        return learning_rate(self.options, step, self.options.epochs * self.batches)

    def batch_loss(self, source: BatchSource, indices: np.ndarray) -> tuple[torch.Tensor, float]:
        """The loss of this process's part of a batch, and the weight of that part."""
        mine, weight = shard(indices, self.process, self.processes)
        device = self.network.accelerator.device
        batch = tuple(tensor.to(device, non_blocking=True) for tensor in source.batch(mine))
        value = self.loss(self.network.wrapped, batch)
        if not isinstance(value, torch.Tensor) or value.ndim:
            got = f"shape {list(value.shape)}" if isinstance(value, torch.Tensor) else type(value).__name__
            raise UsageError(f"the loss gave {got}; expected a scalar tensor, the mean over the batch")
        return value, weight

    def agree(self, part: float, stop: bool) -> tuple[float, bool]:
        """The mean loss over all processes, and whether any of them was asked to stop."""
        if self.processes == 1:
            return part, stop
        device = self.network.accelerator.device
        # Apple's devices have no float64.
        dtype = torch.float32 if device.type == "mps" else torch.float64
        shared = torch.tensor([part, float(stop)], dtype=dtype, device=device)
        total = self.network.accelerator.reduce(shared, "sum")
        assert isinstance(total, torch.Tensor)
        return total[0].item() / self.processes, total[1].item() > 0

    def clip_gradients(self, batch_loss: float) -> float:
        """Clips the gradients and gives their norm before; RunError where it or the loss is not finite."""
        accelerator = self.network.accelerator
        if not math.isfinite(batch_loss):
            raise self.diverged(f"the loss is {batch_loss}", self.position.step + 1)
        accelerator.unscale_gradients()
        parameters = [entry for entry in self.network.model.parameters() if entry.grad is not None]
        norm = torch.nn.utils.get_total_norm([entry.grad for entry in parameters if entry.grad is not None])
        size = norm.item()
        if math.isfinite(size):
            if self.options.clip_norm is not None:
                torch.nn.utils.clip_grads_with_norm_(parameters, self.options.clip_norm, norm)
        # fp16 finds its scale by overflowing now and then; the scaler leaves out such a step and halves the
        # scale.
        elif accelerator.scaler is None or accelerator.scaler.get_scale() <= 1.0:
            reason = f"the norm of the gradient is {size}{self.culprit()}"
            raise self.diverged(reason, self.position.step + 1)
        return size

    def culprit(self) -> str:
        """The first parameter whose gradient is not finite, in words; empty where each is finite."""
        for name, parameter in self.network.model.named_parameters():
            if parameter.grad is not None and not bool(torch.isfinite(parameter.grad).all()):
                return f" (first in {name})"
        return ""

    def diverged(self, what: str, step: int) -> RunError:
        """The error for numbers that are not finite: where, what is kept, what to try."""
        position, options = self.position, self.options
        kept = "no model has been saved yet"
        if position.best_epoch:
            best = f"epoch {position.best_epoch}, validation loss {position.best_loss:.6g}"
            kept = f"the best model so far ({best}) is kept in {self.run.model_path}"
        self.log.write("error", {"epoch": position.epoch, "step": step, "reason": what})
        return RunError(
            f"training stopped at epoch {position.epoch}, step {step}: {what}; {kept}. "
            f"Start anew with a lower learning_rate (now {options.learning_rate:g}) or clip_norm "
            f"(now {options.clip_norm}), and check that the data holds finite numbers only"
        )

    @torch.no_grad()
    def validate(self, stop: StopRequest) -> float | None:
        """The mean validation loss; None where a stop was asked for."""
        self.network.wrapped.eval()
        self.bar.validating()
        seed_step(self.options.seed, self.position.step, self.process, self.network.accelerator.device)
        total, examples = 0.0, 0
        for indices in self.validation_batches():
            value, weight = self.batch_loss(self.validation, indices)
            batch_loss, stopping = self.agree(value.item() * weight, stop.requested)
            if stopping:
                return None
            total += batch_loss * len(indices)
            examples += len(indices)
        mean = total / examples
        if not math.isfinite(mean):
            raise self.diverged(f"the validation loss is {mean}", self.position.step)
        return mean

    def validation_batches(self) -> Iterator[np.ndarray]:
        """The batches of validation examples."""
        size, steps = self.options.batch_size, self.options.validation_steps
        order = validation_order(len(self.validation), None if steps is None else steps * size)
        for first in range(0, len(order), size):
            yield order[first : first + size]

    def end_epoch(self, validation_loss: float) -> None:
        """Logs the epoch, saves the model where it is the best, and decides whether to go on."""
        position, options = self.position, self.options
        better = position.best_loss is None or validation_loss < position.best_loss
        record: dict[str, Any] = {
            "epoch": position.epoch,
            "step": position.step,
            "train_loss": position.loss_sum / position.examples,
            "validation_loss": validation_loss,
            "learning_rate": self.learning_rate(position.step - 1),
            "seconds": round(position.seconds, 3),
            "best": better,
        }
        position.epochs.append(record)
        self.log.write("epoch", record)
        self.bar.show({"validation": validation_loss})
        if better:
            position.best_epoch, position.best_loss = position.epoch, validation_loss
            state = self.network.model.state_dict()
            self.best = {name: tensor.detach().to("cpu", copy=True) for name, tensor in state.items()}
            self.run.save_model(self.best, self.model_record())
        if position.epoch == options.epochs:
            position.stopped = "finished"
        elif options.patience is not None and position.epoch - position.best_epoch >= options.patience:
            position.stopped = "early"
        else:
            position.next_epoch()
        if position.stopped:
            # Before the checkpoint: a run whose checkpoint says that it has ended writes no more.
            self.log.write("end", {"stopped": position.stopped, "step": position.step})
        self.save_checkpoint()

    def interrupt(self) -> str:
        """Saves what is needed to go on, and a model where none was validated yet."""
        self.save_checkpoint()
        if self.best is None:
            self.run.save_model(self.network.model.state_dict(), self.model_record())
        self.log.write("end", {"stopped": "interrupted", "step": self.position.step})
        return "interrupted"

    def model_record(self) -> dict[str, object]:
        """What the model file says about the training that made it."""
        position = self.position
        return {"epoch": position.best_epoch, "step": position.step, "validation_loss": position.best_loss}

    def save_checkpoint(self) -> None:
        """Writes the checkpoint; only the main process does."""
        if not self.run.writes:
            return
        scaler = self.network.accelerator.scaler
        checkpoint = Checkpoint(
            weights=self.network.model.state_dict(),
            moments=self.network.optimizer.state_dict()["state"],
            position=self.position,
            identity=self.identity,
            log_size=self.log.synced_size(),
            scaler=scaler.state_dict() if scaler is not None else {},
        )
        write_checkpoint(self.run.checkpoint_path, checkpoint)
