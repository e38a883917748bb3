"""Ctrl-C and SIGTERM end the current step, not the program in the middle of it."""

from __future__ import annotations

import os
import signal
import threading
from types import FrameType, TracebackType

__all__ = ["StopRequest"]

NOTICE = b"\nstopping after this step and saving; press Ctrl-C again to stop at once\n"


class StopRequest:
    """While the block runs, a first Ctrl-C or SIGTERM sets `requested`, a second raises KeyboardInterrupt.

    Only the main thread of a program may handle signals; in any other the block changes nothing.
    """

    def __init__(self) -> None:
        self.requested = False
        self.previous: dict[int, object] = {}

    def __enter__(self) -> StopRequest:
        if threading.current_thread() is not threading.main_thread():
            return self
        for number in (signal.SIGINT, signal.SIGTERM):
            before = signal.getsignal(number)
            # A program in the background (nohup, `&` in a script) was told to ignore Ctrl-C. A handler that
            # was not set from Python (None) could not be put back.
            if before is not None and before is not signal.SIG_IGN:
                self.previous[number] = before
                signal.signal(number, self.handle)
        return self

    def handle(self, number: int, frame: FrameType | None) -> None:
        """The signal handler."""
        if self.requested:
            raise KeyboardInterrupt
        self.requested = True
        if number == signal.SIGINT:
            # Not print: the signal may have come in the middle of one, and its buffer does not allow a
            # second.
            os.write(2, NOTICE)

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for number, before in self.previous.items():
            signal.signal(number, before)  # pyright: ignore[reportArgumentType]
