"""Random formulas for hypothesis: always valid, using all of the language."""

from dataclasses import dataclass, field

from hypothesis import strategies as st

from cellula.graph.ops import OPS

SIZES = {"input": 4, "hidden": 6, "proj": 2}
# Words that mean something to Python, to torch or to Cellula's own code, and plain ones.
_WORDS = (
    "i f g o c s r z n m q k v a b W U V W_i b_f p_ train forward type match case graph layers start tensors training "
    "initial state parameters output x1 X name T B self count index keys values print sizes settings step "
    "long_word_2 lag"
).split()
NODES, PARAMETERS = _WORDS[::2], _WORDS[1::2]
COMMENTS = st.text(st.characters(exclude_categories=("Cs", "Cc", "Zl", "Zp")), max_size=30)
NUMBERS = st.one_of(
    st.integers(-20, 20).map(str),
    st.floats(-3, 3).map(repr),
    st.sampled_from(["0.1", "1e-3", "1e300", "5e-324", "-0.0", "1_000", "0x1f", ".5", "2.", "1.7976931348623157e308"]),
)
INITS = (
    "1", "-0.5", "uniform(-1, 1)", "normal(0.1)", "normal()", "constant(2)", "log_uniform(1, 3)", "chrono(9)",
    "ring(0.5, 0.9)", "signs()", "spaced(-1, 1)", "spaced(1, 0, 2, 2)", "powers(0.5, 2)", "uniform_fan_out()",
)  # fmt: skip
MATRIX_INITS = (*INITS, "xavier()", "orthogonal()", "orthogonal(0.5)", "identity()", "uniform_fan_in()",
                "normal_fan_in(0.5)", "tile()", "stretch()")  # fmt: skip
# An expression that keeps an argument within the op's domain.
SAFE = {
    "log": "abs({}) + 0.5",
    "sqrt": "abs({}) + 0.5",
    "exp": "min({}, 1)",
    "divide": "1 + abs({})",
    "power": "abs({}) + 0.5",
}


@dataclass
class _Maker:
    """Draws one formula; `numeric` keeps every value finite and away from ties."""

    draw: st.DrawFn
    numeric: bool
    sizes: dict[str, str | None] = field(default_factory=dict)  # node -> size, None for a single number
    known: list[str] = field(default_factory=list)  # computed before in this step
    parameters: dict[tuple, str] = field(default_factory=dict)  # (kind, sizes, blocks) -> name
    declared: dict[str, str] = field(default_factory=dict)
    reads: dict[str, set[str]] = field(default_factory=dict)
    current: str = ""

    def pick(self, *options):
        return self.draw(st.sampled_from(options))

    def number(self):
        return str(self.pick("0.5", "-1.25", "2", "0.3")) if self.numeric else self.draw(NUMBERS)

    def parameter(self, kind, *sizes):
        blocks = self.pick(1, 1, 2) if kind == "matrix" else 1
        key = (kind, sizes, blocks, self.pick(0, 1))
        if key not in self.parameters:
            name = self.pick(*PARAMETERS)
            while name in self.parameters.values():
                name += self.pick("1", "A", "_b")
            self.parameters[key] = name
            self.declare(name, kind, sizes, blocks)
        return self.parameters[key]

    def declare(self, name, kind, sizes, blocks):
        words = [*sizes] if self.pick(True, False) else []
        if self.pick(True, False, False):
            words.append("init=" + self.pick(*(MATRIX_INITS if kind == "matrix" else INITS)))
        if blocks > 1:
            words.append(f"blocks={blocks}")
        elif kind == "matrix" and self.pick(True, False, False):
            words.append("triangle=2")
        if self.pick(True, False, False):
            words.append("learned=0")
        if kind == "setting":
            words = [self.number()]
        if words or kind not in ("matrix", "vector"):
            self.declared[name] = f"{name} = {kind}({', '.join(words)})"

    def read(self, size):
        """A node of this size, at this step or an earlier one."""
        options = [f"{name}[t]" for name in self.known if self.sizes[name] == size]
        options += [f"{name}[t-{lag}]" for name in self.sizes if self.sizes[name] == size for lag in (1, 1, 3)]
        if size == "input":
            options += ["x[t]", "x[t]", "x[t-1]", "x[t - 2]"]
        if not options:
            return None
        found = self.pick(*options)
        self.reads[self.current].add(found.split("[")[0])
        return found

    def atom(self, size):
        found = self.read(size) if self.pick(True, True, False) else None
        if size is None:
            return found or (
                self.number() if self.pick(True, False) else self.parameter(self.pick("scalar", "setting"))
            )
        return found or self.parameter("vector", size)

    def expression(self, size, depth):
        """An expression of this size; it holds at least one value that has it."""
        kind = self.pick("atom", "op", "op", "product", "paren") if depth else "atom"
        if kind == "product" and size is not None:
            rows = self.pick(*SIZES)
            square = rows == size and self.pick(True, False)
            if square:
                matrix = self.parameter("diagonal", size)
            elif self.pick(False, False, True):
                matrix = f"{self.parameter('matrix', size, rows)}.T"
            else:
                matrix = self.parameter("matrix", rows, size)
            return f"({self.expression(rows, depth - 1)}) @ {matrix}"
        if kind in ("op", "product"):
            return self.operation(size, depth)
        inside = self.expression(size, depth - 1) if kind == "paren" else self.atom(size)
        return f"({inside})" if kind == "paren" else inside

    def operation(self, size, depth):
        shapes = ("elementwise", "elementwise", "elementwise", "reduce" if size is None else "normalize", "expand")
        shape = self.pick(*shapes)
        op = self.pick(*(op for op in OPS.values() if op.shape == shape))
        if size is None and shape == "expand":
            op = OPS["tanh"]
        own = 0 if op.shape != "expand" else 1
        arguments = []
        for index, argument in enumerate(op.arguments):
            if argument.default is not None and self.pick(True, False):
                break
            if argument.number:
                arguments.append(self.rate(argument))
                continue
            if self.numeric and op.name == "power" and index == 1:
                arguments.append(self.pick("2", "-0.5", "3"))
                continue
            inner = size if index == own else self.pick(size, None) if op.shape == "elementwise" else None
            inner = self.pick(*SIZES) if op.shape == "reduce" else inner
            # A jump or a tie deep inside would turn rounding into an error.
            jumps = op.name in ("sign", "where", "units") or (op.symbol and op.range == (0.0, 1.0))
            shallow = self.numeric and jumps
            text = self.atom(inner) if shallow else self.expression(inner, depth - 1)
            if self.numeric and op.name in SAFE and index == (1 if op.name == "divide" else 0):
                text = SAFE[op.name].format(f"({text})")
            arguments.append(text)
        if op.symbol is None:
            return f"{op.name}({', '.join(arguments)})"
        inside = [f"({argument})" for argument in arguments]
        return f"-{inside[0]}" if op.name == "negative" else f"{inside[0]} {op.symbol} {inside[1]}"

    def rate(self, argument):
        value = self.pick("0.1", "0.5", "0.25")
        if self.pick(True, False):
            return value
        key = ("rate", value)
        if key not in self.parameters:
            self.parameters[key] = f"rate{len(self.parameters)}"
            self.declared[self.parameters[key]] = f"{self.parameters[key]} = setting({value})"
        return self.parameters[key]

    def equation(self, name, last):
        size, self.current = self.sizes[name], name
        self.reads[name] = set()
        text = self.expression(size, 3)
        annotated = size is not None and (size != "hidden" or self.pick(True, False))
        if size is not None and not annotated:
            # Without an annotation, a node of numbers and of itself would be a single number.
            text = f"{text} + {self.parameter('vector', size)}"
        if last:
            for other in self.unreached(name):
                text = f"({text}) + {'' if self.sizes[other] in (None, size) else 'mean'}({other}[t])"
                self.reads[name].add(other)
        self.known.append(name)
        return f"{name}[t]{f': {size}' if annotated else ''} = {f'tanh({text})' if self.numeric else text}"

    def unreached(self, output):
        """What the output does not depend on, found again after each one that is added."""
        missing = []
        for name in self.sizes:
            reached, pending = set(), [output, *missing]
            while pending:
                one = pending.pop()
                if one not in reached:
                    reached.add(one)
                    pending += self.reads.get(one, ())
            if name not in reached:
                missing.append(name)
        return missing


@st.composite
def formulas(draw, numeric=False):
    """The text of a valid formula: several equations, lags, all ops, declarations, sizes, annotations, comments."""
    make = _Maker(draw, numeric)
    names = draw(st.lists(st.sampled_from(NODES), max_size=3, unique=True))
    output = make.pick("h", "y")
    for name in [*names, output]:
        make.sizes[name] = make.pick("hidden", "hidden", "proj", "input", None)
    equations = [make.equation(name, name == output) for name in make.sizes]
    lines = [*make.declared.values()]
    for equation in equations:
        if not numeric and make.pick(True, False):
            lines.append(f"# {draw(COMMENTS)}")
        lines.append(equation + (f"  # {draw(COMMENTS)}" if not numeric and make.pick(True, False) else ""))
    if not numeric and make.pick(True, False, False):
        title, more = draw(COMMENTS), draw(COMMENTS)
        quoted = f"{title}.\n\n{more}\nReference: {title}".replace("\\", "\\\\").replace('"', '\\"')
        lines.insert(0, f'"""{quoted}"""')
    return "\n".join(lines) + "\n"
