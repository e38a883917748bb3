"""One direction of a kernel as C: its passes over the units, and the way through time around them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from cellula.backends.c.arrays import Array, Sizes
from cellula.backends.c.blocks import Loop, block_rows
from cellula.backends.c.passes import PassRenderer, parameter_of
from cellula.graph.node import Input, Node, Parameter, Size
from cellula.plan.schedule import Schedule

__all__ = ["Direction", "State", "render_step"]


@dataclass(frozen=True)
class State:
    """What is carried from step to step."""

    slot: str
    size: Size
    lag: int


@dataclass(frozen=True)
class Direction:
    """What the forward or the backward half of a kernel reads and writes.

    Args:
        name: `"forward"` or `"backward"`.
        schedule: the passes of one step.
        sizes: as C expressions.
        matrices: the parameters that are multiplied with.
        states: what is carried.
        places: where each leaf and each given value lies, or its value.
        targets: what is written, and where.
        pointers: what each pointer of a call is.
        blocks: whether a pass does a block of steps before the next one begins.
        folds: whether steps are as good as rows: nothing is carried, and no array is the same for all steps.
        stopped: backward: the states of which nothing is carried on.
        totals: number of a total, and what each step adds to it.
        total_sizes: of the totals.
    """

    name: str
    schedule: Schedule
    sizes: Sizes
    matrices: tuple[Parameter, ...]
    states: tuple[State, ...]
    places: dict[Node, Array | str]
    targets: Sequence[tuple[Node, Array]]
    pointers: tuple[str, ...]
    blocks: bool
    folds: bool
    stopped: tuple[int, ...] = ()
    totals: Sequence[tuple[int, Node]] = ()
    total_sizes: tuple[Size, ...] = ()


def render_step(direction: Direction) -> str:
    """The C of one direction, with its entry function."""
    return _Step(direction).text()


class _Step:
    """One direction."""

    def __init__(self, direction: Direction) -> None:
        self.direction, self.sizes, self.name = direction, direction.sizes, direction.name
        self.phases = direction.schedule.phases
        self.places, self.targets = dict(direction.places), list(direction.targets)
        self.panels: dict[tuple[str, str], int] = {}
        self.matrix: list[tuple[int, str]] = []
        names = [parameter.name for parameter in direction.matrices]
        for product in (product for phase in self.phases for node in phase.sums for product in node.inputs):
            key = (parameter_of(product).name, product.op)
            if key not in self.panels:
                self.panels[key] = len(self.panels)
                self.matrix.append((names.index(key[0]), product.op))
        # Products of the input alone can be made for many steps at a time.
        early = self.name == "forward" and not direction.blocks
        sums = [node for phase in self.phases for node in phase.sums] if early else []
        self.early = [node for node in sums if isinstance(node.inputs[0].inputs[0].attribute, Input)]
        self.crossing = self._crossing()

    def _crossing(self) -> list[Size]:
        """Scratch rows for what a later pass reads and is not written anyway."""
        sizes: list[Size] = []
        for node in self.direction.schedule.crossing:
            if node in self.direction.schedule.steady:
                continue
            # What is in scratch memory already is nearest.
            written = sorted((a for one, a in self.targets if one is node), key=lambda array: array.row != "r")
            if not written:
                base = f"P->crossing[{len(sizes)}]"
                name = f"{node.attribute} " if node.op == "equation" else ""
                written = [Array(base, self.sizes.padded(node.size), "r", node.size, f"{name}for a later pass")]
                sizes.append(node.size)
                self.targets.append((node, written[0]))
            self.places[node] = written[0]
        return sizes

    def text(self) -> str:
        """Types, passes, the way through time, and the entry."""
        direction = self.direction
        passes = PassRenderer(
            self.name,
            direction.schedule,
            self.sizes,
            self.places,
            self.targets,
            direction.totals,
            self.panels,
            self.early,
        )
        parts = [self._types(), *(passes.render(number) for number in range(len(self.phases)))]
        parts += [self._early()] if self.early else []
        parts += [self._through_time(), self._entry()]
        return "\n\n".join(parts).replace("NAME", self.name) + "\n"

    def _types(self) -> str:
        states, early, blocks = max(len(self.direction.states), 1), len(self.early), self.direction.blocks
        spare = f", *spare[{states}]" if blocks else ""
        of_rows = """
    /* Of every row of a block its sequence; the sequences of this part. */
    int64_t *own, *first;"""
        # C has no empty arrays: every count is at least one.
        count = {
            "units": len(self.sizes.names), "panels": len(self.panels), "total_at": len(self.direction.total_sizes),
        }  # fmt: skip
        return f"""typedef struct {{
    int64_t steps, batch, parts, members, most_rows, chunk{", block" if blocks else ""};
    int64_t units[{count["units"]}];
    const double *setting;
    real *const *pointer;
    /* Steps of every row and the rows from the longest to the shortest; NULL where all run all steps. */
    const int64_t *lengths, *order;
    matrix matrices[{max(count["panels"], 1)}];
    panel panels[{max(count["panels"], 1)}];
    real *packed[{max(count["panels"], 1)}];
    int64_t total_at[{count["total_at"] + 1}];
    real *totals;
    char *scratch;
    size_t scratch_bytes;
    atomic_llong next_part, next_worker, next_pair;
    barrier gate;
}} NAME_job;

typedef struct {{
    real *last[{states}], *next[{states}]{spare}, *crossing[{max(len(self.crossing), 1)}];
    real *early, *totals;
    int64_t early_at[{max(early, 1)}], early_step, early_row, chunk;
    int64_t *ids, *flat;{of_rows if blocks else ""}
}} NAME_part;"""

    def _early(self) -> str:
        """Products of the input for all steps of a chunk."""
        lines = [
            "static void NAME_early(const NAME_job *J, const NAME_part *P, int64_t rows, int member, int members) {",
            f"    const real *x = J->pointer[{self.direction.pointers.index('x')}];",
        ]
        width = self.sizes.units("input")
        for number, node in enumerate(self.early):
            products = [p for p in node.inputs if isinstance(p.inputs[0].attribute, Input)]
            panels = [self.panels[parameter_of(p).name, p.op] for p in products]
            terms = ", ".join(f"term_of(x, {width}, P->flat, &J->panels[{panel}], pair)" for panel in panels)
            units = self.sizes.units(node.size)
            lines.append(f"""    for (int64_t pairs = PAIRS({units}), pair = pairs * member / members;
         pair < pairs * (member + 1) / members; pair++) {{
        const term terms[] = {{{terms}}};
        for (int64_t row = 0; row < rows; row += GROUP_ROWS)
            multiply_all(MINIMUM(GROUP_ROWS, rows - row), terms, {len(products)}, row, NULL, 0,
                         P->early + row * P->early_step + P->early_at[{number}] + pair * PAIR, P->early_step);
    }}""")
        return "\n".join([*lines, "}"])

    @property
    def _rows(self) -> str:
        """Where the sequences of a part are listed."""
        return "first[r]" if self.direction.blocks else "ids[r]"

    def _copies(self, pointer: str, what: str, rows: str) -> str:
        """Copy the rows of all states between the caller's memory and scratch memory."""
        lines = []
        for number, state in enumerate(self.direction.states):
            at = self.direction.pointers.index(f"{pointer} {state.slot}")
            units, padded = self.sizes.units(state.size), self.sizes.padded(state.size)
            user, own = (
                f"J->pointer[{at}] + P->{self._rows} * {units}",
                "P->{} + r * {}".format(f"{what}[{number}]", padded),
            )
            copy = f"memcpy({own}, {user}, {units} * sizeof(real))"
            if rows == "out":
                copy = f"memcpy({user}, {own}, {units} * sizeof(real))"
            elif pointer == "d_final":
                copy = f"if (J->pointer[{at}]) {copy}; else memset({own}, 0, {units} * sizeof(real))"
            lines.append(f"        {copy};")
        return "\n".join(lines)

    def _swap(self) -> str:
        return "\n".join(
            f"        {{ real *swap = P->last[{n}]; P->last[{n}] = P->next[{n}]; P->next[{n}] = swap; }}"
            for n in range(len(self.direction.states))
        )

    def _passes(self) -> str:
        lines = []
        for number in range(len(self.phases)):
            rows = "flat" if self.direction.blocks else "rows"
            lines.append(f"        NAME_pass_{number}(J, P, t, {rows}, member, members);")
            lines.append("        wait_for_all(&J->gate, members);")
        return "\n".join(lines)

    def _through_time(self) -> str:
        forward, total = self.name == "forward", len(self.direction.total_sizes)
        start = self._copies("state" if forward else "d_final", "last", "in")
        end = self._copies("final" if forward else "d_state", "last", "out")
        if self.direction.blocks:
            loop = self._blocks(start, end)
        else:
            loop = (
                (self._forward_loop(end) if forward else self._backward_loop())
                + f"""
    if (!member) for (int64_t r = 0; r < {"rows" if forward else "count"}; r++) {{
{end}
    }}"""
            )
        if not forward:
            start = "" if self.direction.blocks else f"{start}\n{self._copies('d_final', 'next', 'in')}"
        return f"""static void NAME_rows(
    NAME_job *J, const NAME_part *shared, int64_t number, int member, int members) {{
    NAME_part own = *shared, *P = &own;
    const int64_t batch = J->batch, first = batch * number / J->parts;
    const int64_t after = batch * (number + 1) / J->parts;
    const int64_t count = J->order ? (batch - number + J->parts - 1) / J->parts : after - first;
    P->totals = J->totals + number * J->total_at[{total}];
    if (!member)
        for (int64_t r = 0; r < count; r++) P->{self._rows} = J->order ? J->order[number + r * J->parts] : first + r;
    if (!member) for (int64_t r = 0; r < count; r++) {{
{start}
    }}
    wait_for_all(&J->gate, members);
{loop}
}}"""

    def _blocks(self, start: str, end: str) -> str:
        padded = [self.sizes.padded(state.size) for state in self.direction.states]
        lag = max((state.lag for state in self.direction.states), default=1)
        loop = Loop(padded, start, end, self._passes(), lag, self.direction.stopped)
        return loop.forward() if self.name == "forward" else loop.backward()

    def _forward_loop(self, end: str) -> str:
        early = """        if (P->chunk && t % P->chunk == 0) {
            int64_t flat = 0;
            for (int64_t s = t, left = rows; s < MINIMUM(t + P->chunk, J->steps); s++) {
                while (J->lengths && left && J->lengths[P->ids[left - 1]] <= s) left--;
                if (!member) for (int64_t r = 0; r < left; r++) P->flat[flat + r] = s * batch + P->ids[r];
                flat += left;
            }
            wait_for_all(&J->gate, members);
            NAME_early(J, P, flat, member, members);
            wait_for_all(&J->gate, members);
            P->early_row = 0;
        }
"""
        return f"""    int64_t rows = count;
    for (int64_t t = 0; t < J->steps; t++) {{
        for (; J->lengths && rows && J->lengths[P->ids[rows - 1]] <= t; rows--) if (!member) {{
            const int64_t r = rows - 1;
{end}
        }}
        if (!rows) break;
{early if self.early else ""}{self._passes()}
{self._swap()}
        P->early_row += rows;
    }}"""

    def _backward_loop(self) -> str:
        stopped = "".join(
            f"        if (!member) memset(P->next[{n}], 0, rows * {self.sizes.padded(self.direction.states[n].size)} "
            "* sizeof(real));\n"
            for n in self.direction.stopped
        )
        return f"""    int64_t rows = J->lengths ? 0 : count;
    for (int64_t t = J->steps; t--;) {{
        while (rows < count && J->lengths[P->ids[rows]] > t) rows++;
        if (!rows) continue;
{self._passes()}
{stopped}{self._swap()}
        wait_for_all(&J->gate, members);
    }}"""

    def _memory(self) -> str:
        """The scratch memory of one worker; with a NULL cursor it is only counted."""
        lines = [
            "static size_t NAME_memory(const NAME_job *J, NAME_part *P, char *memory) {",
            "    char *cursor = memory;",
        ]
        blocks, states = self.direction.blocks, self.direction.states
        rows = "J->block" if blocks else "J->most_rows"
        # A row more for every sequence: what the block before left.
        kept = "(J->block + J->most_rows)" if blocks else rows
        wanted = [
            (f"P->{what}[{number}]", kept, state.size)
            for number, state in enumerate(states)
            for what in ("last", "spare" if blocks else "next")
        ]
        wanted += [(f"P->crossing[{number}]", rows, size) for number, size in enumerate(self.crossing)]
        for name, count, size in wanted:
            lines.append(f"    {name} = carve(&cursor, {count} * {self.sizes.padded(size)} * sizeof(real));")
        lines.append("    P->early_step = 0, P->early_row = 0, P->chunk = J->chunk;")
        for number, node in enumerate(self.early):
            lines.append(f"    P->early_at[{number}] = P->early_step, P->early_step += {self.sizes.padded(node.size)};")
        lines += [
            "    P->early = carve(&cursor, J->most_rows * P->chunk * P->early_step * sizeof(real));",
            "    P->flat = carve(&cursor, J->most_rows * P->chunk * sizeof(int64_t));",
        ]
        numbers = [("ids", rows), ("own", rows), ("first", "J->most_rows")] if blocks else [("ids", rows)]
        lines += [f"    P->{name} = carve(&cursor, {count} * sizeof(int64_t));" for name, count in numbers]
        return "\n".join([*lines, "    return (size_t)(cursor - memory);", "}"])

    def _near(self) -> list[Size]:
        """The sizes of what a row of a block keeps in the caches from pass to pass."""
        return ["input", *self.crossing, *(state.size for state in self.direction.states)]

    def _entry(self) -> str:
        sizes, matrices = len(self.sizes.names), self.direction.matrices
        strides = 8 + sizes
        lines = []
        for number, (index, op) in enumerate(self.matrix):
            parameter = matrices[index]
            rows, columns = (f"{self.sizes.units(size)} / {parameter.blocks}" for size in parameter.sizes)
            at = strides + 3 * index
            pointer = self.direction.pointers.index(f"parameter {parameter.name}")
            lines.append(
                f"    J->matrices[{number}] = (matrix){{J->pointer[{pointer}], "
                f"{rows}, {columns}, {parameter.blocks}, n[{at}], n[{at + 1}], n[{at + 2}]}};"
            )
            if op == "transposed":
                lines.append(f"    J->matrices[{number}] = turned(J->matrices[{number}]);")
        totals = []
        for number, size in enumerate(self.direction.total_sizes):
            totals.append(f"    J->total_at[{number + 1}] = J->total_at[{number}] + PAD({self.sizes.units(size)});")
        handed = []
        last = len(self.direction.total_sizes)
        for number, size in enumerate(self.direction.total_sizes):
            at = len(self.direction.pointers) - last + number
            handed.append(
                f"    add_parts(J->pointer[{at}], J->totals + J->total_at[{number}], {self.sizes.units(size)}, "
                f"J->parts, J->total_at[{last}]);"
            )
        early, at_once, folded = "", "J->batch", ""
        if self.direction.blocks:
            early = block_rows([self.sizes.padded(size) for size in self._near()])
            at_once = "MINIMUM(J->batch * J->steps, GROUP_ROWS)"
        if self.direction.folds:
            folded = "\n    if (!J->lengths) J->batch *= J->steps, J->steps = 1;"
        if self.early:
            width = " + ".join(self.sizes.padded(node.size) for node in self.early)
            early = f"""    if (J->steps > 1 && J->most_rows < EARLY_ROWS) {{
        const int64_t step = J->most_rows * ({width}) * (int64_t)sizeof(real);
        J->chunk = MINIMUM(J->steps, MAXIMUM(EARLY_BYTES / step, 1));
    }}"""
        return f"""{self._memory()}

static void NAME_pack(void *data, int member, int members) {{
    NAME_job *J = data;
    (void)member, (void)members;
    for (;;) {{
        int64_t pair = atomic_fetch_add(&J->next_pair, 1), number = 0;
        for (; number < {len(self.panels)} && pair >= J->panels[number].pairs; number++)
            pair -= J->panels[number].pairs;
        if (number == {len(self.panels)}) return;
        if (J->packed[number]) pack_pair(&J->matrices[number], &J->panels[number], pair, J->packed[number]);
    }}
}}

static void NAME_work(void *data, int member, int members) {{
    NAME_job *J = data;
    NAME_part P;
    const int64_t worker = J->members > 1 ? 0 : atomic_fetch_add(&J->next_worker, 1);
    NAME_memory(J, &P, J->scratch + worker * J->scratch_bytes);
    if (J->members > 1)
        NAME_rows(J, &P, 0, member, members);
    else
        for (int64_t number; (number = atomic_fetch_add(&J->next_part, 1)) < J->parts;) NAME_rows(J, &P, number, 0, 1);
}}

/* n: torch's three thread functions, threads, steps, batch, lengths, order, the sizes, three strides a matrix.
   0: done; 1: no memory. */
int NAME(const int64_t *n, void *const *pointer, const double *setting) {{
    NAME_job job = {{0}}, *J = &job;
    const threads pool = {{(parallel_function)n[0], (count_function)n[1], (count_function)n[2]}};
    J->steps = n[4], J->batch = n[5], J->lengths = (const int64_t *)n[6], J->order = (const int64_t *)n[7];{folded}
    memcpy(J->units, n + 8, {sizes} * sizeof(int64_t));
    J->setting = setting, J->pointer = (real *const *)pointer;
{chr(10).join(lines)}
{chr(10).join(totals)}
    const int64_t uses = J->steps * J->batch;
    size_t weights = 0, packed_bytes = 0;
    for (int number = 0; number < {len(self.panels)}; number++) {{
        const size_t reals = panel_reals(&J->matrices[number]);
        weights += reals;
        J->packed[number] = uses < DIRECT_USES && can_be_direct(&J->matrices[number]) ? NULL : (real *)1;
        if (J->packed[number]) packed_bytes += (reals * sizeof(real) + 63) / 64 * 64;
    }}
    int workers = (int)n[3];
    if ((double)(weights + 64) * uses < SMALL_WORK) workers = 1;
    const int by_units = workers > 1 && pool.parallel && J->batch < workers && weights * {at_once} >= UNITS_WORK;
    J->members = by_units ? workers : 1;
    J->parts = by_units ? 1 : MAXIMUM(1, MINIMUM(workers, J->batch));
    workers = by_units ? workers : (int)J->parts;
    J->parts = MAXIMUM(J->parts, J->parts * ((J->batch + J->parts * MOST_ROWS - 1) / (J->parts * MOST_ROWS)));
    J->most_rows = (J->batch + J->parts - 1) / J->parts;
{early}
    NAME_part measure;
    J->scratch_bytes = (NAME_memory(J, &measure, NULL) + 4095) / 4096 * 4096;
    const size_t total_bytes = J->parts * J->total_at[{len(self.direction.total_sizes)}] * sizeof(real);
    const size_t scratch = J->scratch_bytes * (by_units ? 1 : workers);
    int kept;
    char *arena = take_arena(packed_bytes + scratch + total_bytes + 4096, &kept), *cursor = arena;
    if (!arena) return 1;
#ifdef CELLULA_POISON
    memset(arena, 0xff, packed_bytes + scratch + total_bytes);
#endif
    for (int number = 0; number < {len(self.panels)}; number++) {{
        if (J->packed[number]) J->packed[number] = carve(&cursor, panel_reals(&J->matrices[number]) * sizeof(real));
        J->panels[number] = panel_of(&J->matrices[number], J->packed[number]);
    }}
    J->totals = (real *)cursor, cursor += total_bytes;
    memset(J->totals, 0, total_bytes);
    J->scratch = arena + (cursor - arena + 63) / 64 * 64;
    run_team(NAME_pack, J, &pool, packed_bytes > PACK_BYTES ? workers : 1);
    run_team(NAME_work, J, &pool, workers);
{chr(10).join(handed)}
    give_arena(arena, kept);
    return 0;
}}"""
