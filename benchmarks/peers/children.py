"""Starts the processes that measure, one thread count each, and collects what they tell."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers.timing import Pace

__all__ = ["COMPILE_LIMIT", "cores_for", "run_tasks"]

# Seconds in which a contestant that compiles must be ready, where it has a process of its own.
COMPILE_LIMIT = 120.0
Task = dict[str, Any]
Tell = Callable[[Task, dict[str, Any]], None]


def cores_for(threads: int) -> list[int] | None:
    """The cores that so many threads are bound to; None where the system cannot bind."""
    if not hasattr(os, "sched_getaffinity"):
        return None
    # The first core serves most interrupts.
    return sorted(os.sched_getaffinity(0))[-threads:]


def run_tasks(tasks: Sequence[Task], threads: int, pace: Pace, tell: Tell) -> None:
    """Run all tasks of one thread count; `tell` gets each task with every message about it."""
    together = [task for task in tasks if not task.get("alone")]
    while together:
        together = together[_run_child(together, threads, pace, tell) :]
    for task in tasks:
        if task.get("alone"):
            _run_child([task], threads, pace, tell)


def _run_child(tasks: Sequence[Task], threads: int, pace: Pace, tell: Tell) -> int:
    """Run tasks in one process; how many are done with, one that killed the process included."""
    cores, alone = cores_for(threads), tasks[0].get("alone", False)
    job = {"threads": threads, "tasks": tasks, "pace": asdict(pace), "cores": cores if alone else None}
    done = 0
    with tempfile.TemporaryDirectory() as folder, _child(threads, None if alone else cores, folder) as child:
        assert child.stdin and child.stdout
        late = threading.Event()
        timer = threading.Timer(COMPILE_LIMIT, lambda: (late.set(), _kill(child)))
        if "compile" in tasks[0].get("peers", ()):
            timer.start()
        with suppress(BrokenPipeError):
            child.stdin.write(json.dumps(job))
            child.stdin.close()
        for line in child.stdout:
            message = json.loads(line)
            tell(tasks[message["task"]], message)
            if "ready" in message:
                timer.cancel()
            done += "rows" in message or "error" in message
        timer.cancel()
        code = child.wait()
    if done < len(tasks):
        if late.is_set():
            tell(tasks[done], {"skipped": f"did not compile within {COMPILE_LIMIT:.0f} s", "rows": []})
        else:
            tell(tasks[done], {"error": f"the process that measured ended with {code}"})
        done += 1
    return done


@contextmanager
def _child(threads: int, cores: list[int] | None, folder: str) -> Iterator[subprocess.Popen[str]]:
    """A process bound to these cores; whatever happens, it and what it started are gone afterwards."""
    here = str(Path(__file__).resolve().parents[1])
    number = str(threads)
    environment = os.environ | {
        "PYTHONPATH": os.pathsep.join([here, *filter(None, [os.environ.get("PYTHONPATH")])]),
        **dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), number),
        "JAX_PLATFORMS": "cpu",
        # What was compiled on another day must not count as quick.
        "TORCHINDUCTOR_CACHE_DIR": folder,
    }
    before = os.sched_getaffinity(0) if cores else None
    if cores:
        os.sched_setaffinity(0, cores)
    try:
        child = subprocess.Popen(
            [sys.executable, "-m", "peers.worker"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environment, start_new_session=True,
        )  # fmt: skip
    finally:
        if before:
            os.sched_setaffinity(0, before)
    try:
        yield child
    finally:
        _kill(child)
        child.wait()


def _kill(child: subprocess.Popen[str]) -> None:
    """End a process and those that it started."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(child.pid, signal.SIGKILL)
