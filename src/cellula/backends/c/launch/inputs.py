"""What one call is about, and its two directions: the steps forward and the steps backward."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from cellula.backends.c.launch.calls import Call, Made, run_backward, run_forward
from cellula.backends.reference import evaluate
from cellula.graph.node import Constant, Node, Parameter, Setting, walk
from cellula.plan.kernel import Kernel

if TYPE_CHECKING:
    from cellula.backends.c.launch.program import CProgram

__all__ = ["Inputs", "backward", "forward", "made_ready"]


@dataclass(frozen=True)
class Inputs:
    """What one call is about.

    Args:
        program: the cell.
        sizes: name -> number of units.
        settings: name -> number.
        lengths: steps of every row, or None where all run all steps.
        masks: the random masks, in the order of the plan; none where nothing is drawn.
        record: names of nodes to return.
        every: keep the states of every so many steps only, and compute the steps between again; 0: keep all.
    """

    program: CProgram
    sizes: Mapping[str, int]
    settings: Mapping[str, float]
    lengths: Tensor | None
    masks: tuple[Tensor, ...]
    record: tuple[str, ...] = ()
    every: int = 0

    def segment(self, start: int, end: int) -> Inputs:
        """The same for some of the steps."""
        lengths = None if self.lengths is None else (self.lengths - start).clamp(0, end - start)
        masks = tuple(
            drawn[start:end] if mask.leaf.draw.per == "step" else drawn
            for mask, drawn in zip(self.program.plan.masks, self.masks, strict=False)
        )
        return replace(self, lengths=lengths, masks=masks, every=0)

    def call(self, saving: bool, dtype: torch.dtype) -> Call:
        """The kernel with all that does not change between the directions."""
        shape = self.program.shape(bool(self.masks), saving, self.record, dtype, self.sizes)
        masks = self.masks
        if masks:
            numbered = {mask.leaf.number: drawn for mask, drawn in zip(self.program.plan.masks, masks, strict=True)}
            masks = tuple(numbered[mask.leaf.number] for mask in shape.kernel.plan.masks)
        settings = [self.settings[name] for name in shape.layout.settings] or (0.0,)
        return Call(shape, settings, self.lengths, masks)


def made_ready(inputs: Inputs, values: Sequence[Tensor], call: Call) -> tuple[Tensor, list[Tensor], list[Tensor]]:
    """The tensors as a kernel takes them: the input, the states, the parameters in its order."""
    program, shape = inputs.program, call.shape
    count = 1 + len(program.slots)
    parameters = dict(zip(program.parameters, values[count:], strict=True))
    if shape.kernel.once:
        parameters |= once_values(shape.kernel, parameters, inputs.settings, inputs.sizes, values[0])
    ordered = [parameters[name] for name in shape.layout.matrices]
    ordered += [parameters[name].contiguous() for name in shape.layout.vectors]
    return values[0].contiguous(), [value.contiguous() for value in values[1:count]], ordered


def forward(inputs: Inputs, values: Sequence[Tensor], saving: bool) -> Made:
    """Run the steps forward."""
    call = inputs.call(saving, values[0].dtype)
    return run_forward(call, *made_ready(inputs, values, call))


def backward(
    inputs: Inputs, values: Sequence[Tensor], made: Made, d_output: Tensor | None, d_final: Sequence[Tensor | None],
    wanted: Sequence[bool], d_records: Sequence[Tensor | None] = (),
) -> list[Tensor | None]:  # fmt: skip
    """Run the steps backward; the gradients are in the order of the values, None where not wanted."""
    program = inputs.program
    call = inputs.call(True, values[0].dtype)
    count, shape = 1 + len(program.slots), call.shape
    wants = dict(zip(program.parameters, wanted[count:], strict=True))
    # What is computed once is wanted for the sake of the parameters behind it.
    wants_each = [wants.get(name, True) for name in shape.parameters]
    d_output = torch.zeros_like(made.output) if d_output is None else d_output.contiguous()
    d_final = [None if part is None else part.contiguous() for part in d_final]
    d_records = [
        values[0].new_zeros((*values[0].shape[:2], size)) if part is None else part.contiguous()
        for part, size in zip(d_records, shape.records, strict=True)
    ]
    found = run_backward(
        call, *made_ready(inputs, values, call), made, d_output, d_final, wanted[0], wants_each, d_records
    )  # fmt: skip
    gradients = dict(zip(shape.parameters, found.parameters, strict=True))
    if shape.kernel.once:
        gradients |= _through_once(inputs, values, call, gradients)
    every = [found.x, *found.state, *(gradients.get(name) for name in program.parameters)]
    return [
        (torch.zeros_like(value) if gradient is None else gradient) if want else None
        for gradient, value, want in zip(every, values, wanted, strict=True)
    ]


def once_values(
    kernel: Kernel, parameters: Mapping[str, Tensor], settings: Mapping[str, float | Tensor], sizes: Mapping[str, int],
    like: Tensor,
) -> dict[str, Tensor]:  # fmt: skip
    """The values that are computed before the first step, in torch, so that gradients flow through them."""
    found: dict[str, Tensor] = {}
    registers: dict[Node, Tensor] = {}
    for node in walk(one.node for one in kernel.once):
        what = node.attribute
        if isinstance(what, Parameter):
            value = parameters[what.name]
            registers[node] = value if value.ndim else value.reshape(1)
        elif isinstance(what, Setting | Constant):
            number = what.value if isinstance(what, Constant) else settings[what.name]
            registers[node] = torch.as_tensor(number, dtype=like.dtype, device=like.device).reshape(1)
    for one in kernel.once:
        value = evaluate([one.node], registers, sizes)[one.node]
        size = one.parameter.size
        found[one.parameter.name] = value.reshape(()) if size is None else value.expand(sizes[size])
    return found


def _through_once(
    inputs: Inputs, values: Sequence[Tensor], call: Call, gradients: Mapping[str, Tensor | None]
) -> dict[str, Tensor]:
    """Gradients of the parameters behind the values that are computed before the first step."""
    x, _, parameters = inputs.program.split(values)
    names = [one.parameter.name for one in call.shape.kernel.once if gradients.get(one.parameter.name) is not None]
    if not names:
        return {}

    def once(given: Mapping[str, Tensor]) -> list[Tensor]:
        found = once_values(call.shape.kernel, given, inputs.settings, inputs.sizes, x)
        return [found[name] for name in names]

    # torch.func differentiates within an operator too, where torch.autograd records nothing.
    found, pull, *_ = torch.func.vjp(once, {name: value.detach() for name, value in parameters.items()})
    given = [gradients[name] for name in names]
    back = [one.reshape(value.shape) for one, value in zip(given, found, strict=True) if one is not None]
    result = {}
    for name, gradient in pull(back)[0].items():
        before = gradients.get(name)
        result[name] = gradient if before is None else gradient + before
    return result
