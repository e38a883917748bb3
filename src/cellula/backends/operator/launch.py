"""A program as one operator of torch: what traces a module sees one node, however many steps the sequence has.

torch.compile would unroll a loop over time, and again for every other length. Behind an operator the loop stays where
it is; the number of steps is a size like any other. The way back runs the program again, since an operator keeps no
graph.
"""

from __future__ import annotations

import hashlib
import weakref
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from cellula.graph.graph import Graph
from cellula.plan.plan import Plan

__all__ = ["Runnable", "Signature", "register", "run_as_operator"]


class Runnable(Protocol):
    """A program: what `compile` returns."""

    plan: Plan
    name: str

    @property
    def signature(self) -> Signature:
        """What `register` returned."""
        ...

    @property
    def run(self) -> Callable[..., Any]:
        """The call itself, which an operator is put around."""
        ...


@dataclass(frozen=True)
class Signature:
    """How the arguments of a program are lists of tensors and numbers.

    Args:
        key: the program's name for the operator, the same in every process.
        states, parameters, settings, sizes: what the lists hold, in order.
        draws: whether the program draws while it trains.
    """

    key: str
    states: tuple[str, ...]
    parameters: tuple[str, ...]
    settings: tuple[str, ...]
    sizes: tuple[str, ...]
    draws: bool


# The programs of every formula, as long as some module has one: a compiled graph knows no more than the key.
_PROGRAMS: dict[str, weakref.WeakSet[Runnable]] = {}


def _program(key: str) -> Runnable:
    """Any program of this formula; they all do the same."""
    return next(iter(_PROGRAMS[key]))


def register(program: Runnable) -> Signature:
    """Make a program known to the operator."""
    plan, graph = program.plan, program.plan.graph
    key = f"{program.name} {graph.name} {hashlib.sha256(_structure(graph).encode()).hexdigest()[:32]}"
    _PROGRAMS.setdefault(key, weakref.WeakSet()).add(program)
    return Signature(
        key,
        tuple(state.slot for state in graph.states),
        tuple(parameter.name for parameter in graph.parameters),
        tuple(setting.name for setting in graph.settings),
        ("input", "hidden", *graph.extra_sizes),
        bool(plan.masks),
    )


def _structure(graph: Graph) -> str:
    """All that a formula computes, as text: every node with the numbers of its inputs."""
    number = {node: place for place, node in enumerate(graph.nodes)}
    nodes = [(node.op, node.attribute, node.size, [number[child] for child in node.inputs]) for node in graph.nodes]
    equations = [(equation.name, number[equation.node]) for equation in graph.equations]
    return repr((nodes, equations, graph.output, graph.parameters, graph.settings))


@dataclass(frozen=True)
class _Call:
    """The arguments of one call, as the operator takes them: tensors in lists, names left out."""

    program: Runnable
    settings: Sequence[float]
    sizes: Sequence[int]
    seed: Tensor | None
    record: tuple[str, ...]

    def run(
        self, x: Tensor, groups: Sequence[Sequence[Tensor]], alive: Tensor | None, reset: Tensor | None
    ) -> list[Tensor]:
        """Output, states, recorded nodes; the groups are states, parameters and initial states."""
        state, parameters, initial = groups
        names = self.program.signature
        # What is drawn on the way back must be what was drawn on the way there.
        drawing = nullcontext() if self.seed is None else torch.random.fork_rng([x.device] if x.is_cuda else [])
        with drawing, torch.autocast(x.device.type, enabled=False):
            if self.seed is not None:
                torch.manual_seed(int(self.seed))
            result = self.program.run(
                x,
                dict(zip(names.states, state, strict=True)),
                dict(zip(names.parameters, parameters, strict=True)),
                dict(zip(names.settings, self.settings, strict=True)),
                dict(zip(names.sizes, self.sizes, strict=True)),
                alive=alive,
                training=self.seed is not None,
                record=self.record,
                reset=reset,
                initial=dict(zip(names.states, initial, strict=True)) if initial else None,
            )
        return [result.output, *(result.state[name] for name in names.states), *result.recorded.values()]


def run_as_operator(
    signature: Signature,
    x: Tensor,
    state: Mapping[str, Tensor],
    parameters: Mapping[str, Tensor],
    settings: Mapping[str, float | Tensor],
    sizes: Mapping[str, int],
    *,
    alive: Tensor | None,
    training: bool,
    record: Sequence[str],
    reset: Tensor | None,
    initial: Mapping[str, Tensor] | None,
) -> tuple[Tensor, dict[str, Tensor], dict[str, Tensor]]:
    """Run the program with this signature; the other arguments are those of a program.

    Returns:
        Output, states and recorded nodes.
    """
    names = signature.states
    seed = torch.randint(2**62, ()) if training and signature.draws else None
    values = torch.ops.cellula.run(
        signature.key,
        x,
        [state[name] for name in names],
        [parameters[name] for name in signature.parameters],
        [] if reset is None or initial is None else [initial[name] for name in names],
        [float(settings[name]) for name in signature.settings],
        [sizes[name] for name in signature.sizes],
        alive,
        reset,
        seed,
        ",".join(record),
    )
    end = 1 + len(names)
    states = dict(zip(names, values[1:end], strict=True))
    return values[0], states, dict(zip(record, values[end:], strict=True))


_ARGUMENTS = (
    "str key, Tensor x, Tensor[] state, Tensor[] parameters, Tensor[] initial, float[] settings, SymInt[] sizes, "
    "Tensor? alive, Tensor? reset, Tensor? seed, str record"
)


@torch.library.custom_op("cellula::run", mutates_args=(), schema=f"({_ARGUMENTS}) -> Tensor[]")
def _run(key, x, state, parameters, initial, settings, sizes, alive, reset, seed, record):
    call = _Call(_program(key), settings, sizes, seed, _names(record))
    return _copies(call.run(x, (state, parameters, initial), alive, reset))


@_run.register_fake
def _(key, x, state, parameters, initial, settings, sizes, alive, reset, seed, record):
    program = _program(key)
    graph, units = program.plan.graph, dict(zip(program.signature.sizes, sizes, strict=True))
    nodes = [graph.equation[name].node for name in (graph.output, *_names(record))]
    series = [x.new_empty(x.shape[0], x.shape[1], 1 if node.size is None else units[node.size]) for node in nodes]
    return [series[0], *(x.new_empty(value.shape) for value in state), *series[1:]]


@torch.library.custom_op(
    "cellula::run_backward", mutates_args=(), schema=f"(Tensor?[] gradients, {_ARGUMENTS}) -> Tensor[]"
)
def _run_backward(gradients, key, x, state, parameters, initial, settings, sizes, alive, reset, seed, record):
    call, counts = _Call(_program(key), settings, sizes, seed, _names(record)), _counts(state, parameters, initial)
    # torch.func differentiates within an operator too, where torch.autograd records nothing.
    outputs, pull, *_ = torch.func.vjp(
        lambda first, *rest: call.run(first, _split(rest, counts), alive, reset), x, *state, *parameters, *initial
    )
    given = [torch.zeros_like(value) if one is None else one for value, one in zip(outputs, gradients, strict=True)]
    return _copies(pull(given))


@_run_backward.register_fake
def _(gradients, key, x, state, parameters, initial, settings, sizes, alive, reset, seed, record):
    return [value.new_empty(value.shape) for value in (x, *state, *parameters, *initial)]


def _keep(ctx, inputs, output) -> None:
    key, x, state, parameters, initial, settings, sizes, alive, reset, seed, record = inputs
    ctx.key, ctx.settings, ctx.sizes, ctx.record = key, settings, sizes, record
    ctx.counts = _counts(state, parameters, initial)
    ctx.save_for_backward(x, *state, *parameters, *initial, alive, reset, seed)


def _backward(ctx, gradients):
    x, *rest, alive, reset, seed = ctx.saved_tensors
    state, parameters, initial = _split(rest, ctx.counts)
    found = torch.ops.cellula.run_backward(
        gradients, ctx.key, x, state, parameters, initial, ctx.settings, ctx.sizes, alive, reset, seed, ctx.record
    )
    # An empty list is taken for a list of tensors, which has an empty list of gradients.
    settings = None if ctx.settings else []
    return None, found[0], *_split(found[1:], ctx.counts), settings, None, None, None, None, None


_run.register_autograd(_backward, setup_context=_keep)


def _counts(state: Sequence[Tensor], parameters: Sequence[Tensor], initial: Sequence[Tensor]) -> tuple[int, int, int]:
    return len(state), len(parameters), len(initial)


def _split(values: Sequence[Tensor], counts: tuple[int, int, int]) -> list[list[Tensor]]:
    values, groups = list(values), []
    for count in counts:
        groups.append(values[:count])
        values = values[count:]
    return groups


def _copies(values: Sequence[Tensor]) -> list[Tensor]:
    """Tensors of their own: what an operator returns must not share memory with anything."""
    return [value.clone(memory_format=torch.contiguous_format) for value in values]


def _names(record: str) -> tuple[str, ...]:
    return tuple(record.split(",")) if record else ()
