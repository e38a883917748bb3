"""Collects the calls of an ONNX graph: names that do not clash, constants that are kept once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from cellula.backends.onnx.model import Attribute, Body, Call, Model, Port, live

__all__ = ["Writer"]


class Writer:
    """The calls of one graph. That of a loop's step has a writer of its own, which shares names and constants.

    Args:
        dtype: the type of all numbers, `"float32"` or `"float64"`.
        outer: the writer of the graph around this one.

    Example:
        >>> writer = Writer("float32")
        >>> writer.call("Tanh", writer.call("Add", "x", "b"))
        'tanh'
        >>> [call.op for call in writer.calls]
        ['Add', 'Tanh']
    """

    def __init__(self, dtype: str, outer: Writer | None = None) -> None:
        self.dtype = dtype
        self.calls: list[Call] = []
        # Outermost, where what does not change from step to step is computed.
        self.root: Writer = self if outer is None else outer.root
        self.weights: dict[str, np.ndarray] = {} if outer is None else outer.weights
        self._taken: dict[str, int] = {} if outer is None else outer._taken
        self._constants: dict[tuple, str] = {} if outer is None else outer._constants
        self._known: dict[tuple, list[str]] = {}
        self._outer = outer
        # What the results of the next calls are called, where they have a name in the formula.
        self.hint: str | None = None

    def name(self, hint: str) -> str:
        """A name that nothing else has: the hint itself, or the hint and a number."""
        while hint in self._taken:
            self._taken[hint] += 1
            hint = f"{hint}.{self._taken[hint]}"
        self._taken[hint] = 0
        return hint

    def weight(self, name: str, value: np.ndarray) -> str:
        """Keep a constant under a name of its own."""
        name = self.name(name)
        self.weights[name] = np.asarray(value, order="C")
        return name

    def constant(self, value: float | Sequence[int] | np.ndarray, hint: str = "constant") -> str:
        """The name of a constant; equal ones are kept once. A number is [1], whole numbers in a sequence are int64."""
        if isinstance(value, int | float):
            array = np.array([value], self.dtype)
        else:
            array = value if isinstance(value, np.ndarray) else np.array(value, np.int64)
        key = (array.dtype.str, array.shape, array.tobytes())
        if key not in self._constants:
            self._constants[key] = self.weight(hint, array)
        return self._constants[key]

    def call(self, op: str, *inputs: str, **attributes: Attribute) -> str:
        """Call an operator; the name of its result."""
        return self.calls_for(op, inputs, [self.hint or op.lower()], **attributes)[0]

    def calls_for(self, op: str, inputs: Sequence[str], hints: Sequence[str], **attributes: Attribute) -> list[str]:
        """Call an operator with several results; their names. Equal calls are made once."""
        given = list(inputs)
        while given and not given[-1]:
            given.pop()
        key = (op, tuple(given), tuple(attributes.items()), len(hints))
        outputs = self._found(key)
        if outputs is None or op == "Identity":
            outputs = self._known[key] = [self.name(hint) for hint in hints]
            self.calls.append(Call(op, tuple(given), tuple(outputs), tuple(attributes.items())))
        return outputs

    def _found(self, key: tuple) -> list[str] | None:
        """The results of an equal call, here or in a graph around this one."""
        known = self._known.get(key)
        return known if known is not None or self._outer is None else self._outer._found(key)

    def deliver(self, value: str, name: str) -> None:
        """Give a value the name of an output, which has been taken for it."""
        self.calls.append(Call("Identity", (value,), (name,)))

    def inner(self) -> Writer:
        """A writer for the graph of a loop's step."""
        return Writer(self.dtype, self)

    def model(
        self, name: str, inputs: Sequence[Port], outputs: Sequence[Port], title: str, metadata: Mapping[str, str]
    ) -> Model:
        """The model of all calls up to now, without what its outputs do not need."""
        body, needed = live(self.body(name, inputs, outputs))
        weights = {name: value for name, value in self.weights.items() if name in needed}
        return Model(body, weights, title, dict(metadata))

    def body(self, name: str, inputs: Sequence[Port], outputs: Sequence[Port]) -> Body:
        """The graph of all calls up to now."""
        return Body(name, tuple(inputs), tuple(outputs), tuple(self.calls))
