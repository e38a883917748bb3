"""Model files: weights and the JSON that says how to build their network again. Loading one runs no code."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from cellula.errors import RunError
from cellula.tasks.tensor_file import read_tensor_file, write_tensor_file

__all__ = ["load_model", "load_weights", "save_model"]


def save_model(
    path: str | os.PathLike[str], tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, object]
) -> None:
    """Saves weights and what is needed to build their network again, in one safetensors file.

    Args:
        path: the file; an existing one is replaced whole or not at all.
        tensors: the weights by name, usually `model.state_dict()`.
        metadata: plain JSON values: the formula text, sizes, scales, ... Every number must be finite.

    Raises:
        RunError: where the file cannot be written.
        UsageError: where an entry is no tensor, or a value of the metadata has no JSON form.

    Example:
        >>> import tempfile, torch
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     save_model(f"{folder}/m.safetensors", {"w": torch.ones(2)}, {"cell": "h[t] = x[t]"})
        ...     load_model(f"{folder}/m.safetensors")
        ({'w': tensor([1., 1.])}, {'cell': 'h[t] = x[t]'})
    """
    write_tensor_file(Path(path), "model", tensors, metadata)


def load_model(path: str | os.PathLike[str]) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Loads what `save_model` saved. No code of the file is run, whoever wrote it.

    Args:
        path: the file.

    Returns:
        The weights by name, on the CPU, and the metadata.

    Raises:
        RunError: where the file is missing, a folder, empty, truncated, damaged (its checksum is verified),
            not written by Cellula, of a newer format, or a checkpoint.
    """
    return read_tensor_file(Path(path), "model")


def load_weights(model: torch.nn.Module, tensors: Mapping[str, torch.Tensor], source: str | os.PathLike[str]) -> None:
    """Puts loaded weights into a network, after checking that every name, shape and number fits.

    Args:
        model: the network, built from the metadata of the same file.
        tensors: the weights by name.
        source: the file they come from, for the message.

    Raises:
        RunError: where a weight is missing, unknown, of another shape or type, or not finite; all are named.
    """
    expected = model.state_dict()
    problems = [f"  {name}: missing" for name in expected if name not in tensors]
    problems += [f"  {name}: the network has no such weight" for name in tensors if name not in expected]
    learned = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    for name in expected.keys() & tensors.keys():
        here, there = expected[name], tensors[name]
        if here.shape != there.shape or here.dtype != there.dtype:
            problems.append(
                f"  {name}: the file has {describe_tensor(there)}, the network needs {describe_tensor(here)}"
            )
        elif name in learned and not bool(torch.isfinite(there).all()):
            problems.append(f"  {name}: holds a value that is not finite")
    if problems:
        raise RunError(f"{source} does not fit the network:\n" + "\n".join(sorted(problems)))
    model.load_state_dict(dict(tensors))


def describe_tensor(tensor: torch.Tensor) -> str:
    """Shape and type, as `float32 [3, 4]`."""
    return f"{str(tensor.dtype).removeprefix('torch.')} {list(tensor.shape)}"
