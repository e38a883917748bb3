"""Swap the recurrent layers of a whole model for drop-ins, and back, in place."""

from __future__ import annotations

import warnings
from typing import TypeVar

from torch import nn
from torch.nn.utils import parametrize

from cellula.errors import UsageError
from cellula.nn.cells import Cell, GRUCell, LSTMCell, RNNCell
from cellula.nn.drop_in import GRU, LSTM, RNN
from cellula.nn.layers import Layers

__all__ = ["replace"]

# torch's class -> ours.
_PAIRS: dict[type[nn.Module], type[nn.Module]] = {
    nn.LSTM: LSTM,
    nn.GRU: GRU,
    nn.RNN: RNN,
    nn.LSTMCell: LSTMCell,
    nn.GRUCell: GRUCell,
    nn.RNNCell: RNNCell,
}
_SIDES = {"cellula": _PAIRS, "torch": {ours: theirs for theirs, ours in _PAIRS.items()}}

Model = TypeVar("Model", bound=nn.Module)


def replace(model: Model, to: str = "cellula") -> Model:
    """Turn every recurrent layer of torch.nn within a model into ours, or back.

    Every layer stays the object that it is and only gets another class. So its parameters, hooks, parametrizations and
    whatever refers to it stay too, and an optimizer that was made before goes on.

    Args:
        model: any module, or a layer itself; it is changed in place.
        to: `"cellula"`, or `"torch"` to go back.

    Returns:
        The model.

    Raises:
        UsageError: `to` is neither, or a layer has what torch's lacks (`proj_size` of a GRU or RNN); then nothing is
            changed.

    Warns:
        UserWarning: a class of someone's own that inherits from a recurrent layer is left as it is.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> model = torch.nn.ModuleDict({"encoder": torch.nn.LSTM(3, 8), "head": torch.nn.Linear(8, 1)})
        >>> nn.replace(model)["encoder"](torch.zeros(5, 2, 3), lengths=[5, 2])[0].shape
        torch.Size([5, 2, 8])
        >>> type(nn.replace(model, to="torch")["encoder"])
        <class 'torch.nn.modules.rnn.LSTM'>
    """
    if to not in _SIDES:
        raise UsageError(f"to={to!r}; write one of {', '.join(map(repr, _SIDES))}")
    pairs, found = _SIDES[to], []
    for name, module in model.named_modules():
        parametrized = parametrize.is_parametrized(module)
        kind = type(module).__bases__[0] if parametrized else type(module)
        if kind in pairs:
            _check_goes_back(name, module, to)
            found.append((module, pairs[kind], parametrized))
        elif isinstance(module, tuple(pairs)):
            warnings.warn(
                f"{name or 'the model'} is a {kind.__name__}, a class of its own that inherits from a recurrent layer; "
                "it is left as it is",
                stacklevel=2,
            )
    for module, kind, parametrized in found:
        _turn(module, kind, parametrized)
    return model


def _check_goes_back(name: str, module: nn.Module, to: str) -> None:
    if to == "torch" and isinstance(module, GRU | RNN) and module.proj_size:
        kind = "RNN" if isinstance(module, RNN) else "GRU"
        raise UsageError(
            f"{name or 'the model'} is a {kind} with proj_size={module.proj_size}, which torch.nn.{kind} does not "
            "have; nothing was changed"
        )


def _turn(module: nn.Module, kind: type[nn.Module], parametrized: bool) -> None:
    """Give a layer another class; one with parametrizations has a class of its own, whose properties stay."""
    if parametrized:
        kind = type(f"Parametrized{kind.__name__}", (kind,), dict(type(module).__dict__))
    module.__class__ = kind
    if isinstance(module, Layers | Cell):
        module.make_ready()
    elif isinstance(module, nn.RNNBase):
        module._init_flat_weights()
