"""A cell as a program that runs generated C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import is_functorch_wrapped_tensor, is_legacy_batchedtensor, peek_interpreter_stack
from torch.autograd import forward_ad

from cellula.backends.c.launch.calls import Call, Made, Shape, run_backward, run_forward
from cellula.backends.c.launch.kernels import compiled
from cellula.backends.c.launch.quick import Quick
from cellula.backends.c.launch.registry import register
from cellula.backends.c.launch.stretches import run_stretches
from cellula.backends.reference import ReferenceProgram, Result, draw_masks, evaluate
from cellula.errors import UsageError
from cellula.graph.node import Constant, Node, Parameter, Setting, leaf, walk
from cellula.plan.kernel import Kernel
from cellula.plan.plan import Plan
from cellula.plan.schedule import spans_steps

__all__ = ["CProgram", "Inputs", "differentiable"]

RESETS = "states are reset within the sequence, in a compiled graph"
DTYPES = (torch.float32, torch.float64)


def is_compiling() -> bool:
    """Whether `torch.compile` or `torch.export` is looking on."""
    return torch.compiler.is_compiling()


def is_tracing() -> bool:
    """Whether `torch.jit.trace` is looking on."""
    return torch._C._get_tracing_state() is not None


def in_single_precision(
    x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> tuple[Tensor, Mapping[str, Tensor], Mapping[str, Tensor]]:
    """Under autocast the kernels compute in float32: tensors of lower precision are raised to it."""
    if not torch.is_autocast_enabled("cpu") or x.device.type != "cpu":
        return x, state, parameters

    def raised(value: Tensor) -> Tensor:
        return value.float() if value.dtype in (torch.bfloat16, torch.float16) else value

    return raised(x), {k: raised(v) for k, v in state.items()}, {k: raised(v) for k, v in parameters.items()}


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


class CProgram:
    """A plan as machine code, compiled when it first runs.

    Args:
        plan: what runs when.
        blocks: whether passes may do blocks of steps, where each unit runs through time by itself.
    """

    def __init__(self, plan: Plan, blocks: bool = True) -> None:
        self.plan, self.blocks, self.name = plan, blocks, "c" if blocks else "c_steps"
        self.slots = tuple(state.slot for state in plan.graph.states)
        self.equations = dict(plan.equations)
        # As a layer names them: the input, the hidden size, and the formula's own.
        self.size_names = ("input", "hidden", *plan.graph.extra_sizes)
        self.parameters = tuple(parameter.name for parameter in plan.graph.parameters)
        self.reference = ReferenceProgram(plan)
        self.shapes: dict[tuple, Shape] = {}
        self.number = register(self)
        self.quick, self.draws = Quick(self), bool(plan.masks)

    @property
    def has_blocks(self) -> bool:
        """Whether passes do blocks of steps: each unit runs through time by itself."""
        passed = {leaf(state): dict(self.plan.updates)[state.slot] for state in self.plan.graph.states}
        return self.blocks and spans_steps([], (), passed)

    def __deepcopy__(self, memo: dict) -> CProgram:
        return self

    def __reduce__(self) -> tuple:
        return CProgram, (self.plan, self.blocks)

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
            kernel = compiled(self.plan.graph, drawing, saving, record, double, self.blocks)
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
        if is_tracing():
            return "torch.jit.trace is looking on"
        if peek_interpreter_stack() is not None:
            return "a torch.func transform (vmap, grad, jvp) is at work"
        dtype, device = x.dtype, x.device
        for tensor in (*state.values(), *parameters.values()):
            if tensor.dtype != dtype or tensor.device != device:
                return f"a tensor is {tensor.dtype} on {tensor.device}, the input {dtype} on {device}"
        if any(isinstance(value, Tensor) for value in settings.values()):
            return "a setting is a tensor"
        return None

    def is_simple(
        self, alive: Tensor | None, training: bool, record: Sequence[str], reset: Tensor | None, every: int
    ) -> bool:  # fmt: skip
        """Whether all rows run all steps, and nothing is drawn, recorded or left out."""
        plain = alive is None and reset is None and not record and not every
        return plain and not (training and self.draws)

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
        reset: Tensor | None = None,
        initial: Mapping[str, Tensor] | None = None,
        every: int = 0,
    ) -> Result:
        """Run all steps; the arguments are those of the reference.

        Raises:
            UsageError: the call is none that this back end can run; see `why_not`.
            CompilerError: there is no compiler, or it failed.
        """
        if not is_compiling() and self.is_simple(alive, training, record, reset, every):
            result = self.quick(x, state, parameters, settings, sizes)
            if result is not None:
                return result
        options: dict[str, Any] = {"alive": alive, "training": training, "record": record, "every": every}
        options |= {"reset": reset, "initial": initial}
        x, state, parameters = in_single_precision(x, state, parameters)
        if is_compiling():
            reason = RESETS if reset is not None else why_not_traced(self, x, record)
            if reason is None:
                return run_traced(self, x, state, parameters, settings, sizes, alive, training)
        else:
            reason = self.why_not(x, state, parameters, settings, record)
        if reason is not None:
            raise UsageError(f"backend={self.name!r} cannot run this: {reason}; use backend='auto' or 'reference'")
        return self.run(x, state, parameters, settings, sizes, **options)

    def run(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], sizes: Mapping[str, int], *, alive: Tensor | None = None,
        training: bool = False, record: Sequence[str] = (), every: int = 0, reset: Tensor | None = None,
        initial: Mapping[str, Tensor] | None = None, masks: Sequence[Tensor] | None = None,
    ) -> Result:  # fmt: skip
        """Run a call of which `why_not` found nothing."""
        if masks is None:
            drawing = training and bool(self.plan.masks)
            masks = tuple(draw_masks(self.plan, x, settings, sizes).values()) if drawing else ()
        if reset is not None and initial is not None:
            run = partial(
                self.run, parameters=parameters, settings=settings, sizes=sizes, training=training, record=record,
                every=every,
            )  # fmt: skip
            kinds = [mask.leaf.draw.per == "step" for mask in self.plan.masks]
            return run_stretches(run, x, state, initial, reset, alive, list(zip(masks, kinds, strict=False)))
        # A name twice is one value, and the output is there anyway.
        names, output = record, self.plan.graph.output
        record = tuple(dict.fromkeys(name for name in names if name != output)) if names else ()
        # Where nodes are recorded all steps are kept.
        every = 0 if record else every
        lengths = None if alive is None else alive.sum(0).view(-1)
        numbers = {name: float(value) for name, value in settings.items()} if settings else {}
        inputs = Inputs(self, sizes, numbers, lengths, tuple(masks), record, every)
        values = (x, *(state[slot] for slot in self.slots), *(parameters[name] for name in self.parameters))
        # Where a tensor is a negated view of another, its address is that of the other's numbers.
        values = tuple([value.resolve_neg() if value.is_neg() else value for value in values])
        if torch.is_grad_enabled() and any(value.requires_grad for value in values):
            result, *rest = _Run.apply(inputs, *values)
            final, records = rest[: len(self.slots)], rest[len(self.slots) :]
        else:
            with torch.no_grad():
                made = forward(inputs, values, False)
            result, final, records = made.output, made.final, made.records
        found = {output: result, **dict(zip(record, records, strict=True))} if names else {}
        return Result(result, dict(zip(self.slots, final, strict=True)), {name: found[name] for name in names})

    def states_of(self, values: Sequence[Tensor]) -> list[Tensor]:
        """The states among the values of a call."""
        return list(values[1 : 1 + len(self.slots)])

    def split(self, values: Sequence[Tensor]) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
        """The input, the states by slot and the parameters by name."""
        count = 1 + len(self.slots)
        state = dict(zip(self.slots, values[1:count], strict=True))
        return values[0], state, dict(zip(self.parameters, values[count:], strict=True))


def _ready(inputs: Inputs, values: Sequence[Tensor], call: Call) -> tuple[Tensor, list[Tensor], list[Tensor]]:
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
    return run_forward(call, *_ready(inputs, values, call))


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
        call, *_ready(inputs, values, call), made, d_output, d_final, wanted[0], wants_each, d_records
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


def _is_batched(*gradients: Tensor | None) -> bool:
    """Whether many gradients at a time are asked for, as `is_grads_batched` does; kernels take one."""
    return any(
        one is not None and (is_legacy_batchedtensor(one) or is_functorch_wrapped_tensor(one)) for one in gradients
    )


class _Run(torch.autograd.Function):
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
        made = run_forward(call, *_ready(part, (x[start:end], *states, *rest), call), output[start:end])
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
        made = run_forward(call, *_ready(part, given, call), output[start:end])
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


def why_not_traced(program: CProgram, x: Tensor, record: Sequence[str]) -> str | None:
    """Why a call cannot become an operator of a compiled graph; None where it can."""
    if x.device.type != "cpu" or x.dtype not in DTYPES:
        return f"the input is {x.dtype} on {x.device.type}"
    return "recorded nodes are wanted in a compiled graph" if record else None


def run_traced(
    program: CProgram, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
    settings: Mapping[str, float | Tensor], sizes: Mapping[str, int], alive: Tensor | None, training: bool,
) -> Result:  # fmt: skip
    """The call as an operator that `torch.compile` keeps whole."""
    masks = list(draw_masks(program.plan, x, settings, sizes).values()) if training and program.plan.masks else []
    lengths = None if alive is None else alive.sum(0).view(-1)
    values = [x, *(state[slot] for slot in program.slots), *(parameters[name] for name in program.parameters)]
    saving = torch.is_grad_enabled() and any(value.requires_grad for value in values)
    # torch takes an empty list for one of tensors.
    names = (setting.name for setting in program.plan.graph.settings)
    numbers = [float(settings[name]) for name in names] or [0.0]
    units = [sizes[name] for name in program.size_names]
    made = torch.ops.cellula.forward(program.number, values, masks, lengths, units, numbers, saving)
    return Result(made[0], dict(zip(program.slots, made[1 : 1 + len(program.slots)], strict=True)), {})
