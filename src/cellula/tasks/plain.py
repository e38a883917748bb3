"""Plain JSON values out of what Python, numpy and dataclasses hold."""

from __future__ import annotations

import dataclasses
import json
import math
from collections.abc import Mapping
from pathlib import PurePath

import numpy as np

from cellula.errors import UsageError

__all__ = ["canonical_text", "json_text", "plain"]


def plain(value: object, *, finite: bool = False, where: str = "value") -> object:
    """Turns a value into dicts, lists, strings, numbers and None.

    Args:
        value: dicts, lists, tuples, numpy arrays and scalars, dataclasses, paths, strings, numbers, None.
        finite: whether NaN and infinity are an error; otherwise they become None, as JSON has no word for
            them.
        where: how an error names the value.

    Returns:
        A value that `json.dumps` writes and `json.loads` gives back unchanged.

    Raises:
        UsageError: where a value has no plain form.

    Example:
        >>> plain({"sizes": (1, 2), "score": float("nan")})
        {'sizes': [1, 2], 'score': None}
    """
    if value is None or isinstance(value, (bool, int, str)):
        return value
    if isinstance(value, float):
        if math.isfinite(value):
            return float(value)
        if finite:
            raise UsageError(f"{where} is {value}: JSON has no word for it; give a finite number or None")
        return None
    if isinstance(value, Mapping):
        return {str(key): plain(entry, finite=finite, where=f"{where}.{key}") for key, entry in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(entry, finite=finite, where=f"{where}[{row}]") for row, entry in enumerate(value)]
    if isinstance(value, (np.datetime64, np.timedelta64, PurePath)):
        return str(value)
    if isinstance(value, np.ndarray) and value.dtype.kind in "mM":
        return plain(value.astype(str).tolist(), finite=finite, where=where)
    if isinstance(value, (np.ndarray, np.generic)):
        return plain(value.tolist(), finite=finite, where=where)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return plain(dataclasses.asdict(value), finite=finite, where=where)
    raise UsageError(
        f"{where} is {value!r} ({type(value).__name__}): it has no JSON form; "
        "give numbers, strings, lists, dicts or None"
    )


def json_text(value: object) -> str:
    """The JSON text of a value for people to read: indented, one newline at the end."""
    return json.dumps(plain(value), indent=2, ensure_ascii=False) + "\n"


def canonical_text(value: object) -> str:
    """The one JSON text of a plain value: keys sorted, no spaces; equal values give equal texts."""
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)
