"""A cell as a program that runs generated C."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch._C._functorch import peek_interpreter_stack
from torch.autograd import forward_ad

from cellula.backends.c.launch.calls import Shape
from cellula.backends.c.launch.function import Run
from cellula.backends.c.launch.inputs import Inputs, forward
from cellula.backends.c.launch.kernels import compiled
from cellula.backends.c.launch.quick import Quick
from cellula.backends.c.launch.registry import register
from cellula.backends.c.launch.stretches import run_stretches
from cellula.backends.reference import ReferenceProgram, Result, draw_masks
from cellula.errors import UsageError
from cellula.graph.node import leaf
from cellula.plan.plan import Plan
from cellula.plan.schedule import spans_steps

__all__ = ["CProgram"]

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
            result, *rest = Run.apply(inputs, *values)
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
