"""Gates and layers are found by what they do."""

import re

import pytest

from cellula import build, cells, load_cell
from cellula.graph.classify import classify

EXPECTED = {
    "cifg_lstm": {"gate": "ifo", "layer": "g", "combination": "ch"},
    "elman": {"layer": "h"},
    "gru": {"gate": "rz", "layer": "n", "combination": "h"},
    "gru_torch": {"gate": "rz", "layer": "n", "combination": "h"},
    "jordan": {"layer": "hy"},
    "lstm": {"gate": "ifo", "layer": "g", "combination": "ch"},
    "lstm_printed": {"gate": "ifo", "layer": "g", "combination": "ch"},
    "mlp": {"layer": "ah"},
    "peephole_lstm": {"gate": "ifo", "layer": "g", "combination": "ch"},
}


@pytest.mark.parametrize("name", EXPECTED)
def test_the_zoo(name):
    roles = {node: role for role, nodes in EXPECTED[name].items() for node in nodes}
    assert classify(load_cell(name)) == roles


def test_no_cell_of_the_zoo_is_left_out():
    assert set(cells()) >= set(EXPECTED)


@pytest.mark.parametrize("name", EXPECTED)
def test_other_names_change_nothing(name):
    graph = load_cell(name)
    other = {node: f"other{number}" for number, node in enumerate(graph.equation)}
    # The output keeps its name, because its name is what makes it the output.
    other[graph.output] = graph.output
    text = re.sub(r"\b(\w+)\[t", lambda found: f"{other.get(found[1], found[1])}[t", graph.source.text)
    assert classify(build(text)) == {other[node]: role for node, role in classify(graph).items()}


@pytest.mark.parametrize(
    ("text", "roles"),
    [
        ("a[t] = hard_sigmoid(x[t] @ W)\nh[t] = a[t] * tanh(x[t] @ V)", {"a": "gate", "h": "combination"}),
        ("a[t] = clip(x[t] @ W, 0, 1)\nh[t] = (1 - a[t]) * h[t-1]", {"a": "gate", "h": "combination"}),
        ("a[t] = sigmoid(x[t] @ W)\nh[t] = a[t] + h[t-1]", {"a": "layer", "h": "combination"}),
        ("a[t] = sigmoid(x[t] @ W)\nh[t] = 2 * a[t]", {"a": "layer", "h": "combination"}),
        ("a[t] = sigmoid(x[t] @ W)\nh[t] = b * a[t]", {"a": "layer", "h": "combination"}),
        ("a[t] = tanh(x[t] @ W)\nh[t] = a[t] * h[t-1]", {"a": "layer", "h": "combination"}),
        ("a[t] = 0.5 + 0.5 * tanh(x[t] @ W)\nh[t] = a[t] * h[t-1]", {"a": "gate", "h": "combination"}),
        ("a[t] = exp(-softplus(x[t] @ W))\nh[t] = a[t] * h[t-1]", {"a": "gate", "h": "combination"}),
        ("a[t] = softmax(x[t] @ W)\nh[t] = a[t] * h[t-1]", {"a": "gate", "h": "combination"}),
        ("h[t] = layer_norm(x[t] @ W + b)", {"h": "layer"}),
        ("h[t] = x[t] @ W + b", {"h": "layer"}),
        ("h[t] = x[t] @ W + h[t-1]", {"h": "combination"}),
    ],
)
def test_roles_follow_from_use_and_range(text, roles):
    assert classify(build(text)) == roles
