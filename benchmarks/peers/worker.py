"""The process that measures: it is bound to its cores before it imports anything that starts threads.

It reads a job from its input and writes a line of JSON for everything that is to be told.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from functools import partial
from types import ModuleType
from typing import Any, TextIO

import torch

from cellula.backends.c.launch.binding import prepare_binding
from peers import memory, scaling, streaming, versus, zoo
from peers.timing import Pace

__all__ = ["SECTIONS"]

SECTIONS: dict[str, ModuleType] = {
    "peers": versus,
    "zoo": zoo,
    "scaling": scaling,
    "streaming": streaming,
    "memory": memory,
}


def run_job(job: dict[str, Any], out: TextIO) -> None:
    """Every task of the job, in order; one that fails is reported and the next one begins."""
    torch.set_num_threads(job["threads"])
    # What a process has some time after its first small calls, unless CELLULA_BINDING says that it never does.
    if os.environ.get("CELLULA_BINDING") != "off" and (problem := prepare_binding()):
        print(f"small calls go the long way: {problem}", file=sys.stderr)
    for number, task in enumerate(job["tasks"]):
        report = partial(_report, out, job.get("cores"), number)
        try:
            rows = SECTIONS[task["section"]].measure(task, Pace(**job["pace"]), report)
        except Exception as error:
            traceback.print_exc()
            report(error=f"{type(error).__name__}: {error}")
        else:
            report(rows=rows)


def _report(out: TextIO, cores: list[int] | None, number: int, **what: Any) -> None:
    # A compiler may use every core; what it has made runs on those of the measurement.
    if "ready" in what and cores is not None:
        for thread in os.listdir("/proc/self/task"):
            os.sched_setaffinity(int(thread), cores)
    print(json.dumps({"task": number, **what}), file=out, flush=True)


if __name__ == "__main__":
    # Whatever a library prints goes to the error output, so that the answers stay readable.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    run_job(json.load(sys.stdin), answers)
