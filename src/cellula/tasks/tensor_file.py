"""One file of tensors and JSON: safetensors with a checked header. Reading one never runs code.

The file is an ordinary safetensors file. Its header holds one entry of ours, `cellula`: JSON with the version
of the format, the kind of the file, a SHA-256 of all tensors and metadata, and the metadata itself.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load as decode_tensors
from safetensors.torch import save as encode_tensors

from cellula.errors import RunError, UsageError
from cellula.tasks.atomic import disk_errors, write_atomic
from cellula.tasks.plain import canonical_text, plain

__all__ = ["FORMAT_VERSION", "read_tensor_file", "write_tensor_file"]

FORMAT_VERSION = 1
# A header lists names, shapes and the metadata: some kilobytes. The limit stops a damaged length from filling
# memory.
LARGEST_HEADER = 64 * 2**20

# The first bytes of the header of every file that we write.
OUR_START = b'{"__metadata__":{"cellula":'

KINDS = {
    "model": "a model (`model.safetensors`)",
    "checkpoint": "a training checkpoint (`checkpoint.safetensors`; the model is `model.safetensors`)",
}


def write_tensor_file(
    path: Path, kind: str, tensors: Mapping[str, torch.Tensor], metadata: Mapping[str, object]
) -> None:
    """Writes tensors and metadata to one file, whole or not at all."""
    stored = {name: own_copy(name, tensor) for name, tensor in tensors.items()}
    content = plain(metadata, finite=True, where="metadata")
    entry = {"format": FORMAT_VERSION, "kind": kind, "sha256": checksum(stored, content), "metadata": content}
    write_atomic(path, encode_tensors(stored, {"cellula": canonical_text(entry)}))


def read_tensor_file(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Reads what `write_tensor_file` wrote; RunError where it is damaged, foreign, newer or another kind."""
    data, entry = read_checked(path)
    version = entry.get("format")
    if isinstance(version, int) and version > FORMAT_VERSION:
        raise RunError(
            f"{path} has format version {version}; this Cellula reads up to {FORMAT_VERSION}: update Cellula"
        )
    if entry.get("kind") in KINDS and entry["kind"] != kind:
        raise RunError(f"{path} is {KINDS[str(entry['kind'])]}; expected {KINDS[kind]}")
    metadata = entry.get("metadata")
    if version != FORMAT_VERSION or entry.get("kind") != kind or not isinstance(metadata, dict):
        raise damaged(path, "its description is not what Cellula writes")
    try:
        tensors = decode_tensors(data)
        agrees = checksum(tensors, metadata) == entry.get("sha256")
    # What safetensors and torch raise on a header that does not fit its data.
    except (SafetensorError, KeyError, TypeError, ValueError, RuntimeError, RecursionError) as error:
        raise damaged(path, str(error)) from error
    if not agrees:
        raise damaged(path, "its content does not match its checksum")
    return tensors, metadata


def read_checked(path: Path) -> tuple[bytes, dict[str, Any]]:
    """The bytes of a file and our entry of its header; foreign and truncated files are refused early."""
    if path.is_dir():
        raise RunError(f"{path} is a folder, not a model file; a run's model is {path / 'model.safetensors'}")
    if path.exists() and not path.is_file():
        raise RunError(f"{path} is not a regular file; expected a file that Cellula wrote")
    with disk_errors("read", path), path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        if size == 0:
            raise damaged(path, "it is empty")
        start = file.read(8)
        length = int.from_bytes(start, "little")
        if len(start) < 8 or not 2 <= length <= LARGEST_HEADER:
            raise foreign(path, start)
        header_text = file.read(length)
        if len(header_text) < length:
            ours = header_text.startswith(OUR_START)
            raise damaged(path, f"it is cut off after {size} bytes") if ours else foreign(path, start)
        header = parse_header(path, header_text, start)
        missing = data_size(header) - (size - 8 - length)
        if missing > 0:
            raise damaged(path, f"it is cut off: it has {size} bytes, expected {size + missing}")
        return start + header_text + file.read(), our_entry(path, header, start)


def parse_header(path: Path, text: bytes, start: bytes) -> dict[str, Any]:
    """The header as a dict; it is JSON in every safetensors file."""
    try:
        header = json.loads(text)
    except (ValueError, RecursionError) as error:
        if text.startswith(OUR_START):
            raise damaged(path, f"its header is not JSON: {error}") from error
        raise foreign(path, start) from error
    if not isinstance(header, dict):
        raise foreign(path, start)
    return header


def our_entry(path: Path, header: dict[str, Any], start: bytes) -> dict[str, Any]:
    """What Cellula wrote into the header beside the tensors."""
    notes = header.get("__metadata__")
    text = notes.get("cellula") if isinstance(notes, dict) else None
    if not isinstance(text, str):
        raise foreign(path, start)
    try:
        entry = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise damaged(path, f"its description is not JSON: {error}") from error
    if not isinstance(entry, dict):
        raise damaged(path, "its description is not what Cellula writes")
    return entry


def data_size(header: dict[str, Any]) -> int:
    """How many bytes of tensors the header promises; 0 where it is too damaged to say."""
    ends = [0]
    for name, place in header.items():
        offsets = place.get("data_offsets") if isinstance(place, dict) and name != "__metadata__" else None
        if isinstance(offsets, list) and len(offsets) == 2 and isinstance(offsets[1], int):
            ends.append(offsets[1])
    return max(ends)


def checksum(tensors: Mapping[str, torch.Tensor], metadata: object) -> str:
    """SHA-256 over the metadata and every tensor's name, type, shape and bytes, in the order of names."""
    digest = hashlib.sha256(canonical_text(metadata).encode())
    for name in sorted(tensors):
        tensor = tensors[name]
        digest.update(f"\0{name}\0{tensor.dtype}\0{tuple(tensor.shape)}\0".encode(errors="surrogatepass"))
        digest.update(tensor.reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()


def own_copy(name: str, tensor: object) -> torch.Tensor:
    """A contiguous copy on the CPU: safetensors refuses tensors that share memory, as tied weights do."""
    if not isinstance(tensor, torch.Tensor):
        raise UsageError(f"{name!r} is {type(tensor).__name__}; a model file holds tensors only")
    return tensor.detach().to("cpu", copy=True).contiguous()


def damaged(path: Path, reason: str) -> RunError:
    """The error for a file that is ours and broken."""
    return RunError(f"{path} is damaged: {reason}; copy it again, or make it anew")


def foreign(path: Path, start: bytes) -> RunError:
    """The error for a file that Cellula did not write, by its first bytes."""
    if start.startswith((b"PK\x03\x04", b"\x80\x02")):
        return RunError(
            f"{path} looks like a file of torch.save: such a file can run code when it is read, "
            "so Cellula never opens one; expected a model that Cellula saved (model.safetensors)"
        )
    return RunError(
        f"{path} was not written by Cellula, or is damaged at its start: its header has no Cellula entry; "
        "expected a model that Cellula saved (model.safetensors)"
    )
