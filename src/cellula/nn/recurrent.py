"""Any cell as a torch module: layers, directions, ragged batches, streaming, recorded nodes."""

from __future__ import annotations

import math
from collections import namedtuple
from collections.abc import Iterator, Mapping, Sequence
from numbers import Integral, Real
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cellula.backends import compile
from cellula.backends.auto import AutoProgram
from cellula.backends.c.compiler import CompilerError
from cellula.backends.c.launch.stepper import can_step
from cellula.backends.reference import Result
from cellula.cells.catalogue import cells, load_cell
from cellula.errors import UsageError
from cellula.graph.graph import Graph
from cellula.graph.inits import complaint
from cellula.graph.names import nearest
from cellula.graph.node import Setting
from cellula.graph.ops import OPS
from cellula.nn.direction import Direction, run_backward, run_forward
from cellula.nn.masks import alive_mask, reset_mask
from cellula.nn.stream import Stream
from cellula.plan.plan import make_plan
from cellula.printers.formula import print_formula

__all__ = ["Recurrent"]

INITIAL_STATES = ("zero", "learned")


# A table, since torch.compile looks through functools.cache, and cannot make a class.
_STATE_TYPES: dict[tuple[str, tuple[str, ...]], type] = {}


def _state_type(name: str, fields: tuple[str, ...]) -> type:
    """The named tuple of a cell's state; torch's pytrees know named tuples, so vmap and compile do too."""
    if (name, fields) not in _STATE_TYPES:
        made = namedtuple("State", fields)
        made.__doc__ = f"The state of {name}: {', '.join(fields) or 'nothing'}; each [L*D, B, H]."
        made.__reduce__ = lambda self: (_restore_state, (name, fields, tuple(self)))
        _STATE_TYPES[name, fields] = made
    return _STATE_TYPES[name, fields]


def _restore_state(name: str, fields: tuple[str, ...], values: tuple[Any, ...]) -> Any:
    return _state_type(name, fields)(*values)


class Recurrent(nn.Module):
    """Layers of one recurrent cell over a sequence.

    Args:
        cell: a name of the zoo (`"lstm"`), the path of a `.cell` file, the text of a formula, or a graph.
        input_size: units of the input x.
        hidden_size: units of every size that the formula does not name otherwise.
        num_layers: layers on top of each other.
        bidirectional: also run each layer from the end; outputs are joined along the units.
        dropout: share of each layer's output, save the last one's, that is set to 0 while training.
        batch_first: inputs and outputs are [B, T, ...] instead of [T, B, ...]; states are not concerned.
        initial_state: `"zero"`, or `"learned"`: a learned start per layer and direction, used where no state is given.
        device, dtype: of the parameters.
        backend: `"auto"`: generated C where it can run a call, else torch; `"c"`; `"scan"`: plain torch, all steps at
            once, where the cell is affine in its states; `"reference"`: plain torch, step by step. None:
            `$CELLULA_BACKEND`, or `"auto"` where that is not set.
        checkpoint_every: while training keep the states of every so many steps only, and compute the steps between
            again on the way back: the square root of the number of steps takes the least memory. None: keep all steps.
        **settings: the formula's own settings (`leak=0.3`) and sizes (`proj=32`).

    Attributes:
        output_size: units of the output, D*H.
        cell_text: the whole formula as text.
        state_names: what the cell remembers, in order.

    Raises:
        UsageError: an argument is out of range, or a setting or size is unknown or missing.
        FormulaError: the formula is wrong.

    Example:
        >>> import torch
        >>> from cellula import Recurrent
        >>> lstm = Recurrent("lstm", 3, 8)
        >>> output, state = lstm(torch.zeros(5, 2, 3))
        >>> output.shape, state.c.shape
        (torch.Size([5, 2, 8]), torch.Size([1, 2, 8]))
    """

    def __init__(
        self,
        cell: str | Path | Graph,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bidirectional: bool = False,
        dropout: float = 0.0,
        batch_first: bool = False,
        initial_state: str = "zero",
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
        backend: str | None = None,
        checkpoint_every: int | None = None,
        **settings: float,
    ) -> None:
        super().__init__()
        self.graph = load_cell(cell)
        self.cell = cell
        self.input_size, self.hidden_size = (
            _count(input_size, "input_size"),
            _count(hidden_size, "hidden_size"),
        )
        self.num_layers, self.bidirectional = _count(num_layers, "num_layers"), bool(bidirectional)
        if not 0.0 <= dropout < 1.0:
            raise UsageError(f"dropout is {dropout!r}; write a share from 0 up to, not including, 1")
        if initial_state not in INITIAL_STATES:
            raise UsageError(f"initial_state is {initial_state!r}; write one of {', '.join(map(repr, INITIAL_STATES))}")
        self.dropout, self.batch_first, self.initial_state = float(dropout), bool(batch_first), initial_state
        self.checkpoint_every = None if checkpoint_every is None else _count(checkpoint_every, "checkpoint_every")
        self.settings, self.sizes = _split_settings(self.graph, settings)
        self.directions = 2 if bidirectional else 1
        program = compile(make_plan(self.graph), backend)
        _state_type(self.graph.name, self.state_names)
        self.layers = nn.ModuleList()
        self.output_size = self.input_size
        for _ in range(self.num_layers):
            sizes = {"input": self.output_size, "hidden": self.hidden_size, **self.sizes}
            output = self.graph.equation[self.graph.output].node.size
            self.output_size = (1 if output is None else sizes[output]) * self.directions
            for _ in range(self.directions):
                start = initial_state == "learned"
                self.layers.append(Direction(program, sizes, self.settings, start, device, dtype))
        self.reset_parameters()

    @property
    def cell_text(self) -> str:
        """The whole formula as text."""
        return print_formula(self.graph)

    @property
    def backend(self) -> str:
        """Which back end runs it, and with `"auto"` what the last call was run by and why."""
        program = next(self._all()).program
        return f"auto, last call: {program.last or 'none yet'}" if isinstance(program, AutoProgram) else program.name

    @property
    def state_names(self) -> tuple[str, ...]:
        """What the cell remembers, in order."""
        return tuple(state.slot for state in self.graph.states)

    def reset_parameters(self) -> None:
        """Fill all parameters anew, as the formula says."""
        for direction in self._all():
            direction.reset_parameters()

    def __getstate__(self) -> dict[str, Any]:
        """What a copy needs; where parameters lie is noted anew."""
        left_out = ("_steppers", "_made_state", "_state_sizes", "_draws", "_caller")
        return {name: value for name, value in super().__getstate__().items() if name not in left_out}

    def state(self, **values: Tensor) -> Any:
        """Make a state to start from: every name of `state_names` with a tensor [L*D, B, H].

        Raises:
            UsageError: a name is missing or unknown.
        """
        if values.keys() != set(self.state_names):
            raise UsageError(f"the state of {self.graph.name} is {_listed(self.state_names)}, not {_listed(values)}")
        return self._state_type(**values)

    def forward(
        self,
        x: Tensor,
        state: Any = None,
        *,
        lengths: Tensor | Sequence[int] | None = None,
        record: Sequence[str] = (),
        reset: Tensor | None = None,
    ) -> Any:
        """Run over whole sequences.

        Args:
            x: the input [T, B, I], or [B, T, I] with `batch_first`.
            state: where to start, a named tuple of tensors [L*D, B, H]; None for the initial state.
            lengths: steps of every row, 0 to T; what lies behind is not read and its output is 0. None: all T.
            record: names of nodes to return too, such as `("i", "f")`.
            reset: a mask of booleans [T, B] ([B, T] with `batch_first`): where true, the row begins anew at this step,
                from the module's own initial state, zero or learned, whatever `state` is.

        Returns:
            `(output, state)`: the output [T, B, D*H] and the state after each row's last step; with `record`
            `(output, state, recorded)`, where `recorded["i"]` is [L*D, T, B, H] (batch first: [L*D, B, T, H]).

        Raises:
            UsageError: a shape, a state, a length or a recorded name does not fit.
        """
        if lengths is None and reset is None and not record:
            quick = self._quick_call(x, state, 3)
            if quick is not None:
                return quick
        x = self._checked(x)
        alive = None if lengths is None else alive_mask(lengths, x)
        record = self._checked_record(record)
        again = None if reset is None else reset_mask(reset, x, self.batch_first)
        starts = self._starts(state, x)
        results: list[Result] = []
        every = self.checkpoint_every or 0
        for layer in range(self.num_layers):
            if layer and self.dropout:
                x = nn.functional.dropout(x, self.dropout, self.training)
            outputs = []
            for side in range(self.directions):
                number = layer * self.directions + side
                run = run_backward if side else run_forward
                direction = self.layers[number]
                results.append(run(direction, x, starts[number], self.settings, alive, record, again, every))
                outputs.append(results[-1].output)
            x = torch.cat(outputs, -1) if self.bidirectional else outputs[0]
        state = self._state_type(*(_stacked([r.state[name] for r in results]) for name in self.state_names))
        output = x.transpose(0, 1) if self.batch_first else x
        if not record:
            return output, state
        recorded = {name: _stacked([result.recorded[name] for result in results]) for name in record}
        if self.batch_first:
            recorded = {name: _batch_first(value) for name, value in recorded.items()}
        return output, state, recorded

    def step(self, x: Tensor, state: Any = None, reset: Tensor | None = None) -> tuple[Tensor, Any]:
        """Run one step, for streaming; step by step gives what the whole sequence gives.

        Args:
            x: the input of this step [B, I].
            state: what the step before returned; None at the start.
            reset: which rows begin anew at this step [B].

        Returns:
            The output [B, H] and the state.

        Raises:
            UsageError: the module is bidirectional, or a shape does not fit.
        """
        quick = self._quick_call(x, state, 2) if reset is None else None
        return quick or self._step(x, state, reset)

    def _step(self, x: Tensor, state: Any, reset: Tensor | None) -> tuple[Tensor, Any]:
        """A step by the kernels alone where that can be, else as a sequence of one step."""
        if x.ndim != 2:
            raise UsageError(f"the input of a step is [B, {self.input_size}], not {list(x.shape)}")
        if "_steppers" not in self.__dict__:
            self._prepare_steps()
        quick = self._quick_step(x, state) if reset is None else None
        if quick is not None:
            return quick
        if self.bidirectional:
            raise UsageError("a bidirectional module needs the whole sequence; call it instead of step()")
        axis = 1 if self.batch_first else 0
        output, state = self(x.unsqueeze(axis), state, reset=None if reset is None else reset.unsqueeze(axis))
        return output.squeeze(axis), state

    def stream(self, state: Any = None) -> Stream:
        """This layer at work on an endless signal: one call a sample, without gradients, the state kept inside.

        Args:
            state: where to start; None: the initial state.

        Raises:
            UsageError: the module is bidirectional.
        """
        return Stream(self, state)

    def _quick_call(self, x: Tensor, state: Any, axes: int) -> tuple[Tensor, Any] | None:
        """A call of one layer with nothing around it; None where there is more to it, or something to complain about.

        Args:
            x: the input [T, B, I], or [B, I] of a single step.
            state: where to start, or None.
            axes: how many the input should have.
        """
        if torch.compiler.is_compiling():
            return None
        try:
            caller, layer, made_state = self._caller
        except AttributeError:
            caller, layer, made_state = self._prepare_calls()
        if caller is None or (self._draws and self.training) or type(x) is not Tensor or x.ndim != axes:
            return None
        if layer is not self._modules["layers"]._modules["0"]:  # pyright: ignore[reportOptionalMemberAccess]
            return None
        if state is None:
            state = ()
        elif type(state) is not made_state:
            return None
        try:
            found = caller(x, state, layer.stored_in_order())
        except CompilerError:
            # What failed once would fail every time.
            self._caller = None, layer, made_state
            return None
        except (KeyError, AttributeError, TypeError):
            # A parameter or a state is not what it was: the whole way goes on with it, or says what is wrong.
            return None
        if found is None:
            return None
        if type(layer.program) is AutoProgram:
            layer.program.last = layer.program.quick
        return found[0], made_state._make(found[1:])

    def _prepare_calls(self) -> tuple[Any, Any, Any]:
        """Note once what small calls need."""
        layer = next(self._all())
        simple = len(self.layers) == 1 and not (self.batch_first or self.checkpoint_every or layer.initial)
        self._draws = bool(make_plan(self.graph).masks)
        self._caller = (layer.caller(self.settings) if simple else None), layer, self._state_type
        return self._caller

    def _quick_step(self, x: Tensor, state: Any) -> tuple[Tensor, Any] | None:
        """A step by the kernels alone; None where there is more to it, or something to complain about."""
        made, steppers = self._made_state, self._steppers
        if type(state) is not made or steppers is None or not can_step(x) or x.shape[1] != self.input_size:
            return None
        if self._draws and self.training:
            return None
        batch, dtype, count = len(x), x.dtype, self.num_layers
        finals = []
        for value, size in zip(state, self._state_sizes, strict=True):
            fits = value.shape == (count, batch, size) and value.dtype is dtype and value.is_contiguous()
            if not fits or not value.is_cpu:
                return None
            finals.append(torch.empty_like(value))
        starts, ends = [value.data_ptr() for value in state], [value.data_ptr() for value in finals]
        output: Tensor | None = x
        if count == 1:
            stepper, own = steppers[0]
            output = stepper(x, starts, ends, own)
            return None if output is None else (output, made._make(finals))
        steps = [batch * size * x.element_size() for size in self._state_sizes]
        for stepper, own in steppers:
            output = stepper(output, starts, ends, own)
            if output is None:
                return None
            starts = [at + step for at, step in zip(starts, steps, strict=True)]
            ends = [at + step for at, step in zip(ends, steps, strict=True)]
        return output, made._make(finals)

    def _prepare_steps(self) -> None:
        """Note once what single steps need."""
        layers = list(self._all())
        self._made_state, self._draws = self._state_type, bool(make_plan(self.graph).masks)
        self._state_sizes = tuple(layers[0].state_sizes.values())
        found = [(layer.stepper(self.settings), layer.stored()) for layer in layers]
        alike = all(tuple(layer.state_sizes.values()) == self._state_sizes for layer in layers)
        ready = alike and all(stepper is not None for stepper, _ in found)
        ready = ready and not self.bidirectional
        self._steppers = [(stepper, own) for stepper, own in found if stepper is not None] if ready else None

    def extra_repr(self) -> str:
        """Nothing; `repr` is the constructor call."""
        return ""

    def __repr__(self) -> str:
        cell = self.cell
        if isinstance(cell, Graph):
            shipped = cell.name in cells() and load_cell(cell.name) == cell
            cell = cell.name if shipped else self.cell_text
        parts = [repr(str(cell)), str(self.input_size), str(self.hidden_size)]
        defaults = {
            "num_layers": 1,
            "bidirectional": False,
            "dropout": 0.0,
            "batch_first": False,
            "initial_state": "zero",
            "checkpoint_every": None,
        }
        parts += [f"{name}={getattr(self, name)!r}" for name, value in defaults.items() if getattr(self, name) != value]
        changed = {s.name: self.settings[s.name] for s in self.graph.settings if self.settings[s.name] != s.default}
        parts += [f"{name}={value!r}" for name, value in {**changed, **self.sizes}.items()]
        return f"Recurrent({', '.join(parts)})"

    def _all(self) -> Iterator[Direction]:
        for direction in self.layers:
            assert isinstance(direction, Direction)
            yield direction

    @property
    def _state_type(self) -> type:
        return _state_type(self.graph.name, self.state_names)

    def _checked(self, x: Tensor) -> Tensor:
        wanted = "[B, T, {}]" if self.batch_first else "[T, B, {}]"
        if not isinstance(x, Tensor) or not x.is_floating_point():
            found = x.dtype if isinstance(x, Tensor) else type(x).__name__
            raise UsageError(f"the input is a tensor of floating point numbers, not {found}")
        if x.ndim != 3 or x.shape[-1] != self.input_size:
            raise UsageError(f"the input is {wanted.format(self.input_size)}, not {list(x.shape)}")
        x = x.transpose(0, 1) if self.batch_first else x
        if x.shape[0] == 0:
            raise UsageError("the input has no steps (T = 0); give at least one")
        return x

    def _checked_record(self, record: Sequence[str]) -> tuple[str, ...]:
        names = (record,) if isinstance(record, str) else tuple(record)
        for name in names:
            if name not in self.graph.equation:
                advice = nearest(name, self.graph.equation, f"the nodes are {_listed(self.graph.equation)}")
                raise UsageError(f"record={name!r} is not a node of {self.graph.name}: {advice}")
        return names

    def _starts(self, state: Any, x: Tensor) -> list[dict[str, Tensor]]:
        """The state of every layer and direction before the first step."""
        if state is None:
            return [direction.start(x) for direction in self._all()]
        if isinstance(state, Mapping):
            state = self.state(**state)
        if not isinstance(state, tuple) or len(state) != len(self.state_names):
            raise UsageError(
                f"the state of {self.graph.name} is {_listed(self.state_names)}, not {type(state).__name__}"
            )
        starts = []
        for number, direction in enumerate(self._all()):
            start = {}
            for name, value in zip(self.state_names, state, strict=True):
                whole = (self.num_layers * self.directions, x.shape[1], direction.state_sizes[name])
                if not isinstance(value, Tensor | tuple):
                    raise UsageError(f"state.{name} is a tensor {list(whole)}, not {value!r}")
                if len(value) != whole[0] or tuple(value[number].shape) != whole[1:]:
                    found = list(value.shape) if isinstance(value, Tensor) else [list(part.shape) for part in value]
                    raise UsageError(f"state.{name} is {list(whole)}, not {found}")
                start[name] = value[number]
            starts.append(start)
        return starts


def _stacked(values: list[Tensor]) -> Any:
    """[L*D, ...]; a tuple where layers differ in size (a cell that keeps its input)."""
    if len(values) == 1:
        return values[0].unsqueeze(0)
    return torch.stack(values) if len({value.shape for value in values}) == 1 else tuple(values)


def _batch_first(value: Any) -> Any:
    """A recorded node with its batch before its steps."""
    return value.transpose(1, 2) if isinstance(value, Tensor) else tuple(part.transpose(0, 1) for part in value)


def _split_settings(graph: Graph, given: Mapping[str, float]) -> tuple[dict[str, float], dict[str, int]]:
    """The formula's settings and its own sizes, from what the caller wrote."""
    defaults = {setting.name: setting.default for setting in graph.settings}
    known = [*defaults, *graph.extra_sizes]
    for name in given:
        if name not in known:
            advice = nearest(name, known, f"it has {_listed(known)}" if known else "it has none")
            raise UsageError(f"{graph.name} has no setting or size {name!r}; {advice}")
    missing = [name for name in graph.extra_sizes if name not in given]
    if missing:
        if missing[0] in Recurrent.__init__.__annotations__:
            raise UsageError(
                f"{graph.name} has a size {missing[0]!r}, which is also an argument of Recurrent; rename the size"
            )
        raise UsageError(f"{graph.name} has a size {missing[0]!r} of its own; write {missing[0]}=32, for example")
    sizes = {name: _count(given[name], name) for name in graph.extra_sizes}
    values = defaults | {name: _number(given[name], name) for name in defaults if name in given}
    _check_ranges(graph, values)
    _check_starts(graph, values)
    return values, sizes


def _check_starts(graph: Graph, values: Mapping[str, float]) -> None:
    """A setting that says how a parameter starts lies within what that way allows."""
    for parameter in graph.parameters:
        init = parameter.init
        wrong = None if init is None else complaint(init.kind, init.numbers(values))
        if wrong is not None:
            raise UsageError(f"{parameter.name} cannot start so: {wrong}")


def _check_ranges(graph: Graph, values: Mapping[str, float]) -> None:
    """A setting that is the rate of an op lies within what that op allows."""
    for node in graph.nodes:
        for argument, child in zip(OPS[node.op].arguments if node.op in OPS else (), node.inputs, strict=False):
            name = child.attribute.name if argument.number and isinstance(child.attribute, Setting) else None
            if name is not None and not argument.low <= values[name] <= argument.high:
                raise UsageError(
                    f"{name} is {values[name]:g}, but it is the {argument.name} of {node.op}; "
                    f"write a number from {argument.low:g} to {argument.high:g}"
                )


def _number(value: Any, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, Real) or not math.isfinite(value):
        raise UsageError(f"{name} is {value!r}; write a finite number")
    return float(value)


def _count(value: Any, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, Integral) or value < 1:
        raise UsageError(f"{name} is {value!r}; write a whole number, 1 or more")
    return int(value)


def _listed(names: Any) -> str:
    return ", ".join(names) or "nothing"
