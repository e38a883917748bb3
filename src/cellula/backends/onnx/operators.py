"""Which cells ONNX has operators for, found by their structure, and their weights in ONNX's order and back."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from cellula.graph.graph import Graph
from cellula.graph.node import Constant, Input, Node, Parameter, State

__all__ = ["Gate", "Operator", "find_operator", "pack", "unpack"]

# Operator -> its gates in ONNX's order. Of an LSTM the first three have peepholes.
GATES = {"LSTM": ("i", "o", "f", "c"), "GRU": ("z", "r", "h"), "RNN": ("h",)}
# An op of a formula -> ONNX's activation.
ACTIVATIONS = {"sigmoid": "Sigmoid", "tanh": "Tanh", "relu": "Relu", "softplus": "Softplus", "softsign": "Softsign"}

IDENTITIES = ("dropout", "variational_dropout")


@dataclass(frozen=True)
class Gate:
    """One gate: its activation and the names of its parameters.

    Args:
        activation: an op of the table.
        input: the matrix of the input.
        recurrent: the matrix of the state.
        biases: vectors that are added.
        peephole: the vector that weighs the cell state, if there is one.
        inner: vectors that are added to the product with the state alone.
    """

    activation: str
    input: str
    recurrent: str
    biases: tuple[str, ...] = ()
    peephole: str | None = None
    inner: tuple[str, ...] = ()


@dataclass(frozen=True)
class Operator:
    """An operator of ONNX that computes what a formula says.

    Args:
        kind: `"LSTM"`, `"GRU"` or `"RNN"`.
        gates: in ONNX's order.
        activations: ONNX's names.
        states: the slots for `initial_h` and, of an LSTM, `initial_c`.
        reset_after: whether a GRU resets after the product.
    """

    kind: str
    gates: tuple[Gate, ...]
    activations: tuple[str, ...]
    states: tuple[str, ...]
    reset_after: bool = False


def find_operator(graph: Graph) -> Operator | None:
    """The operator of ONNX that is this cell; None where there is none. Names do not matter, the structure does.

    Example:
        >>> from cellula import load_cell
        >>> [getattr(find_operator(load_cell(name)), "kind", None) for name in ("lstm", "gru", "elman", "mgu")]
        ['LSTM', 'GRU', 'RNN', None]
    """
    output = graph.equation[graph.output].node
    slots = {state.slot: state for state in graph.states}
    h = slots.get(graph.output)
    if h is None or h.size != output.size or len(slots) > 2:
        return None
    operator = _lstm(output, h, slots) if len(slots) == 2 else (_rnn(output, h) or _gru(output, h))
    if operator is None or not _is_usual(graph, operator):
        return None
    return operator


def _is_usual(graph: Graph, operator: Operator) -> bool:
    """Whether all matrices are dense, [input, hidden] and [hidden, hidden], and all vectors [hidden]."""
    parameters = {parameter.name: parameter for parameter in graph.parameters}
    used: list[tuple[str, tuple[str, ...]]] = []
    for gate in operator.gates:
        used += [(gate.input, ("input", "hidden")), (gate.recurrent, ("hidden", "hidden"))]
        vectors = (*gate.biases, *gate.inner, *((gate.peephole,) if gate.peephole else ()))
        used += [(name, ("hidden",)) for name in vectors]
    # Each parameter once, none left over: then the weights can be read back from the file.
    if sorted(name for name, _ in used) != sorted(parameters):
        return False
    return all(
        parameters[name].sizes == sizes and parameters[name].blocks == 1 and parameters[name].kind != "diagonal"
        for name, sizes in used
    )


def _bare(node: Node) -> Node:
    """A node without the names it was given on the way, and without dropout, which outside training does nothing."""
    while (node.op == "equation" and node.size == node.inputs[0].size) or node.op in IDENTITIES:
        node = node.inputs[0]
    return node


def _pairs(node: Node, op: str) -> list[tuple[Node, Node]]:
    """The two inputs of an `add` or `multiply` in both orders; nothing where it is another op."""
    node = _bare(node)
    if node.op != op:
        return []
    one, other = (_bare(child) for child in node.inputs)
    return [(one, other), (other, one)]


def _is_state(node: Node, state: State) -> bool:
    return isinstance(node.attribute, State) and node.attribute == state


def _terms(node: Node) -> list[Node]:
    """What a sum adds up."""
    node = _bare(node)
    return [term for child in node.inputs for term in _terms(child)] if node.op == "add" else [node]


def _vector(node: Node) -> str | None:
    """The name of a learned vector."""
    what = node.attribute
    return what.name if isinstance(what, Parameter) and what.kind == "vector" else None


def _product(node: Node) -> tuple[Node, str] | None:
    """What is multiplied with which matrix."""
    what = node.inputs[1].attribute if node.op == "matmul" else None
    return (_bare(node.inputs[0]), what.name) if isinstance(what, Parameter) else None


def _gate(node: Node, h: State, cell: Node | None = None, reset: Node | None = None) -> Gate | None:
    """Read `activation(x @ W + h @ U + b ...)`.

    Args:
        node: the gate.
        h: the hidden state.
        cell: what a peephole may look at.
        reset: what the state is multiplied with before its matrix.
    """
    node = _bare(node)
    if node.op not in ACTIVATIONS:
        return None
    found: dict[str, str] = {}
    biases: list[str] = []
    for term in _terms(node.inputs[0]):
        what = _term(term, h, cell, reset)
        if what is None or what[0] in found:
            return None
        if what[0] == "bias":
            biases.append(what[1])
        else:
            found[what[0]] = what[1]
    if not {"input", "recurrent"} <= found.keys():
        return None
    return Gate(node.op, found["input"], found["recurrent"], tuple(biases), found.get("peephole"))


def _term(term: Node, h: State, cell: Node | None, reset: Node | None) -> tuple[str, str] | None:
    """The part of a gate that a term is, and the name of its parameter."""
    bias, product = _vector(term), _product(term)
    if bias is not None:
        return "bias", bias
    if product is not None:
        value, matrix = product
        if isinstance(value.attribute, Input):
            return "input", matrix
        if reset is None:
            return ("recurrent", matrix) if _is_state(value, h) else None
        both = any(one is reset and _is_state(other, h) for one, other in _pairs(value, "multiply"))
        return ("recurrent", matrix) if both else None
    for weight, value in _pairs(term, "multiply"):
        name = _vector(weight)
        if name is not None and cell is not None and value is cell:
            return "peephole", name
    return None


def _rnn(output: Node, h: State) -> Operator | None:
    gate = _gate(output, h)
    return None if gate is None else Operator("RNN", (gate,), (ACTIVATIONS[gate.activation],), (h.slot,))


def _is_rest(node: Node, share: Node) -> bool:
    """Whether a node is `1 - share`."""
    if node.op != "subtract":
        return False
    one = node.inputs[0].attribute
    return isinstance(one, Constant) and one.value == 1.0 and _bare(node.inputs[1]) is share


def _gru(output: Node, h: State) -> Operator | None:
    """`z * h + (1 - z) * n`, in any order."""
    for kept, fresh in _pairs(output, "add"):
        for z, old in _pairs(kept, "multiply"):
            for rest, n in _pairs(fresh, "multiply"):
                if _is_state(old, h) and _is_rest(rest, z):
                    return _gru_of(z, n, h)
    return None


def _gru_of(z: Node, n: Node, h: State) -> Operator | None:
    update = _gate(z, h)
    for reset_node, candidate, after in _candidates(n, h):
        reset = _gate(reset_node, h)
        if update and reset and candidate and update.activation == reset.activation:
            names = (ACTIVATIONS[update.activation], ACTIVATIONS[candidate.activation])
            return Operator("GRU", (update, reset, candidate), names, (h.slot,), after)
    return None


def _candidates(n: Node, h: State) -> list[tuple[Node, Gate | None, bool]]:
    """What may be the reset gate, with the candidate read so, and whether the reset comes after the product."""
    found: list[tuple[Node, Gate | None, bool]] = []
    for term in _terms(n.inputs[0]) if n.op in ACTIVATIONS else []:
        product = _product(term)
        if product is not None:
            found += [(reset, _gate(n, h, reset=reset), False) for reset, _ in _pairs(product[0], "multiply")]
        for reset, inner in _pairs(term, "multiply"):
            found.append((reset, _reset_after(n, term, inner, h), True))
    return found


def _reset_after(n: Node, product: Node, inner: Node, h: State) -> Gate | None:
    """Read `activation(x @ W + b + r * (h @ U + c))`, where `inner` is what r weighs."""
    parts = [_term(term, h, None, None) for term in _terms(inner)]
    rest = [_term(term, h, None, None) for term in _terms(n.inputs[0]) if term is not product]
    matrices = [part[1] for part in parts if part and part[0] == "recurrent"]
    inputs = [part[1] for part in rest if part and part[0] == "input"]
    inner_biases = tuple(part[1] for part in parts if part and part[0] == "bias")
    biases = tuple(part[1] for part in rest if part and part[0] == "bias")
    if len(matrices) + len(inner_biases) != len(parts) or len(inputs) + len(biases) != len(rest):
        return None
    if len(matrices) != 1 or len(inputs) != 1:
        return None
    return Gate(n.op, inputs[0], matrices[0], biases, inner=inner_biases)


def _lstm(output: Node, h: State, slots: Mapping[str, State]) -> Operator | None:
    """`h = o * act(c)` with `c = f * c + i * g`, in any order."""
    c = next(state for slot, state in slots.items() if slot != h.slot)
    for o, squashed in _pairs(output, "multiply"):
        cell = _bare(squashed.inputs[0]) if squashed.op in ACTIVATIONS else None
        if cell is None or squashed.inputs[0].attribute != c.name or c.lag != 1:
            continue
        for kept, fresh in _pairs(cell, "add"):
            for f, old in _pairs(kept, "multiply"):
                for i, g in _pairs(fresh, "multiply") if _is_state(old, c) else []:
                    found = _lstm_of((i, o, f, g), squashed.op, old, cell, h, c)
                    if found is not None:
                        return found
    return None


def _lstm_of(nodes: tuple[Node, ...], squash: str, old: Node, new: Node, h: State, c: State) -> Operator | None:
    """Read the four gates; the output gate looks at the new cell state, the others at the old one."""
    i, o, f, g = nodes
    gates = (_gate(i, h, old), _gate(o, h, new), _gate(f, h, old), _gate(g, h))
    read = [gate for gate in gates if gate is not None]
    if len(read) < 4 or len({gate.activation for gate in read[:3]}) > 1:
        return None
    names = tuple(ACTIVATIONS[op] for op in (read[0].activation, read[3].activation, squash))
    return Operator("LSTM", tuple(read), names, (h.slot, c.slot))


def pack(operator: Operator, tensors: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The weights of one direction as ONNX wants them: W [G*H, I], R [G*H, H], B [2*G*H] and P [3*H].

    B and P are left out where no gate has any. Of the biases, only a GRU's inner ones belong to the state's half.
    """
    gates = operator.gates
    hidden = tensors[gates[0].recurrent].shape[0]
    zero = np.zeros(hidden, tensors[gates[0].recurrent].dtype)
    found = {
        "W": np.concatenate([tensors[gate.input].T for gate in gates]),
        "R": np.concatenate([tensors[gate.recurrent].T for gate in gates]),
    }
    if any(gate.biases or gate.inner for gate in gates):
        sums = [sum((tensors[name] for name in gate.biases), zero) for gate in gates]
        inner = [sum((tensors[name] for name in gate.inner), zero) for gate in gates]
        found["B"] = np.concatenate([*sums, *inner])
    if any(gate.peephole for gate in gates):
        found["P"] = np.concatenate([zero if g.peephole is None else tensors[g.peephole] for g in gates[:3]])
    return found


def unpack(operator: Operator, packed: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The parameters of one direction out of W, R, B and P; where biases were added up, the first one has the sum."""
    count = len(operator.gates)
    split = {name: np.split(value, count * (2 if name == "B" else 1)) for name, value in packed.items() if name != "P"}
    split["P"] = np.split(packed["P"], 3) if "P" in packed else []
    found: dict[str, np.ndarray] = {}
    for number, gate in enumerate(operator.gates):
        found[gate.input], found[gate.recurrent] = split["W"][number].T, split["R"][number].T
        for names, part in ((gate.biases, number), (gate.inner, count + number)):
            found |= {name: split["B"][part] * (name == names[0]) for name in names}
        if gate.peephole is not None:
            found[gate.peephole] = split["P"][number]
    return found
