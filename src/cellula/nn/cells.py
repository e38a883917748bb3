"""LSTMCell, GRUCell and RNNCell for code that was written for torch.nn: one step of a formula."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

from cellula.errors import ShapeError, UsageError
from cellula.nn.checks import autocasts, parts_of
from cellula.nn.direction import Borrowed, run_forward
from cellula.nn.forms import MODES, Form, form_of, program_of

__all__ = ["Cell", "GRUCell", "LSTMCell", "RNNCell"]


class Cell(nn.RNNCellBase):
    """What `LSTMCell`, `GRUCell` and `RNNCell` have in common; not to be made itself.

    Called with `(input, hx)` as the cells of torch.nn are:

    Args:
        input: one step [B, I], or [I] without a batch.
        hx: the state before it [B, H] or [H], for an LSTM a tuple (h, c); None for zero.

    Returns:
        The state after it, as hx.

    Raises:
        ShapeError: a shape does not fit; it is a RuntimeError, as torch's, and a ValueError.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.make_ready()

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        self.make_ready()

    def make_ready(self) -> None:
        """Make the program now, since torch.compile cannot."""
        program_of(self._form)

    @property
    def _form(self) -> Form:
        raise NotImplementedError

    def forward(self, input: Tensor, hx: Any = None) -> Any:
        """Run one step; see the class."""
        if autocasts(self, input):
            return self._without_autocast(input, hx)
        form, size = self._form, self.hidden_size
        name, batched = type(self).__name__, input.ndim == 2
        if input.ndim not in (1, 2):
            raise UsageError(f"{name}: Expected input to be 1D or 2D, got {input.ndim}D instead")
        x = input if batched else input.unsqueeze(0)
        if x.shape[1] != self.input_size:
            raise ShapeError(f"input has inconsistent input_size: got {x.shape[1]} expected {self.input_size}")
        parts = self._parts(hx)
        borrowed = self._borrowed(form)
        if parts is None:
            start = borrowed.start(x.unsqueeze(0))
        else:
            parts = [part if batched else part.unsqueeze(0) for part in parts]
            for number, part in enumerate(parts):
                self._check_part(part, number, x.shape[0])
            start = dict(zip(form.states, parts, strict=True))
        state = run_forward(borrowed, x.unsqueeze(0), start, {}, None, ()).state
        after = [state[slot] if batched else state[slot].reshape(size) for slot in form.states]
        return after[0] if len(after) == 1 else tuple(after)

    def _borrowed(self, form: Form) -> Borrowed:
        parameters = form.parameters(self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh, None)
        sizes = {"input": self.input_size, "hidden": self.hidden_size}
        return Borrowed(
            program_of(form), parameters, sizes, dict.fromkeys(form.states, self.hidden_size), self.training
        )

    def _without_autocast(self, input: Tensor, hx: Any) -> Any:
        """As if autocast were off, in the type of the parameters, which is never less exact."""
        dtype, parts = self.weight_ih.dtype, self._parts(hx)
        if parts is not None:
            hx = parts[0].to(dtype) if len(parts) == 1 else tuple(part.to(dtype) for part in parts)
        with torch.autocast(input.device.type, enabled=False):
            return self.forward(input.to(dtype), hx)

    def _parts(self, hx: Any) -> list[Tensor] | None:
        parts = parts_of(self, hx, self._form.states)
        for number, part in enumerate(parts or ()):
            if part.ndim not in (1, 2):
                what = "hidden" if isinstance(hx, Tensor) else f"hx[{number}]"
                raise UsageError(f"{type(self).__name__}: Expected {what} to be 1D or 2D, got {part.ndim}D instead")
        return parts

    def _check_part(self, part: Tensor, number: int, rows: int) -> None:
        if part.shape[0] != rows:
            raise ShapeError(f"Input batch size {rows} doesn't match hidden{number} batch size {part.shape[0]}")
        if part.ndim != 2 or part.shape[1] != self.hidden_size:
            found = part.shape[1] if part.ndim > 1 else "no units"
            raise ShapeError(f"hidden{number} has inconsistent hidden_size: got {found}, expected {self.hidden_size}")


class LSTMCell(Cell):
    """One step of a long short-term memory, in the place of `torch.nn.LSTMCell`.

    Args:
        input_size, hidden_size, bias, device, dtype: as in torch.nn.LSTMCell.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> h, c = nn.LSTMCell(3, 8)(torch.zeros(4, 3))
        >>> h.shape, c.shape
        (torch.Size([4, 8]), torch.Size([4, 8]))
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    @property
    def _form(self) -> Form:
        return form_of("LSTM", False)


class GRUCell(Cell):
    """One step of a gated recurrent unit, in the place of `torch.nn.GRUCell`.

    Args:
        input_size, hidden_size, bias, device, dtype: as in torch.nn.GRUCell.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> nn.GRUCell(3, 8)(torch.zeros(4, 3)).shape
        torch.Size([4, 8])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    @property
    def _form(self) -> Form:
        return form_of("GRU", False)


class RNNCell(Cell):
    """One step of an Elman network, in the place of `torch.nn.RNNCell`.

    Args:
        input_size, hidden_size, bias, nonlinearity, device, dtype: as in torch.nn.RNNCell.

    Example:
        >>> import torch
        >>> from cellula import nn
        >>> nn.RNNCell(3, 8, nonlinearity="relu")(torch.zeros(3)).shape
        torch.Size([8])
    """

    def __init__(
        self, input_size: int, hidden_size: int, bias: bool = True, nonlinearity: str = "tanh",
        device: torch.device | str | None = None, dtype: torch.dtype | None = None,
    ) -> None:  # fmt: skip
        if nonlinearity not in MODES:
            raise UsageError(f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.")
        self.nonlinearity = nonlinearity
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)

    @property
    def _form(self) -> Form:
        return form_of(MODES[self.nonlinearity], False)
