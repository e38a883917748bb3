"""A call as a function of torch with its gradients: by the kernels, in segments, or by the reference once more."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor

from cellula.backends.c.launch.calls import Made, run_forward
from cellula.backends.c.launch.inputs import Inputs, backward, forward, made_ready

__all__ = ["Run", "differentiable"]


def _is_batched(*gradients: Tensor | None) -> bool:
    """Whether many gradients at a time are asked for, as `is_grads_batched` does; kernels take one."""
    return any(
        one is not None and (is_legacy_batchedtensor(one) or is_functorch_wrapped_tensor(one)) for one in gradients
    )


class Run(torch.autograd.Function):
    """The steps with their gradients; a second derivative is left to the reference."""

    @staticmethod
    def forward(ctx, inputs: Inputs, *values: Tensor):
        ctx.inputs, ctx.count, ctx.used = inputs, len(values), False
        ctx.set_materialize_grads(False)
        if inputs.every and inputs.every < values[0].shape[0]:
            output, final, kept = _run_segments(inputs, values)
            ctx.series = -1
            ctx.save_for_backward(*values, output, *kept)
            return output, *final
        made = forward(inputs, values, True)
        ctx.series = len(made.series)
        work = () if made.work is None else (made.work,)
        ctx.save_for_backward(*values, made.output, *made.series, *work)
        return made.output, *made.final, *made.records

    @staticmethod
    def backward(ctx, d_output: Tensor | None, *d_rest: Tensor | None):
        inputs, saved = ctx.inputs, ctx.saved_tensors
        values, wanted = saved[: ctx.count], ctx.needs_input_grad[1:]
        if torch.is_grad_enabled() or _is_batched(d_output, *d_rest):
            with torch.enable_grad():
                return None, *differentiable(inputs, values, (d_output, *d_rest), wanted)
        count = len(inputs.program.slots)
        d_final, d_records = d_rest[:count], d_rest[count:]
        # What autocast would do to the products here is not wanted.
        with torch.autocast("cpu", enabled=False) if torch.is_autocast_enabled("cpu") else nullcontext():
            output, *rest = saved[ctx.count :]
            if ctx.series < 0:
                return None, *_back_through_segments(inputs, values, output, rest, d_output, d_final, wanted)
            if ctx.used:
                # The first walk back has put gradients in the place of what was saved.
                made = forward(inputs, values, True)
            else:
                work = rest[-1] if len(rest) > ctx.series else None
                made = Made(output, [], rest[: ctx.series], work, [])
            ctx.used = True
            return None, *backward(inputs, values, made, d_output, d_final, wanted, d_records)


def _segments(inputs: Inputs, steps: int) -> list[tuple[int, int]]:
    return [(start, min(start + inputs.every, steps)) for start in range(0, steps, inputs.every)]


def _run_segments(inputs: Inputs, values: Sequence[Tensor]) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The output, the final states, and the states before every segment, one after the other."""
    x, states, rest = values[0], inputs.program.states_of(values), values[1 + len(inputs.program.slots) :]
    output, kept = None, []
    for start, end in _segments(inputs, len(x)):
        kept += states
        part = inputs.segment(start, end)
        call = part.call(False, x.dtype)
        if output is None:
            output = call.empty(x, len(x), x.shape[1], call.shape.output)
        made = run_forward(call, *made_ready(part, (x[start:end], *states, *rest), call), output[start:end])
        states = made.final
    assert output is not None
    return output, list(states), kept


def _back_through_segments(
    inputs: Inputs, values: Sequence[Tensor], output: Tensor, kept: Sequence[Tensor], d_output: Tensor | None,
    d_final: Sequence[Tensor | None], wanted: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """From the last segment to the first: its steps once more, then back through them."""
    x, count = values[0], len(inputs.program.slots)
    rest = values[1 + count :]
    d_x = torch.empty_like(x) if wanted[0] else None
    totals: list[Tensor | None] = [None] * len(rest)
    carried = list(d_final)
    each = [wanted[0], *([True] * count), *wanted[1 + count :]]
    segments = _segments(inputs, len(x))
    for number in reversed(range(len(segments))):
        start, end = segments[number]
        states = kept[number * count : (number + 1) * count]
        part, given = inputs.segment(start, end), (x[start:end], *states, *rest)
        call = part.call(True, x.dtype)
        made = run_forward(call, *made_ready(part, given, call), output[start:end])
        d_part = None if d_output is None else d_output[start:end]
        found = backward(part, given, made, d_part, carried, each)
        part_x = found[0]
        if d_x is not None and part_x is not None:
            d_x[start:end] = part_x
        carried = found[1 : 1 + count]
        for place, gradient in enumerate(found[1 + count :]):
            before = totals[place]
            totals[place] = gradient if before is None or gradient is None else before.add_(gradient)
    return [d_x, *(part if want else None for part, want in zip(carried, wanted[1:], strict=False)), *totals]


def differentiable(
    inputs: Inputs, values: Sequence[Tensor], gradients: Sequence[Tensor | None], wanted: Sequence[bool]
) -> list[Tensor | None]:
    """The gradients by the reference, which can be differentiated again."""
    # A tensor may stand in two places, or be made of another one: each place has a gradient of its own.
    values = [value.view_as(value) for value in values]
    x, state, parameters = inputs.program.split(values)
    alive = None
    if inputs.lengths is not None:
        alive = (torch.arange(x.shape[0])[:, None] < inputs.lengths).unsqueeze(-1)
    result = inputs.program.reference(
        x,
        state,
        parameters,
        inputs.settings,
        inputs.sizes,
        alive=alive,
        training=bool(inputs.masks),
        masks=inputs.masks,
        record=inputs.record,
    )
    ends = [result.output, *result.state.values(), *(result.recorded[name] for name in inputs.record)]
    pairs = [(end, given) for end, given in zip(ends, gradients, strict=True) if given is not None]
    pairs = [(end, given) for end, given in pairs if end.requires_grad]
    leaves = [value for value, want in zip(values, wanted, strict=True) if want]
    if not pairs:
        return [torch.zeros_like(value) if want else None for value, want in zip(values, wanted, strict=True)]
    found = iter(
        torch.autograd.grad([e for e, _ in pairs], leaves, [g for _, g in pairs], create_graph=True, allow_unused=True)
    )
    return [next(found) if want else None for want in wanted]
