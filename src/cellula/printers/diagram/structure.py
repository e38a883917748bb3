"""Questions about the expressions of a graph: what of them is one node of a picture."""

from __future__ import annotations

from collections import Counter

from cellula.graph.graph import Graph
from cellula.graph.node import Input, Node, State
from cellula.graph.ops import OPS

__all__ = ["LINEAR", "PRODUCTS", "SUMS", "Structure"]

LINEAR = ("matmul", "transposed")
SUMS = ("add", "subtract", "negative")
PRODUCTS = ("multiply", "divide")
_SIGNS = {"add": (1, 1), "subtract": (1, -1), "multiply": (1, 1), "divide": (1, -1), "negative": (-1,)}


class Structure:
    """The expressions of one graph.

    Args:
        graph: a checked cell.
    """

    def __init__(self, graph: Graph) -> None:
        self.uses: Counter[Node] = Counter(child for node in graph.nodes for child in node.inputs)
        # What is or depends on a value of the sequence; the rest is weights and numbers.
        self.wired: set[Node] = set()
        for node in graph.nodes:
            source = node.op == "equation" or isinstance(node.attribute, Input | State)
            if source or not self.wired.isdisjoint(node.inputs):
                self.wired.add(node)

    def children(self, node: Node) -> list[Node]:
        """The inputs of a node that are values of the sequence."""
        return [child for child in node.inputs if child in self.wired]

    def inner(self, node: Node) -> bool:
        """Whether a node is a step within one expression, shared with no other."""
        return node.op not in ("leaf", "equation") and self.uses[node] == 1

    def operands(self, node: Node) -> list[Node]:
        """The values that an expression combines, down to other parts of the picture."""
        found: list[Node] = []
        stack = self.children(node)[::-1]
        while stack:
            child = stack.pop()
            operation = OPS.get(child.op)
            plain = operation is not None and operation.shape != "expand" and operation.draw is None
            if plain and self.inner(child) and self.core(child) is None:
                stack += self.children(child)[::-1]
            elif child not in found:
                found.append(child)
        return found

    def core(self, node: Node) -> Node | None:
        """The linear maps below an activation, with what is added to them; None where there are none."""
        activated, root = False, node
        while node is root or self.inner(node):
            if node.op in LINEAR:
                return node
            operation = OPS.get(node.op)
            children = self.children(node)
            if node.op in ("add", "subtract"):
                found = [term for _, term in self.terms(node, SUMS) if term in self.wired]
                if len(found) > 1:
                    linear = [self.linear(term) for term in found]
                    return node if (any(linear) if activated else all(linear)) else None
                if self.affine(found[0]):
                    return node
            if len(children) != 1 or operation is None or operation.draw is not None or operation.shape == "reduce":
                return None
            activated = activated or operation.symbol is None
            node = children[0]
        return node if node.op in LINEAR else None

    def linear(self, node: Node) -> bool:
        """Whether a term is a linear map, up to weights, norms and functions around it."""
        while node.op not in LINEAR:
            children = self.children(node)
            if node.op in ("add", "subtract") and len(children) == 2:
                return all(self.linear(child) for child in children)
            if node.op in ("leaf", "equation") or len(children) != 1:
                return False
            node = children[0]
        return True

    def affine(self, node: Node) -> bool:
        """Whether a term is a linear map with weights around it, and no activation."""
        while node.op not in LINEAR:
            children = self.children(node)
            if node.op not in (*SUMS, *PRODUCTS) or len(children) != 1 or not self.inner(node):
                return False
            node = children[0]
        return True

    def terms(self, node: Node, operations: tuple[str, ...]) -> list[tuple[int, Node]]:
        """The addends of a sum with their signs, or the factors of a product: -1 divides."""
        found: list[tuple[int, Node]] = []
        stack = [(1, node)]
        while stack:
            sign, child = stack.pop()
            inside = child is node or (self.inner(child) and child in self.wired)
            if child.op in operations and inside:
                pairs = zip(_SIGNS[child.op], child.inputs, strict=True)
                stack += [(sign * own, term) for own, term in pairs][::-1]
            else:
                found.append((sign, child))
        return found
