"""The run directory: all that one training leaves behind, written so that nothing is lost or overwritten."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import numpy as np
import torch

from cellula.errors import RunError, UsageError
from cellula.tasks.atomic import TEMPORARY_PATTERN, disk_errors, write_atomic
from cellula.tasks.lock import LOCK_NAME, is_main_process, lock_folder
from cellula.tasks.model_file import load_model, load_weights, save_model
from cellula.tasks.plain import canonical_text, json_text, plain

__all__ = ["RunDirectory", "data_fingerprint", "differences", "load_model", "load_weights", "save_model"]

# Files that a run writes and that `overwrite=True` removes, and no others. config.json is not here but
# replaced: a folder in which a kill left only a part is still known as a run.
GENERATED = (
    "checkpoint.safetensors",
    "model.safetensors",
    "log.jsonl",
    "metrics.json",
    "report.html",
    "*.png",
    "*.svg",
    "plots/*.png",
    "plots/*.svg",
    TEMPORARY_PATTERN,
)

RUN_VERSION = 1
# Settings that change neither the weights nor their order: a resumed run may have other values.
FREE_SETTINGS = frozenset({"checkpoint_every", "log_every", "device"})


def data_fingerprint(*arrays: np.ndarray) -> str:
    """A short text that changes when any value of the data does: put it into the run's config.

    Example:
        >>> data_fingerprint(np.arange(3)) == data_fingerprint(np.arange(3.0))
        False
    """
    digest = hashlib.sha256()
    for array in arrays:
        digest.update(f"{array.dtype.str}{array.shape}".encode())
        if array.dtype.kind in "biufcmMS":
            digest.update(np.ascontiguousarray(array).tobytes())
        else:
            # Objects and strings of varying length have no bytes of their own.
            digest.update("\0".join(map(str, array.flat)).encode())
    return digest.hexdigest()[:32]


def differences(stored: object, given: object, name: str = "") -> list[str]:
    """Every place where two plain values differ, as `name: the run has 1, now 2`, but for free settings."""
    if name.rpartition(".")[2] in FREE_SETTINGS:
        return []
    if isinstance(stored, dict) and isinstance(given, dict):
        keys = list(dict.fromkeys([*stored, *given]))
        return [
            line for key in keys for line in differences(stored.get(key), given.get(key), f"{name}.{key}".lstrip("."))
        ]
    if canonical_text(stored) == canonical_text(given):
        return []
    return [f"{name}: the run has {shortened(stored)}, now {shortened(given)}"]


def shortened(value: object) -> str:
    """The JSON of a value, cut in the middle where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 200 else f"{text[:120]} ... {text[-60:]}"


def refuse_differences(path: Path, stored: object, given: object) -> None:
    """RunError that lists the differences, where there are any."""
    lines = differences(stored, given)
    if lines:
        raise RunError(
            f"cannot resume {path}: it was started with other settings or data:\n  "
            + "\n  ".join(lines)
            + "\ngive the same ones, or start anew: another path, or overwrite=True (--overwrite)"
        )


class RunDirectory:
    """The folder of one training run; make one with `create` (to train) or `open` (to read).

    The files are `config.json`, `model.safetensors` (the best model so far), `checkpoint.safetensors`
    (everything to resume), `log.jsonl`, `metrics.json` and what the task adds. Every write is atomic. Of
    several processes only the main one writes; in the others every write does nothing.

    Args:
        path: the folder.
        writes: whether this process writes.
        resuming: whether an earlier training in this folder goes on.
        lock: the open lock file.

    Example:
        >>> import tempfile
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     with RunDirectory.create(f"{folder}/run") as run:
        ...         run.describe({"target": "temp"}, {"formula": "h[t] = tanh(x[t] @ W)"})
        ...         run.write_json("metrics.json", {"mae": 1.9})
        ...     RunDirectory.open(f"{folder}/run").read_config()
        {'target': 'temp'}
    """

    def __init__(self, path: Path, *, writes: bool, resuming: bool, lock: IO[str] | None = None) -> None:
        self.path = path
        self.writes = writes
        self.resuming = resuming
        self.lock = lock
        self.described = False
        self.model_metadata: dict[str, object] = {}
        # `overwrite=True` removes the old files at the first write, not before: an error in the data or the
        # settings that comes earlier costs nothing.
        self.stale = lock is not None and not resuming

    @classmethod
    def create(cls, path: str | os.PathLike[str], *, overwrite: bool = False, resume: bool = False) -> RunDirectory:
        """Takes a folder for one training and locks it until `close` or the end of the process.

        Args:
            path: the folder; made where it does not exist.
            overwrite: replace the run that is there; its files go at the first write.
            resume: go on with the run that is there.

        Raises:
            RunError: where the folder holds a run and neither is given, holds other files, is in use by
                another process, cannot be written, or (with `resume`) does not exist.
        """
        folder = Path(path)
        if overwrite and resume:
            raise UsageError("overwrite=True and resume=True exclude each other: give one of them")
        if not is_main_process():
            return cls(folder, writes=False, resuming=resume)
        if resume and not folder.is_dir():
            raise RunError(f"{folder}: there is no run to resume; leave out resume=True (--resume) to start one")
        with disk_errors("make the folder", folder):
            folder.mkdir(parents=True, exist_ok=True)
        refuse_occupied(folder, overwrite or resume)
        lock = lock_folder(folder)
        try:
            # Another process may have started and ended a run between the two lines above.
            refuse_occupied(folder, overwrite or resume)
        except RunError:
            lock.close()
            raise
        for leftover in folder.glob(TEMPORARY_PATTERN):
            leftover.unlink(missing_ok=True)
        return cls(folder, writes=True, resuming=resume, lock=lock)

    @classmethod
    def open(cls, path: str | os.PathLike[str]) -> RunDirectory:
        """Opens an existing run to read it or to add files such as a report; takes no lock.

        Raises:
            RunError: where there is no run.
        """
        folder = Path(path)
        if not folder.is_dir() or not is_run(folder):
            raise RunError(f"{folder} is not a run directory: it has no config.json written by Cellula")
        return cls(folder, writes=is_main_process(), resuming=False)

    @property
    def model_path(self) -> Path:
        """The best model so far."""
        return self.path / "model.safetensors"

    @property
    def checkpoint_path(self) -> Path:
        """What a resumed training starts from."""
        return self.path / "checkpoint.safetensors"

    @property
    def log_path(self) -> Path:
        """One JSON object a line."""
        return self.path / "log.jsonl"

    def describe(self, config: Mapping[str, object], model_metadata: Mapping[str, object] | None = None) -> None:
        """Writes `config.json`; in a resumed run, compares it with the one that is there.

        Args:
            config: all that decides the result: task, data with its `data_fingerprint`, cell, options. Plain
                JSON values. `checkpoint_every`, `log_every` and `device` may change from one resume to the
                next.
            model_metadata: what `model.safetensors` must carry beside the config: formula text, scales,
                columns.

        Raises:
            RunError: where a resumed run was started with another config; every difference is named.
            UsageError: where a value has no JSON form or is not finite.
        """
        given = plain(config, finite=True, where="config")
        metadata = plain(model_metadata or {}, finite=True, where="model_metadata")
        assert isinstance(given, dict)
        assert isinstance(metadata, dict)
        self.described = True
        self.model_metadata = {"config": given, **metadata}
        if not self.writes:
            return
        if self.resuming and (self.path / "config.json").exists():
            refuse_differences(self.path, self.read_config(), given)
        self.write_json("config.json", {"cellula_run": RUN_VERSION, **given})

    def read_config(self) -> dict[str, Any]:
        """The config that the run was started with.

        Raises:
            RunError: where `config.json` is missing or damaged.
        """
        path = self.path / "config.json"
        with disk_errors("read", path):
            text = path.read_bytes()
        try:
            config = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise RunError(f"{path} is damaged: it is not JSON ({error}); start a new run") from error
        if not isinstance(config, dict) or config.pop("cellula_run", None) != RUN_VERSION:
            raise RunError(f'{path} is not of this Cellula: expected "cellula_run": {RUN_VERSION}')
        return config

    def write_bytes(self, name: str, data: bytes) -> None:
        """Writes a file of the run, whole or not at all; `name` may have a folder (`plots/forecast.png`)."""
        if not self.writes:
            return
        self.clear_stale()
        path = self.path / name
        if path.parent != self.path:
            with disk_errors("make the folder", path.parent):
                path.parent.mkdir(parents=True, exist_ok=True)
        write_atomic(path, data)

    def write_text(self, name: str, text: str) -> None:
        """Writes a text file of the run in UTF-8."""
        self.write_bytes(name, text.encode())

    def write_json(self, name: str, value: object) -> None:
        """Writes a value as JSON; NaN and infinity become null."""
        self.write_text(name, json_text(value))

    def save_model(self, tensors: Mapping[str, torch.Tensor], training: Mapping[str, object]) -> None:
        """Writes `model.safetensors` with what `describe` was given and the state of the training."""
        if self.writes:
            self.clear_stale()
            save_model(self.model_path, tensors, {**self.model_metadata, "training": training})

    def load_model(self) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
        """Reads `model.safetensors`, as the function `load_model` does."""
        return load_model(self.model_path)

    def clear_stale(self) -> None:
        """Removes the files of the run that is being overwritten, once."""
        if not self.stale:
            return
        self.stale = False
        for pattern in GENERATED:
            for path in self.path.glob(pattern):
                with disk_errors("remove", path):
                    path.unlink()

    def close(self) -> None:
        """Gives the lock back."""
        if self.lock is not None:
            self.lock.close()

    def __enter__(self) -> RunDirectory:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def is_run(folder: Path) -> bool:
    """Whether the folder's config.json is one of ours."""
    try:
        config = json.loads((folder / "config.json").read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    return isinstance(config, dict) and "cellula_run" in config


def refuse_occupied(folder: Path, told: bool) -> None:
    """RunError where the folder holds a run and nobody said what to do with it, or holds anything else."""
    with disk_errors("read", folder):
        temporaries = set(folder.glob(TEMPORARY_PATTERN))
        others = [path for path in folder.iterdir() if path.name != LOCK_NAME and path not in temporaries]
    if not others:
        return
    if not is_run(folder):
        raise RunError(f"{folder} holds files that are no run of Cellula ({others[0].name}, ...): give another path")
    if not told:
        raise RunError(
            f"{folder} already holds a run: go on with it by resume=True (--resume), "
            "replace it by overwrite=True (--overwrite), or give another path"
        )
