"""Files that are written whole or not at all, and what to say when the disk refuses."""

from __future__ import annotations

import errno
import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cellula.errors import RunError

__all__ = ["TEMPORARY_PATTERN", "disk_errors", "write_atomic"]

# What a kill in the middle of a write leaves behind; the next run in the folder removes it.
TEMPORARY_PATTERN = ".*.cellula-tmp"

ADVICE = {
    errno.ENOSPC: "free some space; nothing that was saved before is lost",
    errno.EDQUOT: "your quota is used up: free some space; nothing that was saved before is lost",
    errno.EFBIG: "the limit on the size of a file is reached: raise it (ulimit -f)",
    errno.EACCES: "choose a folder that you may write to",
    errno.EPERM: "choose a folder that you may write to",
    errno.EROFS: "the file system is read-only: choose another folder",
    errno.ENOTDIR: "a part of the path is a file, not a folder: choose another path",
    errno.EEXIST: "there is a file of that name where a folder is needed: choose another path",
    errno.EISDIR: "there is a folder of that name where a file is needed: choose another path",
    errno.ENOENT: "there is no such file or folder: check the path",
    errno.ENAMETOOLONG: "choose a shorter path",
}


@contextmanager
def disk_errors(action: str, path: Path) -> Iterator[None]:
    """Turns an OSError inside the block into a RunError: what was done, where, why, what helps."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or str(error)
        advice = ADVICE.get(error.errno or 0, "check the disk and the path")
        raise RunError(f"cannot {action} {path}: {reason}; {advice}") from error


def write_atomic(path: str | os.PathLike[str], data: bytes) -> None:
    """Writes a file so that a reader, a crash or a full disk only ever sees the old content or the new.

    Args:
        path: the file; its folder must exist.
        data: the whole content.

    Raises:
        RunError: where the file cannot be written; the previous file is untouched and nothing is left beside
            it.
    """
    target = Path(path)
    temporary = target.with_name(f".{target.name}.{secrets.token_hex(4)}{TEMPORARY_PATTERN[2:]}")
    with disk_errors("write", target):
        try:
            write_and_sync(temporary, data)
            os.replace(temporary, target)
        except BaseException:
            with suppress(OSError):
                temporary.unlink()
            raise
        sync_folder(target.parent)


def write_and_sync(path: Path, data: bytes) -> None:
    """Writes a new file and waits until the disk has it."""
    # os.open and not tempfile: the file gets the permissions of the user's umask, as any other file does.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0), 0o666)
    with open(descriptor, "wb") as file:
        file.write(data)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Waits until the disk knows the new name; without it a power cut may bring the old file back."""
    if os.name != "posix":
        return
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
