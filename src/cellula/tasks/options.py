"""The settings of a training run and its learning rate over time."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, fields

from cellula.errors import UsageError

__all__ = ["SCHEDULES", "TrainingOptions", "learning_rate"]


@dataclass(frozen=True)
class TrainingOptions:
    """How a network is trained; none of it depends on the task.

    Args:
        epochs: passes over the training examples at most.
        batch_size: examples a step, over all processes together.
        learning_rate: the highest value, reached at the end of the warm-up.
        weight_decay: AdamW's decay of weight matrices; biases and other vectors do not decay.
        clip_norm: the largest norm of the gradient; None does not clip.
        warmup_steps: steps over which the learning rate rises; at most a fifth of all steps are used.
        schedule: how the learning rate falls after the warm-up: "cosine", "linear" or "constant".
        patience: stop after so many epochs without a better validation loss; None never stops early.
        seed: decides the order of the examples and the random numbers of every step.
        precision: "no" (float32), "bf16" or "fp16" (mixed precision; fp16 needs a GPU).
        checkpoint_every: steps from one checkpoint to the next; there is one at the end of each epoch, too.
        steps_per_epoch: at most so many steps an epoch, over a random part of the examples; None takes all.
        validation_steps: at most so many batches of validation examples, spread evenly; None takes all.
        log_every: steps from one line of the log to the next.
        device: "auto" (a GPU where there is one) or "cpu".

    Raises:
        UsageError: where a value is out of range.

    Example:
        >>> TrainingOptions(epochs=3).clip_norm
        1.0
    """

    epochs: int = 20
    batch_size: int = 256
    learning_rate: float = 2e-3
    weight_decay: float = 0.01
    clip_norm: float | None = 1.0
    warmup_steps: int = 100
    schedule: str = "cosine"
    patience: int | None = 5
    seed: int = 0
    precision: str = "no"
    checkpoint_every: int = 100
    steps_per_epoch: int | None = None
    validation_steps: int | None = None
    log_every: int = 10
    device: str = "auto"

    def __post_init__(self) -> None:
        for field in fields(self):
            rule = RULES[field.name]
            value = getattr(self, field.name)
            if not rule.fits(value):
                raise UsageError(f"{field.name}={value!r}: expected {rule.expected}")


@dataclass(frozen=True)
class Rule:
    """What values an option takes, as a test and in words."""

    fits: Callable[[object], bool]
    expected: str


def whole(least: int, *, optional: bool = False) -> Rule:
    """A whole number of at least `least`, or None."""
    words = f"a whole number of {least} or more" + (" or None" if optional else "")

    def fits(value: object) -> bool:
        return (optional and value is None) or (
            isinstance(value, int) and not isinstance(value, bool) and value >= least
        )

    return Rule(fits, words)


def real(*, above_zero: bool, optional: bool = False) -> Rule:
    """A finite number above zero, or from zero on; or None."""
    words = ("a number above 0" if above_zero else "a number of 0 or more") + (" or None" if optional else "")

    def fits(value: object) -> bool:
        if value is None:
            return optional
        if not isinstance(value, (int, float)) or isinstance(value, bool) or not math.isfinite(value):
            return False
        return value > 0 if above_zero else value >= 0

    return Rule(fits, words)


def one_of(*choices: str) -> Rule:
    """One of some words."""
    words = "one of " + ", ".join(map(repr, choices))
    return Rule(lambda value: isinstance(value, str) and value in choices, words)


def cosine(progress: float) -> float:
    """Half a cosine wave from 1 to 0."""
    return 0.5 * (1.0 + math.cos(math.pi * progress))


def linear(progress: float) -> float:
    """A straight line from 1 to 0."""
    return 1.0 - progress


def constant(progress: float) -> float:
    """Always 1."""
    return 1.0


SCHEDULES: dict[str, Callable[[float], float]] = {"cosine": cosine, "linear": linear, "constant": constant}

RULES = {
    "epochs": whole(1),
    "batch_size": whole(1),
    "learning_rate": real(above_zero=True),
    "weight_decay": real(above_zero=False),
    "clip_norm": real(above_zero=True, optional=True),
    "warmup_steps": whole(0),
    "schedule": one_of(*SCHEDULES),
    "patience": whole(1, optional=True),
    "seed": whole(0),
    "precision": one_of("no", "bf16", "fp16"),
    "checkpoint_every": whole(1),
    "steps_per_epoch": whole(1, optional=True),
    "validation_steps": whole(1, optional=True),
    "log_every": whole(1),
    "device": one_of("auto", "cpu"),
}


def learning_rate(options: TrainingOptions, step: int, total: int) -> float:
    """The learning rate of a step: a pure function, so that a resumed run needs no state of a scheduler.

    Args:
        options: peak, warm-up and schedule.
        step: the step, from 0.
        total: the number of steps of all epochs.

    Returns:
        The learning rate.

    Example:
        >>> options = TrainingOptions(learning_rate=1.0, warmup_steps=2)
        >>> [round(learning_rate(options, step, 10), 2) for step in (0, 1, 6)]
        [0.5, 1.0, 0.5]
    """
    warmup = min(options.warmup_steps, total // 5)
    if step < warmup:
        return options.learning_rate * (step + 1) / warmup
    progress = (step - warmup) / max(1, total - warmup)
    return options.learning_rate * SCHEDULES[options.schedule](progress)
