"""One process at a time in a run directory, and which process of a launch does the writing."""

from __future__ import annotations

import os
from pathlib import Path
from typing import IO

from cellula.errors import RunError
from cellula.tasks.atomic import disk_errors

try:
    import fcntl
except ImportError:
    # Windows has no flock; there the lock file only names the process.
    fcntl = None

__all__ = ["LOCK_NAME", "is_main_process", "lock_folder"]

LOCK_NAME = ".lock"

# How torchrun and the launchers of MPI number the processes; the names are those that Accelerate reads.
RANK_VARIABLES = ("RANK", "PMI_RANK", "OMPI_COMM_WORLD_RANK", "MV2_COMM_WORLD_RANK")


def is_main_process() -> bool:
    """Whether this process is the first of its launch, the one that writes the run directory."""
    ranks = [os.environ[name] for name in RANK_VARIABLES if os.environ.get(name)]
    return not ranks or ranks[0] == "0"


def lock_folder(folder: Path) -> IO[str]:
    """Takes the lock of a folder; it is held while the returned file is open.

    The lock ends with the process, also with a killed one.

    Raises:
        RunError: where another process holds it; the message names that process.
    """
    path = folder / LOCK_NAME
    with disk_errors("write", path):
        file = path.open("a+")
        try:
            if fcntl is not None:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            owner = file.read().strip() or "unknown"
            file.close()
            raise RunError(
                f"{folder} is in use by another training (process {owner}): "
                "wait until it ends, stop it, or give another path"
            ) from error
        except OSError:
            file.close()
            raise
        file.truncate(0)
        file.write(f"{os.getpid()}\n")
        file.flush()
    return file
