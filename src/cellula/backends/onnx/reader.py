"""ONNX's recurrent nodes -> formulas and their parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from cellula.backends.onnx.activations import read_activations
from cellula.backends.onnx.operators import GATES
from cellula.errors import UsageError

__all__ = ["ATTRIBUTES", "NodeReading", "SideReading", "read_node"]

# What a node may say, with the value that stands where it says nothing.
ATTRIBUTES: dict[str, dict[str, Any]] = {
    kind: {
        "activation_alpha": (),
        "activation_beta": (),
        "activations": usual,
        "clip": None,
        "direction": "forward",
        "hidden_size": None,
        "layout": 0,
        **more,
    }
    for kind, usual, more in (
        ("LSTM", ("Sigmoid", "Tanh", "Tanh"), {"input_forget": 0}),
        ("GRU", ("Sigmoid", "Tanh"), {"linear_before_reset": 0}),
        ("RNN", ("Tanh",), {}),
    )
}
DIRECTIONS = {"forward": 1, "reverse": 1, "bidirectional": 2}


@dataclass(frozen=True)
class SideReading:
    """One direction of a node.

    Args:
        formula: the text.
        tensors: name -> the parameter, shaped as the formula's.
        reverse: whether it runs from the end.
    """

    formula: str
    tensors: Mapping[str, np.ndarray] = field(repr=False)
    reverse: bool = False


@dataclass(frozen=True)
class NodeReading:
    """What an `LSTM`, `GRU` or `RNN` node of ONNX says.

    Args:
        kind: the operator.
        sides: its directions.
        input_size, hidden_size: units.
        layout: 0 for [T, B, ...], 1 for [B, T, ...].
    """

    kind: str
    sides: tuple[SideReading, ...]
    input_size: int
    hidden_size: int
    layout: int


def read_node(kind: str, given: Mapping[str, Any], tensors: Mapping[str, np.ndarray]) -> NodeReading:
    """Read a recurrent node.

    Args:
        kind: `"LSTM"`, `"GRU"` or `"RNN"`.
        given: the attributes that it has.
        tensors: its weights W, R and, where it has them, B and P.

    Returns:
        For each direction a formula and its parameters.

    Raises:
        UsageError: an attribute or a shape is not as ONNX has it.

    Example:
        >>> import numpy as np
        >>> found = read_node("RNN", {"activations": ["Relu"]}, {"W": np.ones((1, 4, 3)), "R": np.ones((1, 4, 4))})
        >>> print(found.sides[0].formula.splitlines()[-1])
        h[t] = relu(x[t] @ W_h + h[t-1] @ R_h)
    """
    if kind not in ATTRIBUTES:
        raise UsageError(f"{kind} is no recurrent operator of ONNX; they are {', '.join(ATTRIBUTES)}")
    for name in given:
        # Old versions of ONNX had an output_sequence, which says nothing that the outputs do not.
        if name not in ATTRIBUTES[kind] and name != "output_sequence":
            raise UsageError(f"{kind} has no attribute {name!r}; it has {', '.join(ATTRIBUTES[kind])}")
    said = ATTRIBUTES[kind] | dict(given)
    count = DIRECTIONS.get(said["direction"])
    if count is None or said["layout"] not in (0, 1):
        raise UsageError(
            f"{kind} has direction={said['direction']!r}, layout={said['layout']!r}; "
            f"the directions are {', '.join(DIRECTIONS)}, the layouts 0 and 1"
        )
    hidden, inputs = _checked_shapes(kind, tensors, count, said["hidden_size"])
    texts = _texts(kind, said, count)
    each = len(texts) // count
    sides = []
    for number in range(count):
        own = texts[number * each : (number + 1) * each]
        packed = {name: tensors[name][number] for name in tensors}
        reverse = said["direction"] == "reverse" or number == 1
        formula = _FORMULAS[kind](said, own, "B" in tensors, "P" in tensors)
        title = f"{kind} of an ONNX file{', from the end to the start' if reverse else ''}"
        sides.append(SideReading(f'"""{title}."""\n{formula}\n', _parameters(kind, said, packed), reverse))
    return NodeReading(kind, tuple(sides), inputs, hidden, int(said["layout"]))


def _checked_shapes(kind: str, tensors: Mapping[str, np.ndarray], count: int, said: int | None) -> tuple[int, int]:
    """Units of the state and of the input."""
    gates = len(GATES[kind])
    missing = [name for name in ("W", "R") if name not in tensors or tensors[name].ndim != 3]
    if missing:
        raise UsageError(f"{kind} needs its weights {missing[0]}, [directions, {gates} * hidden, ...]")
    units, inputs = tensors["R"].shape[2], tensors["W"].shape[2]
    hidden = units if said is None else int(said)
    expected = {
        "W": (count, gates * hidden, inputs),
        "R": (count, gates * hidden, hidden),
        "B": (count, 2 * gates * hidden),
        "P": (count, 3 * hidden),
    }
    for name, tensor in tensors.items():
        if name not in expected or (name == "P" and kind != "LSTM"):
            raise UsageError(f"{kind} has no weights {name}")
        if tensor.shape != expected[name]:
            raise UsageError(f"{kind} has {name} {list(tensor.shape)}, expected {list(expected[name])}")
    return hidden, inputs


def _texts(kind: str, said: Mapping[str, Any], count: int) -> list[str]:
    """The activations of all directions, with the clip around the argument of each gate.

    ONNX says that the clip is "applied to the input of activations"; onnxruntime leaves out the last activation of an
    LSTM, h of `o * h(c)`, and so does this.
    """
    usual = ATTRIBUTES[kind]["activations"]
    names = list(said["activations"]) or list(usual * count)
    if said["activations"] == usual:
        names = list(usual * count)
    if len(names) != len(usual) * count:
        raise UsageError(f"{kind} {said['direction']} has {len(usual) * count} activations, not {names}")
    texts = read_activations(names, said["activation_alpha"], said["activation_beta"])
    # Some exporters write 0 for "no clip".
    clip = float(said["clip"] or 0.0)
    if not clip:
        return texts
    clipped = [text.replace("{a}", f"clip({{a}}, {-clip!r}, {clip!r})") for text in texts]
    return [texts[n] if kind == "LSTM" and n % 3 == 2 else text for n, text in enumerate(clipped)]


def _affine(gate: str, bias: bool, look: str = "") -> str:
    """The sum within a gate."""
    peephole = f" + p_{gate} * {look}" if look else ""
    return f"x[t] @ W_{gate} + h[t-1] @ R_{gate}{peephole}" + (f" + b_{gate}" if bias else "")


def _lstm(said: Mapping[str, Any], texts: Sequence[str], bias: bool, peepholes: bool) -> str:
    f, g, h = texts
    old, new = ("c[t-1]", "c[t]") if peepholes else ("", "")
    forget = "1 - i[t]" if said["input_forget"] else f.replace("{a}", _affine("f", bias, old))
    return "\n".join(
        [
            f"i[t] = {f.replace('{a}', _affine('i', bias, old))}  # input gate",
            f"f[t] = {forget}  # forget gate",
            f"g[t] = {g.replace('{a}', _affine('c', bias))}  # candidate",
            "c[t] = f[t] * c[t-1] + i[t] * g[t]  # cell state",
            f"o[t] = {f.replace('{a}', _affine('o', bias, new))}  # output gate",
            f"h[t] = o[t] * ({h.replace('{a}', 'c[t]')})  # hidden state",
        ]
    )


def _gru(said: Mapping[str, Any], texts: Sequence[str], bias: bool, peepholes: bool) -> str:
    f, g = texts
    after = bool(said["linear_before_reset"])
    inner = "r[t] * (h[t-1] @ R_h + c_h)" if bias else "r[t] * (h[t-1] @ R_h)"
    candidate = f"x[t] @ W_h + {inner if after else '(r[t] * h[t-1]) @ R_h'}" + (" + b_h" if bias else "")
    return "\n".join(
        [
            f"z[t] = {f.replace('{a}', _affine('z', bias))}  # update gate",
            f"r[t] = {f.replace('{a}', _affine('r', bias))}  # reset gate",
            f"n[t] = {g.replace('{a}', candidate)}  # candidate",
            "h[t] = (1 - z[t]) * n[t] + z[t] * h[t-1]  # hidden state",
        ]
    )


def _rnn(said: Mapping[str, Any], texts: Sequence[str], bias: bool, peepholes: bool) -> str:
    return f"h[t] = {texts[0].replace('{a}', _affine('h', bias))}"


_FORMULAS = {"LSTM": _lstm, "GRU": _gru, "RNN": _rnn}


def _parameters(kind: str, said: Mapping[str, Any], packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of one direction by the names of its formula."""
    gates = GATES[kind]
    coupled = kind == "LSTM" and bool(said["input_forget"])
    found: dict[str, np.ndarray] = {}
    biases = np.split(packed["B"], 2 * len(gates)) if "B" in packed else []
    rows = (np.split(packed["W"], len(gates)), np.split(packed["R"], len(gates)))
    for number, gate in enumerate(gates):
        if coupled and gate == "f":
            continue
        found[f"W_{gate}"], found[f"R_{gate}"] = rows[0][number].T, rows[1][number].T
        if biases:
            both = (biases[number], biases[len(gates) + number])
            if gate == "h" and kind == "GRU" and said["linear_before_reset"]:
                found["b_h"], found["c_h"] = both
            else:
                found[f"b_{gate}"] = both[0] + both[1]
    for gate, peephole in zip("iof", np.split(packed["P"], 3) if "P" in packed else [], strict=False):
        if not (coupled and gate == "f"):
            found[f"p_{gate}"] = peephole
    return found
