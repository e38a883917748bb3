"""One call of a kernel: memory for its results, pointers to all it reads and writes."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from cellula.backends.c.launch.kernels import CompiledKernel, available_threads
from cellula.backends.c.launch.large_products import Factors
from cellula.backends.c.launch.products import Buffer, Products, lay_out
from cellula.backends.c.launch.small_products import SmallProducts
from cellula.graph.node import Size

__all__ = ["Call", "Gradients", "Made", "Shape", "run_backward", "run_forward"]


# Up to so many saved numbers, over torch's threads, the products that follow the steps are quicker in C, on one thread:
# torch would spend longer calling.
SMALL = 1 << 20


class Shape:
    """A kernel with numbers for its sizes. All lists of states, parameters and masks are in its order.

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
        layout = self.layout = compiled.source.layout
        self.units = tuple(sizes.get(name, 1) for name in layout.sizes)
        self.states = tuple(units(state.size) for state in kernel.plan.graph.states)
        slots = [state.slot for state in kernel.plan.graph.states]
        self.output = units(kernel.output.size)
        self.records = tuple(units(node.size) for _, node in kernel.records)
        # Of every kept state that takes memory of its own its number.
        self.series = tuple(slots.index(slot) for slot in kernel.series)
        self.work = sum(units(column.size) for column in kernel.saved)
        self.extra = sum(units(column.size) for column in back.extra) if back else 0
        self.parameters = (*layout.matrices, *layout.vectors)
        totals = tuple(dict.fromkeys(parameter.name for parameter, _ in back.totals)) if back else ()
        self.totals = tuple(self.parameters.index(name) for name in totals)
        self.products: Products = lay_out(kernel, units, self.parameters, slots)
        self.smalls: dict[tuple, SmallProducts] = {}
        self.dense = all(group.blocks == 1 for group in (*self.products.weights, *self.products.inputs))
        places = [place for group in self.products.weights for place in (group.left, group.right)]
        places += [group.place for group in self.products.inputs]
        # Whether a product reads the gradient of the output as it is given.
        self.takes_d_output = any(place.buffer == "d_output" for place in places)

    def is_small(self, steps: int, batch: int) -> bool:
        """Whether the products that follow the steps are done in C."""
        return self.dense and steps * batch * (self.work + self.extra) * torch.get_num_threads() <= SMALL

    def small(self, steps: int, batch: int, wanted: tuple[bool, ...], wants_input: bool, width: int) -> SmallProducts:
        """The products of a small call; where things lie is worked out once for each shape of input."""
        key = (steps, batch, wanted, wants_input)
        found = self.smalls.get(key)
        if found is None:
            widths: dict[Buffer, int] = {"x": width, "work": self.work, "extra": self.extra}
            widths |= {"output": self.output, "d_output": self.output}
            widths |= {number: self.states[number] for number in self.series}
            widths |= {("first", number): size for number, size in enumerate(self.states)}
            back = self.kernel.backward
            begun = back is not None and back.input is not None
            found = SmallProducts(self.products, steps * batch, batch, widths, wanted, wants_input, begun)
            # Many lengths may pass by.
            if len(self.smalls) > 256:
                self.smalls.clear()
            self.smalls[key] = found
        return found


@dataclass(frozen=True)
class Call:
    """What does not change between the two directions of a call.

    Args:
        shape: the kernel and its sizes.
        settings: its numbers.
        lengths: steps of every row, or None.
        masks: the random masks.
    """

    shape: Shape
    settings: Sequence[float]
    lengths: Tensor | None
    masks: Sequence[Tensor]

    def empty(self, like: Tensor, *shape: int) -> Tensor:
        """Memory for results; zeros where rows may end early and nothing is written."""
        return like.new_empty(shape) if self.lengths is None else like.new_zeros(shape)

    def run(self, function: Callable[..., int], x: Tensor, matrices: Sequence[Tensor], pointers: Sequence[int]) -> None:
        """Call machine code.

        Raises:
            MemoryError: there is none for the scratch space.
        """
        order, lengths = None, (0, 0)
        if self.lengths is not None:
            order = torch.argsort(self.lengths, descending=True, stable=True)
            lengths = self.lengths.data_ptr(), order.data_ptr()
        steps, batch, _ = x.shape
        numbers = [*available_threads(), steps, batch, *lengths, *self.shape.units]
        for matrix in matrices:
            stride = matrix.stride()
            numbers += (*stride, 0) if len(stride) == 2 else (*stride[1:], stride[0])
        whole, found = array("q", numbers), array("Q", pointers)
        settings = array("d", self.settings)
        if function(whole.buffer_info()[0], found.buffer_info()[0], settings.buffer_info()[0]):
            raise MemoryError("there is not enough memory for the kernel's scratch space; use a smaller batch")


@dataclass(frozen=True)
class Made:
    """What a forward call made.

    Args:
        output: [T, B, H].
        final: the states after the last step [B, H].
        series: the kept states after every step, but the one that is the output.
        work: what the steps saved, [T, B, columns].
        records: values of nodes at every step.
    """

    output: Tensor
    final: list[Tensor]
    series: list[Tensor]
    work: Tensor | None
    records: list[Tensor]


def _pointers(tensors: Sequence[Tensor]) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def run_forward(
    call: Call, x: Tensor, state: Sequence[Tensor], parameters: Sequence[Tensor], output: Tensor | None = None
) -> Made:
    """Run all steps forward.

    Args:
        call: what to run.
        x: the input [T, B, I], contiguous.
        state: contiguous, [B, H].
        parameters: vectors contiguous, matrices of any strides.
        output: where the output goes, contiguous; made here if None.
    """
    shape = call.shape
    steps, batch, _ = x.shape
    output = call.empty(x, steps, batch, shape.output) if output is None else output
    final = [x.new_empty((batch, size)) for size in shape.states]
    series = [call.empty(x, steps, batch, shape.states[number]) for number in shape.series]
    work = call.empty(x, steps, batch, shape.work) if shape.work else None
    records = [call.empty(x, steps, batch, size) for size in shape.records]
    matrices = parameters[: len(shape.layout.matrices)]
    pointers = [x.data_ptr(), *_pointers(parameters), *_pointers(call.masks), output.data_ptr()]
    pointers += [*_pointers(state), *_pointers(final), *_pointers(series)]
    pointers += [0 if work is None else work.data_ptr(), *_pointers(records)]
    call.run(shape.compiled.forward, x, matrices, pointers)
    return Made(output, final, series, work, records)


@dataclass(frozen=True)
class Gradients:
    """What a backward call made; None where nothing was wanted or nothing flows.

    Args:
        x: [T, B, I].
        state: of the states before the first step.
        parameters: in their order.
    """

    x: Tensor | None
    state: list[Tensor]
    parameters: list[Tensor | None]


def run_backward(
    call: Call, x: Tensor, state: Sequence[Tensor], parameters: Sequence[Tensor], made: Made,
    d_output: Tensor, d_final: Sequence[Tensor | None], wants_input: bool, wanted: Sequence[bool],
    d_records: Sequence[Tensor] = (),
) -> Gradients:  # fmt: skip
    """Run all steps backward; what `made.work` holds is used up.

    Args:
        call, x, state, parameters: as they went into the forward call.
        made: what it made.
        d_output: the gradient of the output, contiguous.
        d_final: the gradients of the final states, contiguous; None where there is none.
        wants_input: whether the gradient of the input is wanted.
        wanted: of every parameter, whether its gradient is wanted.
        d_records: the gradients of the recorded nodes, contiguous.
    """
    shape, back = call.shape, call.shape.kernel.backward
    assert back is not None
    steps, batch, _ = x.shape
    d_state = [torch.empty_like(value) for value in state]
    extra = call.empty(x, steps, batch, shape.extra) if shape.extra else None
    d_x = None
    if wants_input or back.input is not None:
        # What the steps do not write comes from products that follow them.
        d_x = call.empty(x, *x.shape) if back.input is not None or back.inputs else torch.zeros_like(x)
    totals = [torch.empty_like(parameters[number]) for number in shape.totals]
    if call.lengths is not None and shape.takes_d_output:
        # Behind the end of a row the caller may give anything.
        alive = torch.arange(steps)[:, None] < call.lengths
        d_output = torch.where(alive.unsqueeze(-1), d_output, torch.zeros_like(d_output))
    pointers = [x.data_ptr(), *_pointers(parameters), *_pointers(call.masks), made.output.data_ptr()]
    pointers += [d_output.data_ptr(), *(0 if value is None else value.data_ptr() for value in d_final)]
    pointers += [*_pointers(d_state), *_pointers(state), *_pointers(made.series), *_pointers(d_records)]
    pointers += [0 if value is None else value.data_ptr() for value in (made.work, extra, d_x)]
    pointers += _pointers(totals)
    matrices = parameters[: len(shape.layout.matrices)]
    assert shape.compiled.backward is not None
    call.run(shape.compiled.backward, x, matrices, pointers)
    gradients: list[Tensor | None] = [None] * len(parameters)
    for number, total in zip(shape.totals, totals, strict=True):
        gradients[number] = total
    buffers: dict[Buffer, Tensor | None] = {"x": x, "work": made.work, "extra": extra}
    buffers |= {"output": made.output, "d_output": d_output, **dict(zip(shape.series, made.series, strict=True))}
    target = d_x if wants_input else None
    begun = back.input is not None
    if shape.is_small(steps, batch):
        buffers |= {("first", number): value for number, value in enumerate(state)}
        small = shape.small(steps, batch, tuple(wanted), wants_input, x.shape[-1])
        small.run(shape.compiled.products, buffers, parameters, target, gradients)
    else:
        factors = Factors(batch, buffers, state)
        factors.large(shape.products, parameters, wanted, target, begun, gradients)
    return Gradients(target, d_state, gradients)
