"""One call of a kernel: memory for its results, pointers to all it reads and writes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellula.backends.c.launch.kernels import CompiledKernel, available_threads
from cellula.backends.c.launch.products import Factors, Products, lay_out
from cellula.backends.reference import evaluate
from cellula.graph.node import Constant, Node, Parameter, Setting, Size, walk
from cellula.plan.kernel import Kernel

__all__ = ["Call", "Gradients", "Made", "Shape", "once_values", "run_backward", "run_forward"]


class Shape:
    """A kernel with numbers for its sizes.

    Args:
        compiled: the kernel.
        sizes: name -> number of units.
    """

    def __init__(self, compiled: CompiledKernel, sizes: Mapping[str, int]) -> None:
        kernel = compiled.kernel
        back = kernel.backward

        def units(size: Size) -> int:
            return 1 if size is None else sizes[size]

        self.compiled, self.kernel, self.sizes = compiled, kernel, sizes
        self.states = {state.slot: units(state.size) for state in kernel.plan.graph.states}
        self.output = units(kernel.output.size)
        self.records = {name: units(node.size) for name, node in kernel.records}
        self.series = {slot: self.states[slot] for slot in kernel.kept if slot != kernel.output_slot}
        self.work = sum(units(column.size) for column in kernel.saved)
        self.extra = sum(units(column.size) for column in back.extra) if back else 0
        self.totals = tuple(dict.fromkeys(parameter.name for parameter, _ in back.totals)) if back else ()
        self.products: Products = lay_out(kernel, units)
        layout = compiled.source.layout
        self.layout = layout
        self.units = tuple(sizes.get(name, 1) for name in layout.sizes)


@dataclass(frozen=True)
class Call:
    """What does not change between the two directions of a call.

    Args:
        shape: the kernel and its sizes.
        settings: name -> number.
        lengths: steps of every row, or None.
        masks: number -> the random mask.
    """

    shape: Shape
    settings: Mapping[str, float]
    lengths: Tensor | None
    masks: Mapping[int, Tensor]

    @property
    def kernel(self) -> Kernel:
        """What is computed."""
        return self.shape.kernel

    def empty(self, like: Tensor, *shape: int) -> Tensor:
        """Memory for results; zeros where rows may end early and nothing is written."""
        return like.new_empty(shape) if self.lengths is None else like.new_zeros(shape)


def _numbers(call: Call, x: Tensor, parameters: Mapping[str, Tensor]) -> tuple[array, Tensor | None]:
    """The whole numbers of a call; the second value must live as long as it."""
    order, lengths = None, (0, 0)
    if call.lengths is not None:
        order = torch.argsort(call.lengths, descending=True, stable=True)
        lengths = call.lengths.data_ptr(), order.data_ptr()
    numbers = [*available_threads(), x.shape[0], x.shape[1], *lengths, *call.shape.units]
    for name in call.shape.layout.matrices:
        stride = parameters[name].stride()
        numbers += (*stride, 0) if len(stride) == 2 else (*stride[1:], stride[0])
    return array("q", numbers), order


def _call(function: Callable[..., int], call: Call, x: Tensor, parameters: Mapping[str, Tensor],
          names: Sequence[str], tensors: Mapping[str, Tensor | None]) -> None:  # fmt: skip
    numbers, order = _numbers(call, x, parameters)
    found = []
    for name in names:
        tensor = tensors[name]
        found.append(0 if tensor is None else tensor.data_ptr())
    pointers = array("Q", found)
    settings = array("d", [call.settings[name] for name in call.shape.layout.settings] or [0.0])
    failed = function(numbers.buffer_info()[0], pointers.buffer_info()[0], settings.buffer_info()[0])
    del order
    if failed:
        raise MemoryError("there is not enough memory for the kernel's scratch space; use a smaller batch")


@dataclass(frozen=True)
class Made:
    """What a forward call made.

    Args:
        output: [T, B, H].
        final: slot -> the state after the last step [B, H].
        series: slot -> the state after every step, of those that are kept; the output stands for its own.
        work: what the steps saved, [T, B, columns].
        records: name -> a node's value at every step.
    """

    output: Tensor
    final: dict[str, Tensor]
    series: dict[str, Tensor]
    work: Tensor | None
    records: dict[str, Tensor]


def _common(call: Call, x: Tensor, parameters: Mapping[str, Tensor]) -> dict[str, Tensor | None]:
    tensors: dict[str, Tensor | None] = {"x": x}
    tensors |= {f"parameter {name}": value for name, value in parameters.items()}
    return tensors | {f"mask {number}": mask for number, mask in call.masks.items()}


def run_forward(
    call: Call, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor]
) -> Made:
    """Run all steps forward.

    Args:
        call: what to run.
        x: the input [T, B, I], contiguous.
        state: slot -> contiguous [B, H].
        parameters: name -> tensor; vectors contiguous, matrices of any strides.
    """
    shape, (steps, batch) = call.shape, x.shape[:2]
    kernel = shape.kernel
    output = call.empty(x, steps, batch, shape.output)
    final = {slot: x.new_empty((batch, size)) for slot, size in shape.states.items()}
    series = {slot: call.empty(x, steps, batch, size) for slot, size in shape.series.items()}
    work = call.empty(x, steps, batch, shape.work) if shape.work else None
    records = {name: call.empty(x, steps, batch, size) for name, size in shape.records.items()}
    tensors = _common(call, x, parameters) | {"output": output, "work": work}
    tensors |= {f"state {slot}": value for slot, value in state.items()}
    tensors |= {f"final {slot}": value for slot, value in final.items()}
    tensors |= {f"series {slot}": series.get(slot, output) for slot in kernel.kept}
    tensors |= {f"record {name}": value for name, value in records.items()}
    _call(shape.compiled.forward, call, x, parameters, shape.layout.forward, tensors)
    return Made(output, final, series, work, records)


@dataclass(frozen=True)
class Gradients:
    """What a backward call made: gradients by name, None where they were not wanted."""

    x: Tensor | None
    state: dict[str, Tensor]
    parameters: dict[str, Tensor]


def run_backward(
    call: Call, x: Tensor, state: Mapping[str, Tensor], parameters: Mapping[str, Tensor], made: Made,
    d_output: Tensor, d_final: Mapping[str, Tensor | None], wanted: Callable[[str], bool],
) -> Gradients:  # fmt: skip
    """Run all steps backward; what `made.work` holds is used up.

    Args:
        call, x, state, parameters: as they went into the forward call.
        made: what it made.
        d_output: the gradient of the output, contiguous.
        d_final: slot -> the gradient of the final state, contiguous; None where there is none.
        wanted: of `"x"` and of names of matrices, whether their gradients are wanted.
    """
    shape, (steps, batch) = call.shape, x.shape[:2]
    kernel, back = shape.kernel, shape.kernel.backward
    assert back is not None
    d_state = {slot: torch.empty_like(value) for slot, value in state.items()}
    extra = call.empty(x, steps, batch, shape.extra) if shape.extra else None
    d_x = None
    if wanted("x") or back.input is not None:
        # What the steps do not write comes from products that follow them.
        d_x = call.empty(x, *x.shape) if back.input is not None or back.inputs else torch.zeros_like(x)
    totals = {name: torch.empty_like(parameters[name]) for name in shape.totals}
    tensors = _common(call, x, parameters) | {"d_output": d_output, "work": made.work, "extra": extra, "d_x": d_x}
    tensors |= {f"d_final {slot}": value for slot, value in d_final.items()}
    tensors |= {f"d_state {slot}": value for slot, value in d_state.items()}
    tensors |= {f"state {slot}": state[slot] for slot in kernel.kept}
    tensors |= {f"series {slot}": made.series.get(slot, made.output) for slot in kernel.kept}
    tensors |= {f"d_parameter {name}": value for name, value in totals.items()}
    function = shape.compiled.backward
    assert function is not None
    _call(function, call, x, parameters, shape.layout.backward, tensors)
    buffers = {"x": x, "work": made.work, "extra": extra}
    buffers |= {slot: made.series.get(slot, made.output) for slot in kernel.kept}
    factors = Factors(batch, buffers, state)
    if d_x is not None and wanted("x"):
        factors.add_to_input(d_x.view(-1, x.shape[-1]), shape.products.inputs, parameters, back.input is not None)
    return Gradients(d_x, d_state, totals | factors.weight_gradients(shape.products.weights, wanted))


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
