"""A kernel as text: its passes, what lies in memory between the two directions and why, and what it costs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Mapping, Sequence

from cellula.graph.node import Adjoint, Input, Node, Setting, State, equation, leaf, rebuilt, walk
from cellula.plan.costs import costs, step_costs
from cellula.plan.kernel import BackwardKernel, Kernel, Source
from cellula.plan.schedule import PRODUCTS, Phase, Schedule, operands, walk_to
from cellula.printers.formula import print_expression

__all__ = ["print_kernel"]

# A statement, and what is to be said about it.
_Line = tuple[str, str, str]
# Remarks stand in one column, but for statements longer than this.
_WIDTH = 84


def print_kernel(kernel: Kernel, sizes: Mapping[str, int] | None = None) -> str:
    """What a kernel does, in order: each pass of a step forward and backward, what is saved and why, and the costs.

    `sum_1` is a sum of products that is made in one go, `part_1` a value without a name in the formula that is used
    several times; with `[t]` it is kept for all steps.

    Args:
        kernel: the cell, laid out.
        sizes: numbers of units, with which the costs are printed as numbers too.

    Example:
        >>> from cellula import build
        >>> from cellula.graph.ops import OPS
        >>> from cellula.plan.kernel import make_kernel
        >>> from cellula.printers.kernel import print_kernel
        >>> text = print_kernel(make_kernel(build("h[t] = tanh(x[t] @ W + h[t-1] @ U)"), OPS, backward=True))
        >>> print(text.split("costs")[0].strip())
        forward step, t = 1 ... T
          pass 1 of 1, unit by unit over hidden
            sum_1 = x[t] @ W + h[t-1] @ U
            h[t]  = tanh(sum_1)            output, kept
          products of the input alone, which can be made for many steps before: x[t] @ W
          the next step starts from h = h[t]
        <BLANKLINE>
        in memory for the backward step: hidden numbers a step and sequence
          h[t]  kept as a state; it is the output, so this takes no memory of its own
        <BLANKLINE>
        backward step, t = T ... 1
          pass 1 of 2, unit by unit over hidden
            dh[t]    = dloss[t] + carry_h[t]
            dh_in[t] = dh[t] * (1 - h[t] * h[t])  for the products after the last step
          pass 2 of 2, unit by unit over hidden
            sum_2        = dh_in[t] @ U.T
            carry_h[t-1] = sum_2
        <BLANKLINE>
        after the last step, over all steps and sequences at a time
          dW     = x[t].T @ dh_in[t]
          dU     = h[t-1].T @ dh_in[t]
          dx[t]  = dh_in[t] @ W.T
    """
    names = _Names(kernel)
    parts = [_once(kernel), _forward(kernel, names)]
    if kernel.backward is not None:
        parts += [_memory(kernel, kernel.backward, names), _backward(kernel, kernel.backward, names)]
        parts += [_after(kernel, kernel.backward, names)]
    return "\n\n".join("\n".join(part) for part in [*parts, _costs(kernel, sizes)] if part)


class _Names:
    """What stands for values in the text: sums of products, and values without a name that several others use."""

    def __init__(self, kernel: Kernel) -> None:
        graph = kernel.plan.graph
        self.taken = {*graph.equation, *(parameter.name for parameter in graph.parameters)}
        self.count = Counter[str]()
        self.shown: dict[Node, Node] = {}
        forward = kernel.forward
        self.renamed = forward.renamed
        kept = [forward.renamed[column.node] for column in kernel.saved]
        self._add(forward, kept, [node for _, node in (*kernel.updates, *kernel.records)])
        if kernel.backward is None:
            return
        back = kernel.backward
        for column in kernel.saved:
            here = forward.renamed[column.node]
            self.shown[column.node] = self.shown.get(here, here)
        kept = [node for _, node in back.work if node is not None] + [column.node for column in back.extra]
        ends = [node for _, node in (*back.carries, *back.totals) if node is not None]
        self._add(back.schedule, kept, ends + ([back.input] if back.input is not None else []))

    def _add(self, schedule: Schedule, kept: list[Node], ends: list[Node]) -> None:
        uses = Counter(child for phase in schedule.phases for node in phase.nodes for child in operands(node))
        uses.update({*ends})
        crossing = {*schedule.crossing} - schedule.steady
        for node in (node for phase in schedule.phases for node in phase.nodes):
            before = self.shown.get(self.renamed.get(node, node))
            if node.op == "equation":
                self.shown[node] = node
            elif node in kept:
                kind = "sum" if node.op == "accumulate" else "part"
                self.shown[node] = equation(self._new(kind), node, node.size)
            elif node.op == "accumulate":
                self.shown[node] = leaf(Setting(self._new("sum"), 0.0, node.size))
            elif uses[node] > 1 or node in crossing:
                # What the forward step computes too has the same name here.
                self.shown[node] = before or leaf(Setting(self._new("part"), 0.0, node.size))

    def _new(self, kind: str) -> str:
        self.count[kind] += 1
        name = f"{kind}_{self.count[kind]}"
        while name in self.taken:
            name += "_"
        return name

    def text(self, node: Node) -> str:
        """A value, by its name where it has one."""
        return print_expression(self._replaced(node))

    def definition(self, node: Node) -> str:
        """How a value is computed."""
        if node.op == "accumulate":
            return " + ".join(map(self.written, node.inputs))
        if node.op == "equation":
            return self.text(node.inputs[0])
        return self.written(node)

    def written(self, node: Node) -> str:
        """An op written out, even where its value has a name."""
        return print_expression(rebuilt(node, tuple(map(self._replaced, node.inputs))))

    def _replaced(self, node: Node) -> Node:
        done: dict[Node, Node] = {}
        for one in walk_to([node], lambda inner: inner in self.shown or inner.op == "equation"):
            known = one in self.shown or one.op == "equation"
            done[one] = self.shown.get(one, one) if known else rebuilt(one, tuple(done[child] for child in one.inputs))
        return done[node]


def _aligned(lines: Sequence[_Line], margin: str) -> list[str]:
    """Statements with their signs and their remarks below each other."""
    left = max((len(name) for name, _, _ in lines), default=0)
    texts = [f"{margin}{name:<{left}} {what}" for name, what, _ in lines]
    width = min(_WIDTH, max(map(len, texts), default=0))
    return [f"{text:<{width}}  {note}".rstrip() for text, (_, _, note) in zip(texts, lines, strict=True)]


def _once(kernel: Kernel) -> list[str]:
    done: dict[Node, Node] = {}
    for node in walk(one.node for one in kernel.once):
        # A named value within one belongs to the steps: here stands what it is.
        inputs = tuple(done[child] for child in node.inputs)
        done[node] = inputs[0] if node.op == "equation" else rebuilt(node, inputs)
    lines = [(one.parameter.name, f"= {print_expression(done[one.node])}", "") for one in kernel.once]
    return ["once, before the first step", *_aligned(lines, "  ")] if lines else []


def _title(schedule: Schedule, number: int) -> str:
    size = schedule.phases[number].size
    what = "single numbers of each sequence" if size is None else f"unit by unit over {size}"
    return f"  pass {number + 1} of {len(schedule.phases)}, {what}"


def _computed(phase: Phase, names: _Names, notes: Mapping[Node, str]) -> list[_Line]:
    """The statements of a pass: sums of products first, as they are made."""
    shown = [node for node in phase.nodes if node in names.shown]
    ordered = [*phase.sums, *(node for node in shown if node.op != "accumulate")]
    return [(names.text(node), f"= {names.definition(node)}", notes.get(node, "")) for node in ordered]


def _forward(kernel: Kernel, names: _Names) -> list[str]:
    schedule, held = kernel.forward, dict(kernel.updates)
    words: dict[Node, list[str]] = {kernel.output: ["output", "kept"] if kernel.reads_output else ["output"]}
    for slot in kernel.series:
        words.setdefault(held[slot], []).append("kept")
    for column in kernel.saved:
        words.setdefault(schedule.renamed[column.node], []).append("saved")
    for _, node in kernel.records:
        words.setdefault(node, []).append("recorded")
    notes = {node: ", ".join(said) for node, said in words.items()}
    lines = ["forward step, t = 1 ... T"]
    for number, phase in enumerate(schedule.phases):
        lines += [_title(schedule, number), *_aligned(_computed(phase, names, notes), "    ")]
    products = [product for phase in schedule.phases for one in phase.sums for product in one.inputs]
    early = [names.written(product) for product in products if isinstance(product.inputs[0].attribute, Input)]
    if kernel.blocks:
        lines.append(
            f"  each pass does {'a block of steps' if kernel.updates else 'all steps'} before the next one begins"
        )
    elif early:
        lines.append(f"  products of the input alone, which can be made for many steps before: {', '.join(early)}")
    if kernel.updates:
        states = ", ".join(f"{slot} = {names.text(node)}" for slot, node in kernel.updates)
        lines.append(f"  the next step starts from {states}")
    return lines


def _memory(kernel: Kernel, back: BackwardKernel, names: _Names) -> list[str]:
    """What is kept between the directions, what is not, and why."""
    saved = step_costs(kernel).saved
    if not saved:
        lines = ["in memory for the backward step: nothing but the input"]
    else:
        lines = [f"in memory for the backward step: {saved} numbers a step and sequence"]
    rows: list[_Line] = []
    no_memory = "it is the output, so this takes no memory of its own"
    for slot, node in kernel.updates:
        if slot in (*kernel.series, kernel.output_slot):
            output = f"; {no_memory}" if slot == kernel.output_slot else ""
            rows.append((names.text(node), " kept as a state" + output, ""))
    if kernel.reads_output and kernel.output_slot is None:
        rows.append((names.text(kernel.output), f" kept: {no_memory}", ""))
    there = {column.node for column in kernel.saved} | {*back.schedule.given}
    known = {"x", *kernel.kept, *(slot for slot, node in kernel.updates if node is kernel.output)}
    for column in sorted(kernel.saved, key=lambda one: list(kernel.forward.renamed).index(one.node)):
        reason = _reason(column.node, there - {column.node}, known)
        rows.append((names.text(column.node), f" saved: to compute it again would take {reason}", ""))
    again = [f"    {text}" for text in _again(kernel, back, names)]
    title = ["  computed again unit by unit, which costs less than to read it from memory:"] if again else []
    return [*lines, *_aligned(rows, "  "), *title, *again]


def _reason(node: Node, there: set[Node], known: Collection[str]) -> str:
    """What stands in the way of computing a value again."""
    found: dict[str, None] = {}
    for inner in walk_to([node], lambda one: one in there):
        if inner in there:
            continue
        if inner.op in PRODUCTS:
            found[print_expression(inner)] = None
        elif inner.op in ("sum", "peak"):
            found[f"the {inner.op} over all units"] = None
        elif isinstance(inner.attribute, State) and inner.attribute.name not in known:
            found[f"{print_expression(inner)}, which is not kept"] = None
    return " and ".join(found)


def _is_again(node: Node, kernel: Kernel, back: BackwardKernel) -> bool:
    """Whether the backward step computes a value of the forward step once more."""
    return node.op != "leaf" and node in kernel.forward.renamed and node in back.schedule.place


def _again(kernel: Kernel, back: BackwardKernel, names: _Names) -> list[str]:
    """The values that the gradients themselves read, not what leads to them."""
    read: dict[Node, None] = {}
    for phase in back.schedule.phases:
        for node in phase.nodes:
            if not _is_again(node, kernel, back):
                read.update((child, None) for child in operands(node) if _is_again(child, kernel, back))
    read.update((column.node, None) for column in back.extra if _is_again(column.node, kernel, back))
    named = [f"{names.text(node)} = {names.definition(node)}" for node in read if node in names.shown]
    return [*named, *(names.text(node) for node in read if node not in names.shown)]


def _backward(kernel: Kernel, back: BackwardKernel, names: _Names) -> list[str]:
    words = {node: ["computed again"] for node in back.schedule.place if _is_again(node, kernel, back)}
    for column, node in back.work:
        if node is not None:
            words.setdefault(node, []).append(f"takes the place of {names.text(column.node)}")
    for column in back.extra:
        words.setdefault(column.node, []).append("for the products after the last step")
    notes = {node: ", ".join(said) for node, said in words.items()}
    ends: dict[int, list[_Line]] = {}
    place = back.schedule.phase_of
    for parameter, node in back.totals:
        ends.setdefault(place(node), []).append((f"d{parameter.name}", f"+= {names.text(node)}", ""))
    for slot, node in back.carries:
        where = len(back.schedule.phases) - 1 if node is None else place(node)
        text = "0" if node is None else names.text(node)
        ends.setdefault(where, []).append((f"carry_{slot}[t-1]", f"= {text}", ""))
    if back.input is not None:
        ends.setdefault(place(back.input), []).append(("dx[t]", f"= {names.text(back.input)}", ""))
    lines = ["backward step, t = T ... 1"]
    for number, phase in enumerate(back.schedule.phases):
        statements = [*_computed(phase, names, notes), *ends.get(number, ())]
        lines += [_title(back.schedule, number), *_aligned(statements, "    ")]
    return lines


def _after(kernel: Kernel, back: BackwardKernel, names: _Names) -> list[str]:
    held = {column: node or column.node for column, node in back.work}
    d_output = leaf(Adjoint(kernel.graph.output, False, kernel.output.size))
    given = {"x": "x[t]", "output": names.text(kernel.output), "d_output": print_expression(d_output)}

    def factor(source: Source) -> str:
        if source.column is not None:
            return names.text(held.get(source.column, source.column.node))
        if source.kind in given:
            return given[source.kind]
        if source.kind == "after":
            return names.text(dict(kernel.updates)[source.slot])
        return next(print_expression(leaf(state)) for state in kernel.plan.graph.states if state.slot == source.slot)

    weights: dict[str, list[str]] = {}
    for product in back.weights:
        text = f"{'-' * product.negative}{factor(product.left)}.T @ {factor(product.right)}"
        weights.setdefault(f"d{product.parameter.name}", []).append(text)
    lines: list[_Line] = [(name, f"= {_sum(texts)}", "") for name, texts in weights.items()]
    terms = [
        f"{'-' * one.negative}{factor(one.source)} @ {one.parameter.name}{'.T' * (one.op == 'transposed')}"
        for one in back.inputs
    ]
    if terms:
        lines.append(("dx[t]", f"{'=' if back.input is None else '+='} {_sum(terms)}", ""))
    return ["after the last step, over all steps and sequences at a time", *_aligned(lines, "  ")] if lines else []


def _sum(terms: Sequence[str]) -> str:
    return " + ".join(terms).replace("+ -", "- ")


def _costs(kernel: Kernel, sizes: Mapping[str, int] | None) -> list[str]:
    each = step_costs(kernel)
    parts = [("forward", each.forward), ("backward", each.backward), ("after the last step", each.after)]
    lines = ["costs of a step of one sequence, in floating-point operations and in numbers of 4 bytes (float32)"]
    rows: list[_Line] = []
    for name, part in parts:
        if part.products or part.units:
            texts = ((part.products, "in products"), (part.units, "unit by unit"))
            rows.append((name, "  " + ", ".join(f"{amount} {what}" for amount, what in texts if amount), ""))
    moved = each.forward.moved + each.backward.moved + each.after.moved
    rows.append(("moved", f"  {moved} numbers between memory and the passes", ""))
    rows.append(
        ("weights", f"  {each.forward.weights + each.backward.weights} numbers read, once for all sequences", "")
    )
    if each.saved:
        rows.append(("saved", f"  {each.saved} numbers for the backward step", ""))
    if each.extra:
        rows.append(("", f"  {each.extra} numbers more that only the backward step writes", ""))
    return [*lines, *_aligned(rows, "  "), *([] if sizes is None else [_numbers(kernel, sizes)])]


def _numbers(kernel: Kernel, sizes: Mapping[str, int]) -> str:
    found = costs(kernel, sizes)
    given = ", ".join(f"{name} = {sizes[name]}" for name in sorted({"input", *kernel.graph.sizes}))
    texts = [f"forward {found.forward:,.0f}"]
    if kernel.backward is not None:
        texts += [f"backward {found.backward:,.0f}", f"after the last step {found.after:,.0f}"]
    memory = f"{found.moved_bytes:,.0f} bytes moved, {found.saved_bytes:,.0f} saved"
    return f"  with {given}: {', '.join(texts)} operations; {memory}"
