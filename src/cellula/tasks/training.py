"""The training loop that every task shares, on HF Accelerate: devices, mixed precision, several processes."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from typing import Any

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from cellula.errors import RunError, UsageError
from cellula.tasks.checkpoint import Position, load_optimizer, read_checkpoint
from cellula.tasks.interrupt import StopRequest
from cellula.tasks.options import TrainingOptions
from cellula.tasks.plain import plain
from cellula.tasks.run import RunDirectory, load_weights, refuse_differences
from cellula.tasks.trainer import BatchSource, Loss, Network, Start, Trainer

__all__ = ["BatchSource", "History", "TrainingOptions", "train"]


@dataclass(frozen=True)
class History:
    """What a training did.

    Args:
        epochs: one record for each epoch that was done: `epoch`, `step`, `train_loss`, `validation_loss`,
            `learning_rate`, `seconds`, `best`.
        best_epoch: the epoch whose weights the model now holds; 0 where it was interrupted before the first
            validation, and then the model holds the last weights.
        stopped: "finished" (all epochs), "early" (no better validation loss for `patience` epochs) or
            "interrupted" (Ctrl-C or SIGTERM).
    """

    epochs: tuple[dict[str, Any], ...]
    best_epoch: int
    stopped: str

    @property
    def best_loss(self) -> float | None:
        """The lowest validation loss, None before the first validation."""
        return self.epochs[self.best_epoch - 1]["validation_loss"] if self.best_epoch else None


def train(
    model: torch.nn.Module,
    loss: Loss,
    training: BatchSource,
    validation: BatchSource,
    options: TrainingOptions,
    run: RunDirectory,
    *,
    resume: bool = False,
    progress: bool | None = None,
) -> History:
    """Trains a network and leaves the best weights, by validation loss, in it and in the run directory.

    The weights are a function of the model's first weights, the data and the options alone: a run that was
    killed and resumed ends with the same bits as one that was not, on the same machine and number of threads.

    Args:
        model: the network; it is left in `eval()` mode, on the device where it came from.
        loss: gives the mean loss over the examples of a batch, a scalar. It must call `model(...)` itself, as
            the model it gets may be wrapped for several processes.
        training: the examples to learn from.
        validation: the examples to choose the best weights by.
        options: how to train.
        run: where to save; made by `RunDirectory.create` and told about the task by `describe`.
        resume: go on from the checkpoint; the same as making the run with `resume=True`. A run without a
            checkpoint starts from the beginning, and one that has ended gives its history and weights at
            once.
        progress: True shows a bar, False does not, None shows it where stderr is a terminal.

    Returns:
        What was done.

    Raises:
        RunError: where the loss or the gradient is not finite, the disk refuses a write, the checkpoint is
            damaged or was made with other options, data or network.
        UsageError: where there are no examples or the loss is not a scalar.

    Example:
        >>> import tempfile
        >>> class Line:
        ...     def __len__(self):
        ...         return 64
        ...     def batch(self, indices):
        ...         x = torch.tensor(indices / 64, dtype=torch.float32)[:, None]
        ...         return x, 2 * x
        >>> def squared(model, batch):
        ...     return (model(batch[0]) - batch[1]).square().mean()
        >>> with tempfile.TemporaryDirectory() as folder, RunDirectory.create(f"{folder}/run") as run:
        ...     options = TrainingOptions(epochs=2, batch_size=16)
        ...     train(torch.nn.Linear(1, 1), squared, Line(), Line(), options, run).stopped
        'finished'
    """
    for name, source in (("training", training), ("validation", validation)):
        if len(source) == 0:
            raise UsageError(f"there are no {name} examples: give more data, or another split")
    if not run.described:
        run.describe({})
    home = next((tensor.device for tensor in model.state_dict().values()), torch.device("cpu"))
    accelerator = make_accelerator(options)
    resuming = resume or run.resuming
    start = starting_point(model, (training, validation), options, run, resuming, accelerator)
    try:
        with StopRequest() as stop, prepared(model, options, accelerator, start) as network:
            trainer = Trainer(network, loss, (training, validation), options, run, start, progress)
            stopped = trainer.train(stop)
    finally:
        model.to(home)
        model.eval()
    return History(tuple(start.position.epochs), start.position.best_epoch, stopped)


def make_accelerator(options: TrainingOptions) -> Accelerator:
    """An Accelerator with the precision and device of the options."""
    # Without this, Accelerate would not join several processes on a machine that has no GPU.
    cpu = options.device == "cpu" or not torch.accelerator.is_available()
    if options.precision == "fp16" and cpu:
        raise UsageError('precision="fp16" needs a GPU: on the CPU use "bf16" or "no"')
    known = AcceleratorState._shared_state
    if known and (known.get("_mixed_precision") != options.precision or known.get("_cpu") != cpu):
        # Accelerate keeps one state per process and refuses a second training with another precision or
        # device.
        AcceleratorState._reset_state(reset_partial_state=not torch.distributed.is_initialized())
    return Accelerator(cpu=cpu, mixed_precision=options.precision, gradient_accumulation_steps=1)


def starting_point(
    model: torch.nn.Module,
    sources: tuple[BatchSource, BatchSource],
    options: TrainingOptions,
    run: RunDirectory,
    resume: bool,
    accelerator: Accelerator,
) -> Start:
    """Reads the checkpoint where there is one to go on from, and puts its weights into the model."""
    weights = model.state_dict()
    identity = {
        "options": plain(asdict(options)),
        "training_examples": len(sources[0]),
        "validation_examples": len(sources[1]),
        "processes": accelerator.num_processes,
        "weights": {name: list(tensor.shape) for name, tensor in weights.items()},
    }
    run.clear_stale()
    # The main process has now removed what is to be overwritten; only then may the others look.
    accelerator.wait_for_everyone()
    if not resume or not run.checkpoint_path.exists():
        if run.model_path.exists():
            raise RunError(
                f"{run.path} holds a model and no checkpoint, so it cannot be resumed: "
                "give another path, or overwrite=True (--overwrite)"
            )
        return Start(Position(), identity, None, None)
    checkpoint = read_checkpoint(run.checkpoint_path)
    refuse_differences(run.path, checkpoint.identity, identity)
    load_weights(model, checkpoint.weights, run.checkpoint_path)
    best = None
    if checkpoint.position.best_epoch:
        best, _ = run.load_model()
    return Start(checkpoint.position, identity, checkpoint, best)


@contextmanager
def prepared(
    model: torch.nn.Module, options: TrainingOptions, accelerator: Accelerator, start: Start
) -> Iterator[Network]:
    """The model on its device, wrapped by Accelerate, with its optimizer; unwrapped at the end."""
    own = {name: model.__dict__.get(name) for name in ("forward", "_original_forward")}
    learned = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        # Decay pulls weights of inputs towards zero; a bias or a gain has no reason to be near zero.
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": options.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    optimizer = torch.optim.AdamW([group for group in groups if group["params"]], lr=options.learning_rate)
    wrapped, wrapped_optimizer = accelerator.prepare(model, optimizer)
    if start.checkpoint is not None:
        load_optimizer(optimizer, start.checkpoint.moments)
        if accelerator.scaler is not None and start.checkpoint.scaler:
            accelerator.scaler.load_state_dict(dict(start.checkpoint.scaler))
    try:
        yield Network(model, wrapped, wrapped_optimizer, accelerator)
    finally:
        # Mixed precision replaces `forward` on the model itself; a copy of the model would then call the
        # first one.
        for name, value in own.items():
            model.__dict__.pop(name, None)
            if value is not None:
                model.__dict__[name] = value
        optimizer.zero_grad(set_to_none=True)
