"""What a lens looks at: a layer and what goes into it, found in whatever the caller has."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor, nn

from cellula.errors import UsageError
from cellula.graph.names import nearest
from cellula.nn.recurrent import Recurrent

__all__ = ["Inspectable", "Inspected", "Shown", "Subject", "find_subject"]


@dataclass(frozen=True, eq=False)
class Shown:
    """What stands beside the units in a picture: the input, or what a person knows it by.

    Args:
        values: [R, B, C]; R is T, or a multiple of it.
        names: of the C columns.
        rows_per_step: R / T: rows that the layer reads in one step.
        title: what it is.
        step: what one step is, for the axis; nothing where a step is a step.
    """

    values: np.ndarray
    names: tuple[str, ...]
    rows_per_step: int = 1
    title: str = "input"
    step: str = ""


@dataclass(frozen=True, eq=False)
class Inspected:
    """A trained model as a lens takes it.

    Args:
        module: with one or several `Recurrent` in it.
        arguments: what to call it with.
        within: the name of the layer in the module to look at.
        shown: what stands beside the units.
        row_names: of the sequences; nothing where they have no names.
    """

    module: nn.Module
    arguments: tuple[Any, ...]
    within: str
    shown: Shown
    row_names: tuple[str, ...] = ()


@runtime_checkable
class Inspectable(Protocol):
    """A model that knows how to be looked at, such as a forecaster."""

    def inspected(self, data: Any, within: str | None) -> Inspected:
        """Its network, what goes into it for this data, and what a person knows that by."""
        ...


@dataclass(frozen=True, eq=False)
class Subject:
    """A layer, its input [T, B, I] ([B, T, I] with `batch_first`), where it starts, and what to show beside it.

    `part` is its name in a model.
    """

    layer: Recurrent
    x: Tensor
    state: Any
    shown: Shown
    row_names: tuple[str, ...] = ()
    part: str = ""


def find_subject(subject: Any, x: Any, state: Any, within: str | None) -> Subject:
    """A layer with its input, from a layer, a module around one, or a model that is `Inspectable`."""
    if isinstance(subject, Recurrent):
        if within is not None:
            raise UsageError(f"within={within!r} names a part of a module, and a Recurrent has none; leave it out")
        return Subject(subject, _checked(subject, x), state, shown_of(subject, x))
    if isinstance(subject, Inspectable):
        found = subject.inspected(x, within)
        captured = _captured(found.module, found.arguments, found.within)
        return Subject(captured.layer, captured.x, captured.state, found.shown, found.row_names, found.within)
    if isinstance(subject, nn.Module):
        if state is not None:
            raise UsageError("state= is that of a Recurrent; a module around one gives its own")
        return _captured(subject, x if isinstance(x, tuple) else (x,), within)
    raise UsageError(
        f"a lens looks at a Recurrent, a module with one in it, or a Forecaster, not at {type(subject).__name__}"
    )


def shown_of(layer: Recurrent, x: Tensor) -> Shown:
    """The input itself."""
    rows = x.transpose(0, 1) if layer.batch_first else x
    names = tuple(f"x {number}" for number in range(rows.shape[2])) if rows.shape[2] > 1 else ("x",)
    return Shown(rows.detach().cpu().double().numpy(), names)


def _checked(layer: Recurrent, x: Any) -> Tensor:
    rows = layer._checked(x)
    if rows.shape[1] == 0:
        raise UsageError("the input has no rows (B = 0); give at least one sequence")
    if not bool(torch.isfinite(rows).all()):
        raise UsageError("the input holds a number that is not finite (NaN or infinity); remove it")
    return x


def _layer_of(module: nn.Module, within: str | None) -> tuple[str, Recurrent]:
    """The one recurrent layer of a module, or the named one."""
    found = {name: part for name, part in module.named_modules() if isinstance(part, Recurrent)}
    if not found:
        raise UsageError(f"there is no Recurrent in {type(module).__name__}; give a module made of one")
    if within is None and len(found) == 1:
        return next(iter(found.items()))
    if within is None:
        raise UsageError(
            f"{type(module).__name__} has several recurrent layers; say which one: "
            + " or ".join(f"within={name!r}" for name in found)
        )
    if within not in found:
        raise UsageError(f"within={within!r}: {nearest(within, found, 'there is ' + ', '.join(found))}")
    return within, found[within]


def _captured(module: nn.Module, arguments: tuple[Any, ...], within: str | None) -> Subject:
    """Run a module, and keep what went into one of its layers."""
    name, layer = _layer_of(module, within)
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
    handle = layer.register_forward_pre_hook(lambda _, args, named: calls.append((args, named)), with_kwargs=True)
    try:
        with evaluating(module), torch.no_grad():
            module(*arguments)
    finally:
        handle.remove()
    if len(calls) != 1:
        raise UsageError(
            f"{name} was called {len(calls)} times, and a lens looks at one call: give the layer itself and its input"
        )
    args, named = calls[0]
    given = dict(zip(("x", "state"), args, strict=False)) | named
    if given.get("lengths") is not None or given.get("reset") is not None:
        raise UsageError(f"{name} is called with lengths= or reset=; give sequences of one length, one after another")
    x = _checked(layer, given["x"])
    return Subject(layer, x, given.get("state"), shown_of(layer, x))


@contextmanager
def evaluating(module: nn.Module) -> Iterator[None]:
    """Dropout and the like at their expectation; every part gets its own mode back."""
    modes = {part: part.training for part in module.modules()}
    module.eval()
    try:
        yield
    finally:
        for part, training in modes.items():
            part.training = training
