"""The progress bar of a training run."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping
from typing import Any

from tqdm import tqdm

__all__ = ["ProgressBar"]


class _Bar(tqdm):
    """A bar whose lock belongs to this process alone.

    tqdm's own lock is one semaphore for a process and all that is forked from it: where one of them is killed while it
    draws, every other waits for ever. tqdm's watching thread, which holds that lock now and then, is not started.
    """

    monitor_interval = 0


def _renew_lock() -> None:
    _Bar.set_lock(threading.RLock())


_renew_lock()
if hasattr(os, "register_at_fork"):
    # A thread that held the lock does not exist in the child.
    os.register_at_fork(after_in_child=_renew_lock)


class ProgressBar:
    """Batches done, speed, time left and losses on one line of stderr.

    Args:
        total: batches of all epochs.
        done: batches that a resumed run has behind it.
        shown: True shows it, False does not, None shows it where stderr is a terminal.
    """

    def __init__(self, total: int, done: int, shown: bool | None) -> None:
        # tqdm's own meaning of None is the same: off where stderr is not a terminal.
        disable = None if shown is None else not shown
        options = {"unit": "batch", "dynamic_ncols": True, "smoothing": 0.1}
        self.bar: Any = _Bar(total=total, initial=done, disable=disable, **options)
        self.name = ""
        self.figures: dict[str, str] = {}

    def epoch(self, number: int, epochs: int) -> None:
        """Names the epoch."""
        self.name = f"epoch {number}/{epochs}"
        self.bar.set_description(self.name, refresh=False)

    def validating(self) -> None:
        """Says that the training waits for the validation."""
        self.bar.set_description(f"{self.name}, validating")

    def show(self, figures: Mapping[str, float]) -> None:
        """Sets losses and the like; they stay until set again."""
        self.figures |= {name: f"{value:.4g}" for name, value in figures.items()}
        self.bar.set_postfix(self.figures, refresh=False)

    def advance(self) -> None:
        """One more batch is done."""
        self.bar.update()

    def close(self) -> None:
        """Leaves the bar as it is and ends its line."""
        self.bar.close()
