"""The kernels as operators of torch: `torch.compile` keeps them whole, whatever the number of steps."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from cellula.backends.c.launch.calls import Made
from cellula.backends.c.launch.function import differentiable
from cellula.backends.c.launch.inputs import Inputs, backward, forward
from cellula.backends.c.launch.registry import program_of

__all__ = ["backward_operator", "differentiate", "forward_operator"]


def _inputs(
    program: int, masks: Sequence[Tensor], lengths: Tensor | None, sizes: Sequence[int], settings: Sequence[float]
) -> Inputs:
    cell = program_of(program)
    names = (setting.name for setting in cell.plan.graph.settings)
    return Inputs(
        cell,
        dict(zip(cell.size_names, sizes, strict=True)),
        dict(zip(names, settings, strict=False)),
        lengths,
        tuple(masks),
    )


@torch.library.custom_op("cellula::forward", mutates_args=(), device_types="cpu")
def forward_operator(
    program: int, values: list[Tensor], masks: list[Tensor], lengths: Tensor | None, sizes: list[int],
    settings: list[float], saving: bool,
) -> list[Tensor]:  # fmt: skip
    """The output, the final states, and what the backward steps need."""
    made = forward(_inputs(program, masks, lengths, sizes, settings), values, saving)
    return [made.output, *made.final, *made.series, *(() if made.work is None else (made.work,))]


@forward_operator.register_fake
def _(
    program: int, values: list[Tensor], masks: list[Tensor], lengths: Tensor | None, sizes: list[int],
    settings: list[float], saving: bool,
) -> list[Tensor]:  # fmt: skip
    x = values[0]
    steps, batch, _ = x.shape
    inputs = _inputs(program, masks, lengths, sizes, settings)
    shape = inputs.program.shape(bool(masks), saving, (), x.dtype, inputs.sizes)
    made = [x.new_empty(steps, batch, shape.output)]
    made += [x.new_empty(batch, size) for size in shape.states]
    made += [x.new_empty(steps, batch, shape.states[number]) for number in shape.series]
    return made + ([x.new_empty(steps, batch, shape.work)] if shape.work else [])


@torch.library.custom_op("cellula::backward", mutates_args=(), device_types="cpu")
def backward_operator(
    program: int, values: list[Tensor], masks: list[Tensor], lengths: Tensor | None, sizes: list[int],
    settings: list[float], made: list[Tensor], d_output: Tensor, d_final: list[Tensor], wanted: list[bool],
) -> list[Tensor]:  # fmt: skip
    """The gradients that are wanted."""
    inputs = _inputs(program, masks, lengths, sizes, settings)
    shape = inputs.program.shape(bool(masks), True, (), values[0].dtype, inputs.sizes)
    output, *rest = made
    series = rest[: len(shape.series)]
    # The steps put gradients in the place of what was saved, and the graph's own tensors must stay as they are.
    work = rest[-1].clone() if shape.work else None
    found = backward(inputs, values, Made(output, [], series, work, []), d_output, d_final, wanted)
    values_ = zip(found, values, strict=True)
    return [_own(gradient, value) for gradient, value in values_ if gradient is not None]


def _own(gradient: Tensor, like: Tensor) -> Tensor:
    """Results of an operator share no memory and are laid out as promised."""
    return gradient.reshape(like.shape).clone(memory_format=torch.contiguous_format)


@backward_operator.register_fake
def _(
    program: int, values: list[Tensor], masks: list[Tensor], lengths: Tensor | None, sizes: list[int],
    settings: list[float], made: list[Tensor], d_output: Tensor, d_final: list[Tensor], wanted: list[bool],
) -> list[Tensor]:  # fmt: skip
    return [value.new_empty(value.shape) for value, want in zip(values, wanted, strict=True) if want]


def _keep(ctx, inputs: tuple, output: list[Tensor]) -> None:
    program, values, masks, lengths, sizes, settings, saving = inputs
    ctx.program, ctx.sizes, ctx.settings, ctx.saving = program, sizes, settings, saving
    ctx.counts = len(values), len(masks), len(output), lengths is not None
    ctx.wanted = [value.requires_grad for value in values]
    ctx.save_for_backward(*values, *masks, *output, *(() if lengths is None else (lengths,)))


def _differentiate(ctx, gradients: list[Tensor | None]) -> tuple:
    values_count, masks_count, made_count, ragged = ctx.counts
    saved = list(ctx.saved_tensors)
    values, saved = saved[:values_count], saved[values_count:]
    masks, saved = saved[:masks_count], saved[masks_count:]
    made, rest = saved[:made_count], saved[made_count:]
    states = len(program_of(ctx.program).slots)
    given = [
        torch.zeros_like(value) if gradient is None else gradient
        for gradient, value in zip(gradients[: 1 + states], made, strict=False)
    ]
    found = iter(
        torch.ops.cellula.backward(
            ctx.program, values, masks, rest[0] if ragged else None, ctx.sizes, ctx.settings,
            [made[0], *made[1 + states :]], given[0], given[1:], ctx.wanted,
        )
    )  # fmt: skip
    return None, [next(found) if want else None for want in ctx.wanted], [None] * masks_count, None, None, None, None


forward_operator.register_autograd(_differentiate, setup_context=_keep)


def differentiate(
    recipe: Tensor, values: list[Tensor], gradients: list[Tensor | None], wanted: list[bool]
) -> list[Tensor]:
    """What the binding leaves to Python: the gradients that are wanted, so that they can be differentiated again."""
    program, sizes, settings, stacked, single = recipe.about  # pyright: ignore[reportAttributeAccessIssue]
    states = slice(1, 1 + len(program.slots))
    # A single step has no axis of steps, and the states of a module have one of layers.
    values, given = list(values), list(gradients)
    if single:
        values[0], given[0] = values[0].unsqueeze(0), given[0] if given[0] is None else given[0].unsqueeze(0)
    if stacked:
        values[states] = [value.squeeze(0) for value in values[states]]
        given[states] = [one if one is None else one.squeeze(0) for one in given[states]]
    found = differentiable(Inputs(program, sizes, settings, None, ()), values, given, wanted)
    if single:
        found[0] = found[0] if found[0] is None else found[0].squeeze(0)
    if stacked:
        found[states] = [one if one is None else one.unsqueeze(0) for one in found[states]]
    return [one for one in found if one is not None]


# Kept, since the operator goes when the library does.
_library = torch.library.Library("cellula_binding", "FRAGMENT")
_library.define("differentiate(Tensor recipe, Tensor[] values, Tensor?[] gradients, bool[] wanted) -> Tensor[]")
# Many gradients at a time go through the same steps of torch.
for _key in ("CompositeImplicitAutograd", "Batched", "FuncTorchBatched"):
    _library.impl("differentiate", differentiate, _key)
