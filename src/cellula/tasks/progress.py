"""The progress bar of a training run."""

from __future__ import annotations

from collections.abc import Mapping

from tqdm import tqdm

__all__ = ["ProgressBar"]


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
        self.bar = tqdm(total=total, initial=done, disable=disable, unit="batch", dynamic_ncols=True, smoothing=0.1)
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
