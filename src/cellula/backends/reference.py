"""The reference back end: plain torch, one op at a time. It is the truth that every other back end is tested against.

Any device and dtype; autograd, double backward, `torch.func` and `vmap` work because it is only torch.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from cellula.backends.operator.launch import register, run_as_operator
from cellula.backends.scan.launch import scan
from cellula.errors import UsageError
from cellula.graph.node import Constant, Input, Node, Parameter, Setting, State, constant
from cellula.graph.ops import OPS
from cellula.plan.expand import define
from cellula.plan.plan import Mask, Plan, make_plan
from cellula.plan.scan import Obstacle, Scan, find_scan

__all__ = ["ReferenceProgram", "Result", "draw_masks"]

Registers = dict[Node, Tensor]

SPELLING: dict[str, Callable[..., Tensor]] = {
    "add": torch.add,
    "subtract": torch.sub,
    "multiply": torch.mul,
    "divide": torch.div,
    "power": torch.pow,
    "negative": torch.neg,
    "less": lambda a, b: (a < b).to(_type(a, b)),
    "less_equal": lambda a, b: (a <= b).to(_type(a, b)),
    "greater": lambda a, b: (a > b).to(_type(a, b)),
    "greater_equal": lambda a, b: (a >= b).to(_type(a, b)),
    "equal": lambda a, b: (a == b).to(_type(a, b)),
    "not_equal": lambda a, b: (a != b).to(_type(a, b)),
    "exp": torch.exp,
    "log": torch.log,
    "sqrt": torch.sqrt,
    "abs": torch.abs,
    "sign": torch.sign,
    "sin": torch.sin,
    "cos": torch.cos,
    "erf": torch.erf,
    "tanh": torch.tanh,
    "min": torch.minimum,
    "max": torch.maximum,
    "where": lambda condition, a, b: torch.where(condition != 0, a, b),
    "sigmoid": torch.sigmoid,
    "relu": torch.relu,
    "softplus": torch.nn.functional.softplus,
    "gelu": torch.nn.functional.gelu,
    "silu": torch.nn.functional.silu,
    # torch.nn.functional.hardsigmoid multiplies its gradient by 1/6 in single precision, whatever the type.
    "hard_sigmoid": lambda a: torch.clamp(a / 6 + 0.5, 0.0, 1.0),
    "softsign": torch.nn.functional.softsign,
    "sum": lambda a: a.sum(-1, keepdim=True),
    "mean": lambda a: a.mean(-1, keepdim=True),
    "peak": lambda a: a.amax(-1, keepdim=True),
    "units": lambda a: torch.full((1,), a.shape[-1], dtype=a.dtype, device=a.device),
    "expand": lambda a, b: torch.broadcast_tensors(a, b)[0],
    "softmax": lambda a: a.softmax(-1),
}


def _type(a: Tensor, b: Tensor) -> torch.dtype:
    return torch.result_type(a, b)


def _matmul(value: Tensor, matrix: Tensor) -> Tensor:
    """`value @ matrix`, where the matrix is dense [rows, columns], blocks [n, rows, columns] or a diagonal [units]."""
    if matrix.ndim == 1:
        return value * matrix
    if matrix.ndim == 2:
        return torch.matmul(value, matrix)
    parts = value.unflatten(-1, (matrix.shape[0], matrix.shape[1]))
    return torch.einsum("...nr,nrc->...nc", parts, matrix).flatten(-2)


def compute(node: Node, registers: Registers, sizes: Mapping[str, int]) -> Tensor:
    """The value of a node whose inputs are computed."""
    inputs = [registers[child] for child in node.inputs]
    if node.op == "matmul":
        return _matmul(*inputs)
    if node.op == "transposed":
        return _matmul(inputs[0], inputs[1].mT if inputs[1].ndim > 1 else inputs[1])
    if node.op == "equation":
        value = inputs[0]
        # Only a single number, or parameters of size one, can lack units here.
        if node.size is None or value.shape[-1] == sizes[node.size]:
            return value
        return value.expand(*value.shape[:-1], sizes[node.size])
    return SPELLING[node.op](*inputs)


def evaluate(nodes: Sequence[Node], registers: Registers, sizes: Mapping[str, int]) -> Registers:
    """Compute the nodes and all below them that the registers lack, for one step; constants are filled in."""
    stack = list(nodes)
    like = next(iter(registers.values()))
    while stack:
        node = stack[-1]
        defined = node.op in OPS and node.op not in SPELLING
        needed = (define(node),) if defined else node.inputs
        missing = [child for child in needed if child not in registers]
        if node in registers or missing:
            stack = stack[:-1] if node in registers else stack + missing
        elif isinstance(node.attribute, Constant):
            registers[node] = torch.full((1,), node.attribute.value, dtype=like.dtype, device=like.device)
        else:
            registers[node] = registers[needed[0]] if defined else compute(node, registers, sizes)
    return registers


@dataclass(frozen=True)
class Result:
    """What a program returns.

    Args:
        output: the output of every step [T, B, H].
        state: slot -> its value after the last step [B, H].
        recorded: name -> the node's value at every step [T, B, H].
    """

    output: Tensor
    state: dict[str, Tensor]
    recorded: dict[str, Tensor]


class ReferenceProgram:
    """A plan as a loop over time in plain torch, or as a scan over time.

    Args:
        plan: what runs when.
        scanned: whether all steps are to be computed at once; the cell must be affine in its states.

    Raises:
        UsageError: `scanned`, and the cell is not.
    """

    def __init__(self, plan: Plan, scanned: bool = False) -> None:
        self.name = "scan" if scanned else "reference"
        # Every op that torch does not spell is planned as its definition: within a loop its parts have their own place.
        self.plan = plan = make_plan(plan.graph, SPELLING)
        self.equations = dict(plan.equations)
        found = find_scan(plan) if scanned else None
        if isinstance(found, Obstacle):
            raise UsageError(
                f"backend='scan' cannot run {plan.graph.name}: {found}; use backend='auto', which goes step by step"
            )
        self.scan = found
        nodes = {leaf for stage in plan.stages for node in stage for leaf in node.inputs if leaf.op == "leaf"}
        self.leaves = nodes | {node for _, node in plan.updates} | {mask.rate for mask in plan.masks}
        # What the loop makes, and what it takes from before it at its own step.
        self.made = set(plan.loop) | {leaf for leaf in self.leaves if isinstance(leaf.attribute, State)}
        early = set(plan.before) | {leaf for leaf in self.leaves if isinstance(leaf.attribute, Input)}
        early |= {mask.node for mask in plan.masks if mask.leaf.draw.per == "step"}
        taken = {child for node in plan.loop for child in node.inputs} | {node for _, node in plan.updates}
        self.taken = [node for node in early if node in taken]
        self.signature = register(self)

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
        masks: Sequence[Tensor] = (),
        every: int = 0,
        reset: Tensor | None = None,
        initial: Mapping[str, Tensor] | None = None,
    ) -> Result:
        """Run all steps.

        Args:
            x: the input [T, B, I].
            state: slot -> its value before the first step [B, H].
            parameters: name -> tensor.
            settings: name -> number.
            sizes: name -> number of units.
            alive: which rows still run at which step [T, B, 1]; one that has ended keeps its state and puts out zeros.
            training: whether dropout and zoneout draw.
            record: names of nodes to return.
            reset: before which step of a row its state is set back [T, B, 1].
            initial: slot -> the value that it is set back to [B, H]; needed with `reset`.
            masks: the random masks in the order of the plan, if they have been drawn before.
            every: keep the states of every so many steps only, and compute the steps between again in the walk back;
                0: keep all. Where nodes are recorded all are kept.
        """
        options = {"alive": alive, "training": training, "record": record, "reset": reset, "initial": initial}
        if torch.compiler.is_compiling():
            return Result(*run_as_operator(self.signature, x, state, parameters, settings, sizes, **options))
        if every and every < x.shape[0] and torch.is_grad_enabled() and not record:
            return self._in_segments(x, state, parameters, settings, sizes, masks, every, options)
        return self.run(x, state, parameters, settings, sizes, masks=masks, **options)

    def run(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], sizes: Mapping[str, int], *, alive: Tensor | None, training: bool,
        record: Sequence[str], reset: Tensor | None, initial: Mapping[str, Tensor] | None,
        masks: Sequence[Tensor] = (),
    ) -> Result:  # fmt: skip
        """The call itself, also where torch.compile is at work around it."""
        plan, names = self.plan, (self.plan.graph.output, *record)
        registers = self._leaves(x, parameters, settings)
        if masks:
            registers |= {mask.node: drawn for mask, drawn in zip(plan.masks, masks, strict=True)}
        elif training:
            registers |= draw_masks(plan, x, settings, sizes)
        else:
            registers |= {mask.node: _mean(mask, registers) for mask in plan.masks}
        again = None if reset is None or initial is None else (reset if alive is None else reset & alive, initial)
        if self.scan is None:
            for node in (*plan.once, *plan.before):
                registers[node] = compute(node, registers, sizes)
            registers, state = self._loop(registers, x, dict(state), sizes, alive, self._kept(names), again)
            for node in plan.after:
                registers[node] = compute(node, registers, sizes)
        else:
            state = self._scanned(self.scan, registers, x, state, sizes, alive, again)
            evaluate([self.equations[name] for name in names], registers, sizes)
        values = [self._whole(registers[self.equations[name]], x, name, sizes, alive) for name in names]
        return Result(values[0], state, dict(zip(record, values[1:], strict=True)))

    def _in_segments(
        self, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor],
        settings: Mapping[str, float | Tensor], sizes: Mapping[str, int], masks: Sequence[Tensor], every: int,
        options: Mapping[str, Any],
    ) -> Result:  # fmt: skip
        if options["training"] and self.plan.masks and not masks:
            # A mask for the whole sequence must be the same in all segments.
            masks = tuple(draw_masks(self.plan, x, settings, sizes).values())
        outputs = []
        for start in range(0, x.shape[0], every):
            end = min(start + every, x.shape[0])
            part = [
                drawn[start:end] if mask.leaf.draw.per == "step" else drawn
                for mask, drawn in zip(self.plan.masks, masks, strict=False)
            ]
            alive, reset = (None if mask is None else mask[start:end] for mask in (options["alive"], options["reset"]))
            alive, reset = (None if mask is None else mask[start:end] for mask in (options["alive"], options["reset"]))
            result = checkpoint(
                self.run, x[start:end], state, parameters, settings, sizes, use_reentrant=False, masks=part,
                **{**options, "alive": alive, "reset": reset},
            )  # fmt: skip
            assert isinstance(result, Result)
            outputs.append(result.output)
            state = result.state
        return Result(torch.cat(outputs), dict(state), {})

    def _leaves(self, x: Tensor, parameters: Mapping[str, Tensor], settings: Mapping[str, float | Tensor]) -> Registers:
        registers: Registers = {}
        for leaf in self.leaves:
            what = leaf.attribute
            if isinstance(what, Input):
                registers[leaf] = x
            elif isinstance(what, Parameter):
                value = parameters[what.name]
                registers[leaf] = value if value.ndim else value.reshape(1)
            elif isinstance(what, Setting | Constant):
                value = what.value if isinstance(what, Constant) else settings[what.name]
                registers[leaf] = torch.as_tensor(value, dtype=x.dtype, device=x.device).reshape(1)
        return registers

    def _kept(self, names: Sequence[str]) -> list[Node]:
        """What the loop makes and something after it needs, for all steps."""
        needed = {child for node in self.plan.after for child in node.inputs}
        needed |= {self.equations[name] for name in names}
        return [node for node in needed if node in self.made]

    def _loop(
        self, registers: Registers, x: Tensor, state: dict[str, Tensor], sizes: Mapping[str, int],
        alive: Tensor | None, kept: list[Node], again: tuple[Tensor, Mapping[str, Tensor]] | None,
    ) -> tuple[Registers, dict[str, Tensor]]:  # fmt: skip
        plan = self.plan
        states = [(leaf, leaf.attribute.slot) for leaf in self.leaves if isinstance(leaf.attribute, State)]
        taken = [(node, _steps(registers[node], x).unbind(0)) for node in self.taken]
        series: dict[Node, list[Tensor]] = {node: [] for node in kept}
        step = dict(registers)
        for t in range(x.shape[0]) if plan.updates else ():
            if again is not None:
                state = {slot: torch.where(again[0][t], again[1][slot], value) for slot, value in state.items()}
            step.update((leaf, state[slot]) for leaf, slot in states)
            step.update((node, values[t]) for node, values in taken)
            for node in plan.loop:
                step[node] = compute(node, step, sizes)
            new = {slot: step[node].expand_as(state[slot]) for slot, node in plan.updates}
            state = new if alive is None else {s: torch.where(alive[t], new[s], state[s]) for s in new}
            for node in kept:
                series[node].append(step[node])
        for node, values in series.items():
            registers[node] = torch.stack([value.expand(x.shape[1], value.shape[-1]) for value in values])
        return registers, state

    def _scanned(
        self, found: Scan, registers: Registers, x: Tensor, state: Mapping[str, Tensor], sizes: Mapping[str, int],
        alive: Tensor | None, again: tuple[Tensor, Mapping[str, Tensor]] | None,
    ) -> dict[str, Tensor]:  # fmt: skip
        """Put the states before every step into the registers, and return those after the last one."""
        final: dict[str, Tensor] = {}
        leaves = {one.attribute.slot: one for one in self.leaves if isinstance(one.attribute, State)}
        steps = len(x)
        last = None if alive is None else alive.sum(0).view(1, -1, 1)
        for group in found.groups:
            start = [state[slot] for slot in group.slots]
            whole = [(steps, *one.shape) for one in start]
            entries = [one for row in group.coefficients for one in row if one is not None]
            offsets = [constant(0.0) if one is None else one for one in group.offsets]
            evaluate([*entries, *offsets], registers, sizes)
            b = [registers[one].expand(shape) for one, shape in zip(offsets, whole, strict=True)]
            a = [
                [None if one is None else registers[one].expand(shape) for one in row]
                for row, shape in zip(group.coefficients, whole, strict=True)
            ]
            initial = None if again is None else [again[1][slot] for slot in group.slots]
            if again is not None and initial is not None:
                a, b = _begun_anew(a, b, again[0], initial)
            values = scan(a, b, start) if group.remembers else b
            for number, slot in enumerate(group.slots):
                series = torch.cat([start[number].unsqueeze(0), values[number]])
                before = series[:-1]
                if again is not None and initial is not None:
                    before = torch.where(again[0], initial[number], before)
                registers[leaves[slot]] = before
                final[slot] = series[-1] if last is None else series.gather(0, last.expand(1, *whole[number][1:]))[0]
        return final

    def _whole(self, value: Tensor, x: Tensor, name: str, sizes: Mapping[str, int], alive: Tensor | None) -> Tensor:
        """A node over all steps and rows [T, B, H], zero where a row has ended."""
        size = self.equations[name].size
        value = value.expand(*x.shape[:2], 1 if size is None else sizes[size])
        return value if alive is None else torch.where(alive, value, torch.zeros_like(value))


def _begun_anew(
    a: list[list[Tensor | None]], b: list[Tensor], reset: Tensor, initial: Sequence[Tensor]
) -> tuple[list[list[Tensor | None]], list[Tensor]]:
    """Coefficients and offsets of steps of which some begin anew: those do not look at what was before."""
    offsets = []
    for row, offset in zip(a, b, strict=True):
        own = offset
        for entry, value in zip(row, initial, strict=True):
            own = own if entry is None else own + entry * value
        offsets.append(torch.where(reset, own, offset))
    zeros = [[None if one is None else torch.where(reset, torch.zeros_like(one), one) for one in row] for row in a]
    return zeros, offsets


def _steps(value: Tensor, x: Tensor) -> Tensor:
    """A value that was computed for all steps at a time, with its step axis even if no step differs."""
    return value.expand(x.shape[0], *value.shape[-2:] if value.ndim > 1 else value.shape)


def _mean(mask: Mask, registers: Registers) -> Tensor:
    """What stands for a mask when not training."""
    rate = registers[mask.rate]
    return torch.ones_like(rate) if mask.leaf.draw.inverted else rate


def draw_masks(
    plan: Plan, x: Tensor, settings: Mapping[str, float | Tensor], sizes: Mapping[str, int]
) -> dict[Node, Tensor]:
    """Draw the random masks of a plan: for all steps [T, B, H], or one for the sequence [B, H]."""
    return {mask.node: _draw(mask, x, settings, sizes) for mask in plan.masks}


def _draw(mask: Mask, x: Tensor, settings: Mapping[str, float | Tensor], sizes: Mapping[str, int]) -> Tensor:
    draw, what = mask.leaf.draw, mask.rate.attribute
    assert isinstance(what, Setting | Constant)
    rate = what.value if isinstance(what, Constant) else settings[what.name]
    units = 1 if mask.leaf.size is None else sizes[mask.leaf.size]
    shape = (*x.shape[:2], units) if draw.per == "step" else (x.shape[1], units)
    hit = torch.rand(shape, dtype=x.dtype, device=x.device) < rate
    return (~hit).to(x.dtype) / (1 - rate) if draw.inverted else hit.to(x.dtype)
