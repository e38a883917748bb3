"""Every way in which a formula can be wrong: one row a mistake.

A row is the message, the help, and formulas that show exactly this mistake. The rows are the documentation
of the errors (`docs/errors.md` is printed from them) and their test.
"""

from __future__ import annotations

from dataclasses import dataclass

from cellula.errors import Note, Problem, Span

__all__ = ["ERRORS", "ErrorKind", "problem"]


@dataclass(frozen=True)
class ErrorKind:
    """One row: `message` and `help` are templates; each of `examples` shows the mistake and no other."""

    message: str
    help: str
    examples: tuple[str, ...]


ERRORS: dict[str, ErrorKind] = {
    # The text as a whole
    "empty": ErrorKind(
        "the formula has no equation",
        "write at least one, such as `h[t] = tanh(x[t] @ W + h[t-1] @ U + b)`",
        ("", "# only a comment", '"""Only a title."""', "b = vector(init=1)"),
    ),
    "not-readable": ErrorKind("the file cannot be read: {reason}", "give the path of a .cell file", ()),
    "not-text": ErrorKind("the file is not UTF-8 text: byte {byte} cannot be read", "save it as UTF-8", ()),
    "too-long": ErrorKind(
        "the {what} has {size} characters, more than the {limit} allowed",
        "split it into named nodes, or check that this is a formula at all",
        ("h[t] = x[t] @ W" + " + x[t]" * 1000, "# " + "-" * 70_000 + "\nh[t] = tanh(x[t] @ W)"),
    ),
    "too-deep": ErrorKind(
        "this expression is nested more than {limit} deep",
        "give inner parts a name: `a[t] = ...`, then use `a[t]`",
        ("h[t] = " + "tanh(" * 120 + "x[t] @ W" + ")" * 120, "h[t] = " + "-" * 200 + "x[t]"),
    ),
    "non-ascii": ErrorKind(
        "`{char}` (U+{code}, {name}) is not part of the language",
        "{help}",
        (
            "h[t] = tanh(x[t] ＠ W)",
            "h[t] = σ(x[t] @ W)",
            "h[t] = tanh(x[t] @ W) − 1",
            "һ[t] = tanh(x[t] @ W)",
        ),
    ),
    "invalid-character": ErrorKind(
        "the character U+{code} is not part of the language",
        "delete it",
        ("h[t] = tanh(x[t] @ W)\x00", "h[t] = tanh(x[t] @ W) $ 2", "h[t] = x[t] @ W ?"),
    ),
    "bracket": ErrorKind(
        "`{bracket}` {what}",
        "{help}",
        ("h[t] = tanh(x[t] @ W", "h[t] = tanh(x[t] @ W))", "h[t] = tanh(x[t) @ W"),
    ),
    "string": ErrorKind(
        "this string is never closed",
        "close it with {quote}",
        ('"""A title without an end\nh[t] = tanh(x[t] @ W)', "'title\nh[t] = tanh(x[t] @ W)"),
    ),
    "docstring": ErrorKind(
        "a text stands where an equation or a declaration was expected",
        "the docstring comes first in the file, once; use `#` for a comment",
        ('h[t] = tanh(x[t] @ W)\n"""Too late."""',),
    ),
    "indentation": ErrorKind(
        "this line is indented",
        "equations and declarations start in the first column; put brackets around what goes over several lines",
        ("  h[t] = tanh(x[t] @ W)", "h[t] = x[t] @ W\n    + 1"),
    ),
    "syntax": ErrorKind(
        "this cannot be read: {what}",
        "an equation is written `h[t] = tanh(x[t] @ W + h[t-1] @ U + b)`",
        ("h[t] = ", "h[t] = x[t] @", "h[t] == ", "h[t] = x[t] W", "h[t] = 3 tanh(x[t])", "h[t] := x[t] @ W"),
    ),
    # Statements
    "statement": ErrorKind(
        "{what} is not part of the language",
        "a formula holds equations (`h[t] = ...`) and declarations (`b = vector(init=1)`) only",
        (
            "import os",
            "def f(x): return x",
            "def f(x):",
            "if 1: h[t] = 2",
            "h[t]",
            "del h",
            "for i in x: pass",
            "x[t] @ W",
        ),
    ),
    "target": ErrorKind(
        "`{text}` cannot be assigned",
        "{help}",
        (
            "h[t], c[t] = x[t]",
            "h.c = x[t]",
            "h[t] = c[t] = tanh(x[t] @ W)",
            "h[t] += x[t] @ W",
            "h[0] = x[t] @ W",
        ),
    ),
    "target-step": ErrorKind(
        "`{text}` is assigned, but an equation says what a node is at step t",
        "write `{name}[t] = ...` and shift the steps on the right side",
        ("h[t-1] = tanh(x[t] @ W)", "h[t+1] = tanh(x[t] @ W)"),
    ),
    "assign-input": ErrorKind(
        "`x[t]` is the input and cannot be assigned",
        "give the node another name",
        ("x[t] = tanh(x[t] @ W)\nh[t] = x[t]",),
    ),
    "assigned-twice": ErrorKind(
        "`{name}[t]` is assigned a second time",
        "give each node one equation; use another name here",
        ("h[t] = tanh(x[t] @ W)\nh[t] = x[t] @ W",),
    ),
    "declared-twice": ErrorKind(
        "`{name}` is declared a second time",
        "keep one of the two declarations",
        ("b = vector()\nb = vector(init=1)\nh[t] = x[t] @ W + b",),
    ),
    "invalid-name": ErrorKind(
        "`{name}` cannot be a name here",
        "names are letters, digits and single underscores, start with a letter, do not end in `_lag` and a number, "
        "and have at most {limit} characters",
        (
            "_h[t] = tanh(x[t] @ W)\nh[t] = x[t] @ W",
            "h[t] = x[t] @ W__a",
            "h[t] = x[t] @ W_lag2",
            "h[t] = x[t] @ " + "W" * 41,
        ),
    ),
    "name-taken": ErrorKind(
        "`{name}` is {what}, so nothing else can have this name",
        "use another name, such as `{suggestion}`",
        (
            "tanh[t] = x[t] @ W\nh[t] = tanh[t]",
            "h[t] = x[t] @ sum",
            "hidden[t] = x[t] @ W\nh[t] = hidden[t]",
            "t = vector()\nh[t] = x[t] @ W",
            "h[t] = x[t] @ W + vector",
        ),
    ),
    # Declarations
    "declaration": ErrorKind(
        "`{name}` is declared with {what}",
        "{help}",
        (
            "b = 3\nh[t] = x[t] @ W + b",
            "b = sigmoid(1)\nh[t] = x[t] @ W + b",
            "b = vektor()\nh[t] = x[t] @ W + b",
            "b: hidden = vector()\nh[t] = x[t] @ W + b",
        ),
    ),
    "declaration-argument": ErrorKind(
        "{what}",
        "{help}",
        (
            "b = vector(inti=1)\nh[t] = x[t] @ W + b",
            "b = vector(init=foo())\nh[t] = x[t] @ W + b",
            "a = setting()\nh[t] = a * (x[t] @ W)",
            "W = matrix(blocks=0)\nh[t] = x[t] @ W",
            "W = matrix(input)\nh[t] = x[t] @ W",
            "b = vector(3)\nh[t] = x[t] @ W + b",
            "b = vector(init=1, init=2)\nh[t] = x[t] @ W + b",
            "b = vector(init=normal(1, 2))\nh[t] = x[t] @ W + b",
            "b = vector(init=orthogonal())\nh[t] = x[t] @ W + b",
            "b = vector(init=x[t])\nh[t] = x[t] @ W + b",
            "W = matrix(learned=2)\nh[t] = x[t] @ W",
            "W = matrix(triangle=0.5)\nh[t] = x[t] @ W",
            "W = matrix(blocks=2, triangle=2)\nh[t] = x[t] @ W",
            "W = matrix(init=spectral(0.9, 2))\nh[t] = x[t] @ W",
            "b = vector(init=uniform(1, 0))\nh[t] = x[t] @ W + b",
            "b = vector(init=powers(2, 1.5))\nh[t] = x[t] @ W + b",
            "b = vector(init=chrono(span))\nh[t] = x[t] @ W + b",
            "span = setting(1)\nb = vector(init=chrono(span))\nh[t] = x[t] @ W + b",
        ),
    ),
    # Expressions
    "expression": ErrorKind(
        "{what} is not part of the language",
        "expressions are made of numbers, parameters (`W`), nodes (`i[t]`, `h[t-1]`), `+ - * / ** @`, comparisons and "
        "functions",
        (
            "h[t] = lambda: 1",
            "h[t] = f'{x}'",
            "h[t] = [x for x in y]",
            "h[t] = x[t] if a else b",
            "h[t] = x.T",
            "h[t] = (x[t], x[t])",
            "h[t] = 'text'",
            "h[t] = True",
            "h[t] = {1: 2}",
            "h[t] = x[t] @ W and 1",
            "h[t] = (a := 1)",
            "h[t] = not x[t]",
        ),
    ),
    "operator": ErrorKind(
        "the operator `{operator}` is not part of the language",
        "{help}",
        (
            "h[t] = x[t] // 2",
            "h[t] = x[t] % 2",
            "h[t] = ~x[t]",
            "h[t] = x[t] ^ 2",
            "h[t] = where(x[t] in y, 1, 0)",
        ),
    ),
    "chained-comparison": ErrorKind(
        "a chain of comparisons is not part of the language",
        "compare two at a time and multiply: `(0 < a) * (a < 1)`",
        ("h[t] = where(0 < x[t] < 1, x[t], 0)",),
    ),
    "number": ErrorKind(
        "`{text}` is not a number that can be used",
        "write a finite real number, such as `0.5` or `1e-3`",
        ("h[t] = x[t] * 1e999", "h[t] = x[t] * 2j", "h[t] = x[t] * " + "9" * 400),
    ),
    "call": ErrorKind(
        "{what}",
        "functions are called by their name with plain arguments: `clip(a[t], 0, 1)`",
        (
            "h[t] = (tanh)(x[t])(2)",
            "h[t] = tanh(*x[t])",
            "h[t] = tanh(a=x[t])",
            "h[t] = x.tanh(1)",
            "h[t] = __import__('os').system('ls')",
        ),
    ),
    "unknown-function": ErrorKind(
        "`{name}` is not a function",
        "{help}",
        (
            "h[t] = tnah(x[t] @ W)",
            "h[t] = attention(x[t] @ W)",
            "h[t] = matrix(x[t])",
            "h[t] = concat(x[t], h[t-1]) @ W",
        ),
    ),
    "arity": ErrorKind(
        "`{name}` takes {expected}, not {given}",
        "write {help}",
        ("h[t] = tanh(x[t], x[t])", "h[t] = clip(x[t])", "h[t] = where(x[t] > 0)"),
    ),
    "index": ErrorKind(
        "`[{text}]` is not a step",
        "write `[t]` for this step, `[t-1]` for the one before, `[t-k]` for k steps back",
        (
            "h[t] = tanh(x[0] @ W)",
            "h[t] = x[t:t-2] @ W",
            "h[t] = x[t, 1] @ W",
            "h[t] = x[s] @ W",
            "h[t] = x[1-t] @ W",
            "h[t] = x[t-k] @ W",
            "h[t] = x[t-0.5] @ W",
        ),
    ),
    "future": ErrorKind(
        "`{text}` is read from the future: step t is computed before step t+{ahead}",
        "read a step that is over (`{name}[t-1]`), or use `bidirectional=True` to see both sides of a sequence",
        ("h[t] = tanh(x[t+1] @ W)", "h[t] = tanh(x[t] @ W + h[t+1] @ U)"),
    ),
    "lag-too-long": ErrorKind(
        "`{text}` looks {lag} steps back, more than the {limit} allowed",
        "every step back is kept in memory; let a state carry what must be remembered for longer",
        ("h[t] = tanh(x[t] @ W + h[t-5000] @ U)",),
    ),
    "bare-time": ErrorKind(
        "`t` is the step and has no value of its own",
        "use it as an index only: `h[t-1]`",
        ("h[t] = x[t] * t",),
    ),
    "matrix-side": ErrorKind(
        "{what} stands right of `@`, where a matrix is expected",
        "write the matrix on the right by its name: `{suggestion}`",
        (
            "h[t] = W @ x[t]",
            "h[t] = x[t] @ (W + V)",
            "h[t] = x[t] @ 2",
            "h[t] = tanh(x[t] @ W) @ h[t-1]",
            "h[t] = x[t] @ (W + V).T",
        ),
    ),
    # Meaning
    "unknown-node": ErrorKind(
        "`{name}[t]` is not computed anywhere",
        "{help}",
        ("h[t] = tanh(q[t])", "gate[t] = sigmoid(x[t] @ W)\nh[t] = gat[t] * x[t]"),
    ),
    "unassigned-state": ErrorKind(
        "the state `{text}` is read, but no equation computes `{name}[t]`",
        "{help}",
        ("h[t] = tanh(x[t] @ W + s[t-1] @ U)", "h[t] = tanh(x[t] @ W + hh[t-1] @ U)"),
    ),
    "used-before": ErrorKind(
        "`{name}[t]` is used before it is computed in this step",
        "move its equation above this one, or read `{name}[t-1]`",
        ("h[t] = o[t] * tanh(x[t] @ V)\no[t] = sigmoid(x[t] @ W)", "h[t] = tanh(x[t] @ W + h[t] @ U)"),
    ),
    "node-without-index": ErrorKind(
        "`{name}` is a node and needs a step",
        "write `{name}[t]` for this step or `{name}[t-1]` for the one before",
        ("h[t] = tanh(x @ W)", "h[t] = tanh(x[t] @ W + h @ U)"),
    ),
    "parameter-with-index": ErrorKind(
        "`{name}` is {what} and has no step",
        "write `{name}` without an index",
        ("W = matrix()\nh[t] = x[t] @ W + W[t]", "b = vector()\nh[t] = x[t] @ W + b[t]"),
    ),
    "kind-conflict": ErrorKind(
        "`{name}` is used as {used}, but it is {kind}",
        "use two names for two things, or change the declaration",
        ("h[t] = x[t] @ W + W", "b = vector()\nh[t] = x[t] @ b", "W = matrix()\nh[t] = x[t] * W"),
    ),
    "unused-parameter": ErrorKind(
        "`{name}` is declared but never used",
        "use it in an equation, or delete the declaration",
        ("b = vector()\nh[t] = tanh(x[t] @ W)", "rate = setting(0.1)\nh[t] = tanh(x[t] @ W)"),
    ),
    "unused-node": ErrorKind(
        "`{name}[t]` is computed but nothing depends on it, so its parameters could not learn",
        "use it on the way to the output, or delete the line",
        ("a[t] = sigmoid(x[t] @ W_a)\nh[t] = tanh(x[t] @ W)", "y[t] = x[t] @ W\nh[t] = tanh(x[t] @ V)"),
    ),
    "no-output": ErrorKind(
        "there is no output: neither `y[t]` nor `h[t]` is computed",
        "name the node that leaves the cell `h[t]`, or add `y[t] = ...`",
        ("z[t] = tanh(x[t] @ W)",),
    ),
    "size-conflict": ErrorKind(
        "the sizes do not fit: {first} here, {second} there",
        "both sides of an operation have one size; change it with a matrix (`@`), or correct the declaration",
        (
            "W = matrix(input, proj)\nh[t]: hidden = tanh(x[t] @ W)",
            "b = vector(input)\nh[t]: hidden = x[t] @ W + b",
            "h[t]: hidden = tanh(x[t])",
        ),
    ),
    "unknown-size": ErrorKind(
        "`{name}` is not a size",
        "{help}",
        (
            "W = matrix(inptu, hidden)\nh[t] = x[t] @ W",
            "h[t]: hiden = x[t] @ W",
            "h[t]: h = x[t] @ W",
            "h[t]: 3 = x[t] @ W",
        ),
    ),
    "needs-vector": ErrorKind(
        "`{name}` works on the units of a vector, but this is a single number",
        "give it a node such as `h[t-1]`, or drop it",
        ("h[t] = x[t] * sum(2)", "h[t] = 2 @ W", "a = scalar()\nh[t] = x[t] + softmax(a)"),
    ),
    "needs-single": ErrorKind(
        "`{name}` repeats a single number for every unit, but this has units of its own",
        "give it a single number, such as `mean(h[t-1])`, or drop it",
        ("h[t]: hidden = expand(x[t], h[t-1])",),
    ),
    "needs-number": ErrorKind(
        "`{argument}` of `{name}` must be a number or a setting",
        "write a number, or declare one: `{argument} = setting(0.1)`",
        ("h[t] = dropout(x[t] @ W, x[t])", "h[t] = dropout(x[t] @ W, p)"),
    ),
    "out-of-range": ErrorKind(
        "`{argument}` of `{name}` is {value}, outside {low} to {high}",
        "write a value from {low} to {high}",
        (
            "h[t] = dropout(x[t] @ W, 1.5)",
            "h[t] = zoneout(x[t] @ W, h[t-1], -0.1)",
            "p = setting(2)\nh[t] = dropout(x[t] @ W, p)",
        ),
    ),
}


def problem(kind: str, span: Span, notes: tuple[Note, ...] = (), /, **values: object) -> Problem:
    """The problem of this row at this place, its templates filled with `values`."""
    row = ERRORS[kind]
    return Problem(kind, row.message.format(**values), row.help.format(**values), span, notes)
