"""The folder of compiled libraries: whether it can be trusted, whose turn it is, damaged entries and old ones.

The libraries stand in the folder `kernels` of the cache, each under `<key>-<sha256 of the file><suffix>`. The key
covers all that the machine code depends on; the second half tells a damaged file from a whole one before it is
loaded. An entry is one file that appears by one rename, so no reader ever sees half of it, and two processes that
compile the same source by accident do no harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import hashlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

try:
    import fcntl
except ImportError:
    # Windows has no flock; there two processes may compile the same source, and one result wins.
    fcntl = None

__all__ = [
    "BUILD_PREFIX",
    "SUFFIX",
    "cache_folder",
    "entry_name",
    "find_entry",
    "kernels_folder",
    "locked",
    "mistrust",
    "sweep",
]

SUFFIX = ".dll" if sys.platform == "win32" else ".so"
# A folder in which a library is being compiled; a kill leaves it behind.
BUILD_PREFIX = "build-"
# In seconds. A process that holds a lock for longer than a compiler may take is not coming back.
LOCK_TIMEOUT = 130.0
HOUR, DAY = 3600.0, 86400.0
UNUSED_AFTER = 90 * DAY
# How many libraries the cache holds at most; one has some 100 kB.
MOST_ENTRIES = 500


def cache_folder() -> Path:
    """The folder in which Cellula keeps what it can make again: `CELLULA_CACHE_DIR`, or the user's own cache.

    Returns:
        The path; the folder need not exist. Without a variable: `~/.cache/cellula` on Linux (`XDG_CACHE_HOME` is
        followed), `~/Library/Caches/cellula` on macOS, `%LOCALAPPDATA%\\cellula\\Cache` on Windows.

    Example:
        >>> cache_folder().is_absolute()
        True
    """
    if chosen := os.environ.get("CELLULA_CACHE_DIR"):
        return Path(os.path.expanduser(chosen)).absolute()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")) / "cellula" / "Cache"
    elif sys.platform == "darwin":
        folder = Path(os.path.expanduser("~/Library/Caches/cellula"))
    else:
        # The XDG rules say that a relative path counts as none.
        base = os.environ.get("XDG_CACHE_HOME", "")
        folder = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "cellula"
    # A user without a home, as in some containers, still has one folder of his own.
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return folder if folder.is_absolute() else Path(tempfile.gettempdir()) / f"cellula-{user}"


def kernels_folder() -> Path:
    """Where the libraries stand."""
    return cache_folder() / "kernels"


def mistrust(folder: Path) -> str | None:
    """Why what stands in a folder must not be loaded, if so; a missing folder is made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    # Root can do as it likes anyway, and an image may come with a cache that root has filled.
    if hasattr(os, "geteuid") and facts.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user (number {facts.st_uid})"
    if os.name == "posix" and facts.st_mode & 0o022:
        return f"others may write to it (mode {facts.st_mode & 0o777:o}; 700 is right)"
    return None


@contextlib.contextmanager
def locked(path: Path) -> Iterator[None]:
    """Let one process at a time pass, as far as the file system can; never wait for ever."""
    with path.open("ab") as file:
        held = _take(file)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile has the file open too.
            if fcntl is not None and held:
                fcntl.flock(file, fcntl.LOCK_UN)


def _take(file: IO[bytes]) -> bool:
    """Whether the lock was got; without it one compiles all the same, and the rename keeps the cache whole."""
    end = time.monotonic() + LOCK_TIMEOUT
    while fcntl is not None and time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            # Some network file systems have no locks.
            return False
        else:
            return True
    return False


def find_entry(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library of a key, from the disk; an entry that is damaged is removed, never loaded."""
    for path in folder.glob(f"{key}-*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if path.name == entry_name(key, path):
                library = ctypes.CDLL(str(path))
                _touch(path)
                return library
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def entry_name(key: str, path: Path) -> str:
    """Under which name a file is kept."""
    return f"{key}-{hashlib.sha256(path.read_bytes()).hexdigest()}{SUFFIX}"


def _touch(path: Path) -> None:
    """Note that an entry was used, once a day at most."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)


def sweep(folder: Path, unused_after: float = UNUSED_AFTER) -> int:
    """Remove what was not used for long, the oldest beyond a number, and what killed processes left behind."""
    now, entries, removed = time.time(), [], 0
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            age = now - path.stat().st_mtime
            if path.suffix in (SUFFIX, ".c"):
                entries.append((age, path))
            elif path.name.startswith(BUILD_PREFIX) and age > HOUR:
                shutil.rmtree(path, ignore_errors=True)
    for number, (age, path) in enumerate(sorted(entries)):
        if age > unused_after or number >= MOST_ENTRIES:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed
