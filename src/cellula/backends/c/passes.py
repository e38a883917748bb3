"""One pass over the units of a step as C: products by tiles, and the whole formula on what they leave in the cache."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from cellula.backends.c.arrays import Array, Sizes
from cellula.backends.c.spelling import spell
from cellula.backends.c.tiles import MOST_LISTS
from cellula.graph.node import Extent, Input, Node, Parameter, State
from cellula.plan.schedule import Phase, Schedule

__all__ = ["PassRenderer", "parameter_of"]


def parameter_of(product: Node) -> Parameter:
    """The matrix of a product."""
    parameter = product.inputs[1].attribute
    assert isinstance(parameter, Parameter)
    return parameter


@dataclass(frozen=True)
class PassRenderer:
    """Writes the passes of one direction.

    Args:
        name: of the direction.
        schedule: its passes.
        sizes: as C expressions.
        places: where leaves, given values and values of earlier passes lie.
        targets: what is written, and where.
        totals: number of a total, its node.
        panels: (matrix, op) -> number of its panel.
        early: the sums of which some products may have been computed for many steps before.
    """

    name: str
    schedule: Schedule
    sizes: Sizes
    places: Mapping[Node, Array | str]
    targets: Sequence[tuple[Node, Array]]
    totals: Sequence[tuple[int, Node]]
    panels: Mapping[tuple[str, str], int]
    early: Sequence[Node]

    def render(self, number: int) -> str:
        """The function of one pass."""
        return _Pass(self, number, self.schedule.phases[number]).text()


class _Pass:
    """One pass."""

    def __init__(self, whole: PassRenderer, number: int, phase: Phase) -> None:
        self.whole, self.number, self.phase, self.sizes = whole, number, phase, whole.sizes
        place = whole.schedule.phase_of
        self.targets = [(node, array) for node, array in whole.targets if place(node) == number]
        self.totals = [(total, node) for total, node in whole.totals if place(node) == number]
        self.pointers: dict[str, tuple[str, str]] = {}

    def text(self) -> str:
        """The whole function."""
        body = self._numbers() if self.phase.size is None else self._units()
        name = self.whole.name
        named = [str(node.attribute) for node in self.phase.nodes if node.op == "equation"]
        place = f"Pass {self.number + 1} of {len(self.whole.schedule.phases)} {name}"
        what = f"{place}: {', '.join(named) or 'unnamed values'}"
        lines = [
            comment(what).strip(),
            f"static void {name}_pass_{self.number}(const {name}_job *J, const {name}_part *P, int64_t t, "
            "int64_t rows, int member, int members) {",
            "    const int64_t *ids = P->ids;",
            *(f"    real *const {local} = {base};{comment(whose)}" for base, (local, whose) in self.pointers.items()),
            *(f"    {line}" for line in body),
            "}",
        ]
        return "\n".join(lines)

    def _numbers(self) -> list[str]:
        """Single numbers of every row, in all lanes."""
        loop = ["for (int64_t r = 0; r < rows; r++) {", "    const int64_t id = ids[r];", "    (void)id;"]
        body = _Body(self, True).lines()
        return ["(void)t, (void)members;", "if (member) return;", *loop, *(f"    {line}" for line in body), "}"]

    def _units(self) -> list[str]:
        sums = len(self.phase.sums)
        # With one or two rows several pairs of vectors are done at a time: enough sums are under way, and weights that
        # are read where they are come in longer runs.
        span = MOST_LISTS if sums else 1
        inside = self._group(sums, span)
        lines = [
            f"const int64_t units = {self.sizes.units(self.phase.size)}, pairs = PAIRS(units);",
            f"const int64_t span = rows <= 2 ? {span} : 1, end = pairs * (member + 1) / members;",
            "(void)t;",
            "for (int64_t pair = pairs * member / members, after; pair < end; pair = after) {",
            "    after = MINIMUM(pair + span, end);",
        ]
        lines += [f"    vec total_{index}[{2 * span}] = {{splat(0)}};" for index in range(len(self.totals))]
        lines += [f"    {line}" for line in inside]
        for index, (total, _) in enumerate(self.totals):
            at = f"P->totals + J->total_at[{total}] + pair * PAIR + half * WIDTH"
            lines.append("    for (int half = 0; half < 2 * (after - pair); half++)")
            lines.append(f"        store({at}, load({at}) + total_{index}[half]);")
        return [*lines, "}"]

    def _group(self, sums: int, span: int) -> list[str]:
        """A group of rows: the products, then the formula on them."""
        lines = []
        if sums:
            lines += [f"real sums[MAXIMUM(GROUP_ROWS, {2 * span}) * {sums} * PAIR] __attribute__((aligned(64)));"]
            lines += self._terms(span)
        lines += [
            "for (int64_t row = 0, last; row < rows; row = last) {",
            f"    last = MINIMUM(row + {'GROUP_ROWS' if sums else 'rows'}, rows);",
            *(f"    {line}" for line in self._products(sums, span)),
            "    for (int half = 0; half < 2 * (after - pair); half++) {",
            "        const int64_t u = pair * PAIR + half * WIDTH, left = units - u;",
            "        if (left <= 0) break;",
            "        if (left >= WIDTH) {",
            *(f"            {line}" for line in self._rows(True)),
            "        } else {",
            "            const int n = (int)left;",
            "            (void)n;",
            *(f"            {line}" for line in self._rows(False)),
            "        }",
            "    }",
        ]
        return [*lines, "}"]

    def _terms(self, span: int) -> list[str]:
        """The factors of every sum, for every pair of vectors."""
        lines = []
        for index, node in enumerate(self.phase.sums):
            rows = []
            for product in node.inputs:
                panel = self.whole.panels[parameter_of(product).name, product.op]
                place = self.whole.places[product.inputs[0]]
                assert isinstance(place, Array)
                local = self.pointer(place)
                rows.append(f"term_of({local}, {place.step}, {place.rows}, &J->panels[{panel}], pair + p)")
            lines.append(f"term terms_{index}[{span}][{len(rows)}];")
            lines.append("for (int64_t p = 0; p < after - pair; p++) {")
            lines += [f"    terms_{index}[p][{number}] = {row};" for number, row in enumerate(rows)]
            lines.append("}")
        return lines

    def _products(self, sums: int, span: int) -> list[str]:
        """The calls that leave all sums of products in `sums`."""
        if not sums:
            return []
        if not any(node in self.whole.early for node in self.phase.sums):
            return ["{", *self._calls(span, False), "}"]
        return ["if (P->chunk) {", *self._calls(span, True), "} else {", *self._calls(span, False), "}"]

    def _calls(self, span: int, early: bool) -> list[str]:
        """Sums of the same left sides go together; `early` if products of the input have been made before."""
        groups: dict[tuple[bool, tuple[Node, ...]], list[int]] = {}
        for index, node in enumerate(self.phase.sums):
            left = tuple(product.inputs[0] for product in node.inputs)
            if early:
                left = tuple(value for value in left if not isinstance(value.attribute, Input))
            begun = early and node in self.whole.early
            groups.setdefault((begun, left), []).append(index)
        lines = []
        for (begun, left), members in groups.items():
            lines += self._call(members, span, len(left), begun)
        return lines

    def _call(self, members: list[int], span: int, terms: int, begun: bool) -> list[str]:
        sums, most = len(self.phase.sums), span * len(members)
        lines = [
            "    {",
            f"        const term *lists[{most}];",
            f"        const real *start[{most}] = {{NULL}};",
            f"        real *out[{most}];",
            "        int count = 0;",
        ]
        for index in members:
            node = self.phase.sums[index]
            skipped = len(node.inputs) - terms
            lines += [
                "        for (int64_t p = 0; p < after - pair; p++) {",
                f"            lists[count] = terms_{index}[p] + {skipped};",
            ]
            if begun:
                number = list(self.whole.early).index(node)
                lines.append(
                    "            start[count] = P->early + (P->early_row + row) * P->early_step "
                    f"+ P->early_at[{number}] + (pair + p) * PAIR;"
                )
            lines.append(f"            out[count++] = sums + (p * {2 * sums} + {index}) * PAIR;")
            lines.append("        }")
        step = "P->early_step" if begun else "0"
        lines += [
            f"        multiply_lists(last - row, lists, count, {terms}, row, start, {step}, out, {sums} * PAIR);",
            "    }",
        ]
        return lines

    def _rows(self, full: bool) -> list[str]:
        body = _Body(self, full).lines()
        return [
            "for (int64_t r = row; r < last; r++) {",
            "    const int64_t id = ids[r];",
            "    (void)id;",
            *(f"    {line}" for line in body),
            "}",
        ]

    def pointer(self, array: Array) -> str:
        """The local name of an array's first row at this step."""
        return self.pointers.setdefault(array.base, (f"a{len(self.pointers)}", array.what))[0]


class _Body:
    """What is done for one row and one vector of units; `full` if all its lanes are units."""

    def __init__(self, one: _Pass, full: bool) -> None:
        self.one, self.full = one, full
        self.sums = {node: index for index, node in enumerate(one.phase.sums)}
        self.values: dict[Node, str] = {}
        self.code: list[str] = []

    def lines(self) -> list[str]:
        """The statements: values in order, then everything that is written."""
        single = self.one.phase.size is None
        for node in self.one.phase.nodes:
            self._compute(node)
        writes = []
        for node, array in self.one.targets:
            at = array.at(self.one.pointer(array))
            value = self._value(node)
            if single:
                writes.append(f"*({at}) = {value}[0];")
            elif self.full or array.padded:
                writes.append(f"store({at} + u, {value});")
            else:
                writes.append(f"store_part({at} + u, {value}, n);")
        for index, (total, node) in enumerate(self.one.totals):
            value = self._value(node)
            writes.append(
                f"P->totals[J->total_at[{total}]] += {value}[0];" if single else f"total_{index}[half] += {value};"
            )
        return self.code + writes

    def _name(self, node: Node, text: str) -> str:
        name = self.values[node] = f"v{len(self.values)}"
        what = " + ".join(map(_product, node.inputs)) if node.op == "accumulate" else ""
        self.code.append(f"const vec {name} = {text};{comment(str(node.attribute) if node.op == 'equation' else what)}")
        return name

    def _compute(self, node: Node) -> None:
        if node in self.sums:
            index, count = self.sums[node], len(self.sums)
            # Pairs beyond the first are there with at most two rows.
            at = f"((half / 2) * {2 * count} + (r - row) * {count} + {index}) * PAIR + half % 2 * WIDTH"
            self._name(node, f"load(sums + {at})")
        elif node.op == "equation":
            self._name(node, self._value(node.inputs[0]))
        elif node.op in ("sum", "peak"):
            self._name(node, self._reduction(node))
        else:
            self._name(node, self._spelled(node))

    def _spelled(self, node: Node) -> str:
        if node.op == "equation":
            return self._value(node.inputs[0])
        if node.op == "units":
            return f"splat((real)({self.one.sizes.units(node.inputs[0].size)}))"
        # An extent stands for a size only; what is repeated over it is in every lane already.
        arguments = [self._value(child) for child in node.inputs if not isinstance(child.attribute, Extent)]
        return spell(node, arguments)

    def _reduction(self, node: Node) -> str:
        child = node.inputs[0]
        if child.size is None:
            return self._value(child)
        place = self.one.whole.places[child]
        assert isinstance(place, Array)
        return f"splat({node.op}_row({place.at(self.one.pointer(place))}, {self.one.sizes.units(child.size)}))"

    def _value(self, node: Node) -> str:
        """The local variable that holds a value here."""
        if node in self.values:
            return self.values[node]
        if node in self.one.whole.schedule.steady:
            return self._name(node, self._spelled(node))
        place = self.one.whole.places[node]
        return self._name(node, place if isinstance(place, str) else self._load(place))

    def _load(self, array: Array) -> str:
        at = array.at(self.one.pointer(array))
        if array.size is None:
            return f"splat(*({at}))"
        if self.full or array.padded:
            return f"load({at} + u)"
        return f"load_part({at} + u, n)"


def comment(text: str) -> str:
    """A comment behind a line; of a formula's words only what can end no comment."""
    safe = "".join(letter for letter in text if letter.isascii() and (letter.isalnum() or letter in "_ @+-.,:()"))
    return f"  /* {safe} */" if safe else ""


def _product(node: Node) -> str:
    """A matrix product for a comment."""
    value, matrix = node.inputs[0], parameter_of(node).name
    name = getattr(value.attribute, "name", None) or (value.attribute if value.op == "equation" else "value")
    before = f"(t - {value.attribute.lag})" if isinstance(value.attribute, State) else ""
    return f"{name}{before} @ {matrix}{'.T' if node.op == 'transposed' else ''}"
