"""A cell as a program that runs generated C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor
from torch.autograd import forward_ad

from cellula.backends.c.launch.calls import Call, Made, Shape, once_values, run_backward, run_forward
from cellula.backends.c.launch.kernels import compiled
from cellula.backends.reference import ReferenceProgram, Result, draw_masks
from cellula.errors import UsageError
from cellula.plan.plan import Plan

__all__ = ["CProgram", "Inputs"]

DTYPES = (torch.float32, torch.float64)


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
    """

    program: CProgram
    sizes: Mapping[str, int]
    settings: Mapping[str, float]
    lengths: Tensor | None
    masks: tuple[Tensor, ...]
    record: tuple[str, ...] = ()

    def call(self, saving: bool, dtype: torch.dtype) -> Call:
        """The kernel with all that does not change between the directions."""
        shape = self.program.shape(bool(self.masks), saving, self.record, dtype, self.sizes)
        masks = {mask.leaf.number: drawn for mask, drawn in zip(self.program.plan.masks, self.masks, strict=False)}
        return Call(shape, self.settings, self.lengths, masks)


class CProgram:
    """A plan as machine code, compiled when it first runs.

    Args:
        plan: what runs when.
    """

    name = "c"

    def __init__(self, plan: Plan) -> None:
        self.plan = plan
        self.slots = tuple(state.slot for state in plan.graph.states)
        self.parameters = tuple(parameter.name for parameter in plan.graph.parameters)
        self.reference = ReferenceProgram(plan)
        self.shapes: dict[tuple, Shape] = {}

    def shape(
        self, drawing: bool, saving: bool, record: tuple[str, ...], dtype: torch.dtype, sizes: Mapping[str, int]
    ) -> Shape:
        """The machine code for one kind of call.

        Raises:
            CompilerError: there is no compiler, or it failed.
        """
        key = (drawing, saving, record, dtype, *sizes.values())
        found = self.shapes.get(key)
        if found is None:
            double = dtype == torch.float64
            kernel = compiled(self.plan.graph, drawing, saving, record, double)
            found = self.shapes[key] = Shape(kernel, dict(sizes))
        return found

    def why_not(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], record: Sequence[str] = (),
    ) -> str | None:  # fmt: skip
        """Why this back end cannot run a call; None where it can."""
        if x.device.type != "cpu":
            return f"the input is on {x.device}, and the kernels run on the CPU"
        if x.dtype not in DTYPES:
            return f"the input is {x.dtype}, and the kernels compute in float32 and float64"
        if x.shape[1] == 0:
            return "the batch is empty"
        if forward_ad._current_level >= 0:
            return "forward-mode differentiation is on"
        wants_gradient = x.requires_grad
        for tensor in (x, *state.values(), *parameters.values()):
            if is_functorch_wrapped_tensor(tensor):
                return "a torch.func transform (vmap, grad, jvp) is at work"
            if tensor.dtype != x.dtype or tensor.device != x.device:
                return f"a tensor is {tensor.dtype} on {tensor.device}, the input {x.dtype} on {x.device}"
            wants_gradient = wants_gradient or tensor.requires_grad
        if record and wants_gradient and torch.is_grad_enabled():
            return "recorded nodes are wanted together with gradients; use torch.no_grad() for them"
        if any(isinstance(value, Tensor) for value in settings.values()):
            return "a setting is a tensor"
        return None

    def __call__(
        self,
        x: Tensor,
        state: Mapping[str, Tensor],
        parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor],
        sizes: Mapping[str, int],
        *,
        alive: Tensor | None = None,
        training: bool = False,
        record: Sequence[str] = (),
    ) -> Result:
        """Run all steps; the arguments are those of the reference.

        Raises:
            UsageError: the call is none that this back end can run; see `why_not`.
            CompilerError: there is no compiler, or it failed.
        """
        reason = self.why_not(x, state, parameters, settings, record)
        if reason is not None:
            raise UsageError(f"backend='c' cannot run this: {reason}; use backend='auto' or 'reference'")
        return self.run(x, state, parameters, settings, sizes, alive=alive, training=training, record=record)

    def run(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], sizes: Mapping[str, int], *, alive: Tensor | None = None,
        training: bool = False, record: Sequence[str] = (),
    ) -> Result:  # fmt: skip
        """Run a call of which `why_not` found nothing."""
        drawing = training and bool(self.plan.masks)
        masks = draw_masks(self.plan, x, settings, sizes) if drawing else {}
        lengths = None if alive is None else alive.sum(0).view(-1)
        numbers = {name: float(value) for name, value in settings.items()}
        inputs = Inputs(self, sizes, numbers, lengths, tuple(masks.values()), tuple(record))
        values = (x, *(state[slot] for slot in self.slots), *(parameters[name] for name in self.parameters))
        if torch.is_grad_enabled() and any(value.requires_grad for value in values):
            output, *final = _Run.apply(inputs, *values)
            return Result(output, dict(zip(self.slots, final, strict=True)), {})
        with torch.no_grad():
            made = forward(inputs, values, False)[1]
        return Result(made.output, made.final, made.records)

    def split(self, values: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The input, the states by slot and the parameters by name."""
        count = 1 + len(self.slots)
        state = dict(zip(self.slots, values[1:count], strict=True))
        return values[0], state, dict(zip(self.parameters, values[count:], strict=True))


def _ready(
    inputs: Inputs, values: Sequence[Tensor], call: Call
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """The tensors as a kernel takes them."""
    x, state, parameters = inputs.program.split(values)
    if call.kernel.once:
        parameters |= once_values(call.kernel, parameters, inputs.settings, inputs.sizes, x)
    kinds = {parameter.name: parameter.kind for parameter in call.kernel.plan.graph.parameters}
    ready = {name: parameters[name] if kind == "matrix" else parameters[name].contiguous() for name, kind in kinds.items()}
    return x.contiguous(), {slot: value.contiguous() for slot, value in state.items()}, ready


def forward(inputs: Inputs, values: Sequence[Tensor], saving: bool) -> tuple[Call, Made]:
    """Run the steps forward."""
    call = inputs.call(saving, values[0].dtype)
    return call, run_forward(call, *_ready(inputs, values, call))


def backward(
    inputs: Inputs, values: Sequence[Tensor], made: Made, d_output: Tensor | None, d_final: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """Run the steps backward; the gradients are in the order of the values, None where not wanted."""
    program = inputs.program
    call = inputs.call(True, values[0].dtype)
    names = ("x", *program.slots, *program.parameters)
    wants = {name for name, want in zip(names, wanted, strict=True) if want}
    parts = [None if part is None else part.contiguous() for part in d_final]
    d_output = torch.zeros_like(made.output) if d_output is None else d_output.contiguous()
    found = run_backward(
        call, *_ready(inputs, values, call), made, d_output, dict(zip(program.slots, parts, strict=True)),
        lambda name: name in wants,
    )  # fmt: skip
    gradients = found.parameters
    if call.kernel.once:
        gradients = gradients | _through_once(inputs, values, call, gradients)
    x, state, parameters = program.split(values)
    every = [found.x, *(found.state[slot] for slot in state), *(gradients.get(name) for name in parameters)]
    every = [torch.zeros_like(v) if g is None and want else g for g, v, want in zip(every, values, wanted, strict=True)]
    return [gradient if want else None for gradient, want in zip(every, wanted, strict=True)]


def _through_once(
    inputs: Inputs, values: Sequence[Tensor], call: Call, gradients: Mapping[str, Tensor]
) -> dict[str, Tensor]:
    """Gradients of the parameters behind the values that are computed before the first step."""
    with torch.enable_grad():
        x, _, parameters = inputs.program.split(values)
        leaves = {name: value.detach().requires_grad_() for name, value in parameters.items()}
        once = once_values(call.kernel, leaves, inputs.settings, inputs.sizes, x)
        ends = [value for name, value in once.items() if name in gradients and value.requires_grad]
        given = [gradients[name].reshape(once[name].shape) for name in once if name in gradients and once[name].requires_grad]
        if not ends:
            return {}
        found = torch.autograd.grad(ends, list(leaves.values()), given, allow_unused=True)
    return {
        name: gradient if name not in gradients else gradient + gradients[name]
        for name, gradient in zip(leaves, found, strict=True)
        if gradient is not None
    }


class _Run(torch.autograd.Function):
    """The steps with their gradients; a second derivative is left to the reference."""

    @staticmethod
    def forward(ctx, inputs: Inputs, *values: Tensor):
        _, made = forward(inputs, values, True)
        ctx.inputs, ctx.count, ctx.used = inputs, len(values), False
        ctx.series = tuple(made.series)
        work = () if made.work is None else (made.work,)
        ctx.save_for_backward(*values, made.output, *made.series.values(), *work)
        ctx.set_materialize_grads(False)
        return made.output, *made.final.values()

    @staticmethod
    def backward(ctx, d_output: Tensor | None, *d_final: Tensor | None):
        inputs, values = ctx.inputs, ctx.saved_tensors[: ctx.count]
        wanted = ctx.needs_input_grad[1:]
        if torch.is_grad_enabled():
            return None, *_differentiable(inputs, values, d_output, d_final, wanted)
        if ctx.used:
            # The first walk back has put gradients in the place of what was saved.
            made = forward(inputs, values, True)[1]
        else:
            output, *rest = ctx.saved_tensors[ctx.count :]
            series = dict(zip(ctx.series, rest, strict=False))
            made = Made(output, {}, series, rest[-1] if len(rest) > len(series) else None, {})
        ctx.used = True
        return None, *backward(inputs, values, made, d_output, d_final, wanted)


def _differentiable(
    inputs: Inputs, values: Sequence[Tensor], d_output: Tensor | None, d_final: Sequence[Tensor | None],
    wanted: Sequence[bool],
) -> list[Tensor | None]:  # fmt: skip
    """The gradients by the reference, which can be differentiated again."""
    x, state, parameters = inputs.program.split(values)
    alive = None
    if inputs.lengths is not None:
        alive = (torch.arange(x.shape[0])[:, None] < inputs.lengths).unsqueeze(-1)
    result = inputs.program.reference(
        x, state, parameters, inputs.settings, inputs.sizes, alive=alive, training=bool(inputs.masks), masks=inputs.masks
    )
    ends = [result.output, *result.state.values()]
    pairs = [(end, given) for end, given in zip(ends, (d_output, *d_final), strict=True) if given is not None]
    pairs = [(end, given) for end, given in pairs if end.requires_grad]
    leaves = [value for value, want in zip(values, wanted, strict=True) if want]
    if not pairs:
        return [torch.zeros_like(value) if want else None for value, want in zip(values, wanted, strict=True)]
    found = iter(
        torch.autograd.grad([e for e, _ in pairs], leaves, [g for _, g in pairs], create_graph=True, allow_unused=True)
    )
    return [next(found) if want else None for want in wanted]
