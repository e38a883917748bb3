"""Other programs are started so that a fork at the same moment harms neither side, and ended with all they started."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import threading
from collections.abc import Sequence
from typing import Any

__all__ = ["start", "stop"]

# In seconds, between asking a program to end and making it.
STOP_TIMEOUT = 2.0

# While a program starts, its pipes are open on our side. A process that another thread forked just then would keep them
# open for its whole life, and whoever waits for their end would wait as long: so a fork waits until the start is done.
_starting = threading.Lock()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_starting.acquire, after_in_parent=_starting.release, after_in_child=_starting.release
    )  # fmt: skip


def start(command: Sequence[str], **options: Any) -> subprocess.Popen[str]:
    """A program that runs, with text from and to it; the options are those of `subprocess.Popen`."""
    environment = {**os.environ, "LC_ALL": "C"}
    with _starting:
        return subprocess.Popen(command, encoding="utf-8", errors="replace", env=environment, **options)


def stop(child: subprocess.Popen[str]) -> None:
    """End a program that leads a group of its own: at first so that it can remove its files, if need be at once."""
    for name in ("SIGTERM", "SIGKILL"):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, getattr(signal, name))
            else:
                child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=STOP_TIMEOUT)
            return
