"""The log of a run: one JSON object a line, cut back on resume to where the checkpoint was."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from cellula.tasks.atomic import disk_errors
from cellula.tasks.plain import plain

__all__ = ["RunLog"]


class RunLog:
    """Appends records to `log.jsonl`.

    Args:
        path: the file; None writes nothing (a process that is not the main one).
    """

    def __init__(self, path: Path | None) -> None:
        self.path = path
        self.file = None
        if path is not None:
            with disk_errors("write", path):
                self.file = path.open("ab")

    def cut(self, size: int, epochs: Sequence[Mapping[str, object]]) -> None:
        """Drops what follows byte `size`; a shorter log (edited, deleted) is rebuilt from the epochs."""
        if self.file is None or self.path is None:
            return
        with disk_errors("write", self.path):
            present = self.file.seek(0, os.SEEK_END)
            if present > size:
                self.file.truncate(size)
            if present >= size:
                return
            self.file.truncate(0)
        for record in epochs:
            self.write("epoch", record)

    def write(self, event: str, record: Mapping[str, object]) -> None:
        """Appends one line: `{"event": event, ...record}`."""
        if self.file is None or self.path is None:
            return
        line = json.dumps(plain({"event": event, **record}), ensure_ascii=False) + "\n"
        with disk_errors("write", self.path):
            self.file.write(line.encode())
            self.file.flush()

    def synced_size(self) -> int:
        """The size in bytes, after the disk has all of it."""
        if self.file is None or self.path is None:
            return 0
        with disk_errors("write", self.path):
            os.fsync(self.file.fileno())
            return os.fstat(self.file.fileno()).st_size

    def close(self) -> None:
        """Closes the file; a second call does nothing."""
        if self.file is not None and self.path is not None:
            with disk_errors("write", self.path):
                self.file.close()
