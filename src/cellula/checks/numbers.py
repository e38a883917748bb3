"""The checks that run a cell, as a table."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property

from cellula.checks.case import Case, blocks_of, make_case, small_sizes
from cellula.checks.gradients import check_backward, check_differences
from cellula.checks.hints import find_hints
from cellula.checks.other_backends import check_c, check_onnx
from cellula.checks.ranges import check_finite, check_large
from cellula.checks.report import Hint
from cellula.checks.sequences import check_empty, check_ragged, check_steps, module_of
from cellula.checks.start import look_at_start
from cellula.graph.graph import Graph
from cellula.inspection.memory import GradientOverLags, gradient_over_lags

__all__ = ["NUMBER_CHECKS", "Subject"]

# For the gradient over lags: how many steps, and the largest cell that it is measured with.
LAGS, LARGEST = 100, 64


@dataclass(frozen=True)
class Subject:
    """A cell that is to be checked in numbers.

    Args:
        graph: the cell.
        sizes: name -> number of units, as the caller has them.
        settings: name -> number.
        seed: of all random numbers.
    """

    graph: Graph
    sizes: Mapping[str, int]
    settings: Mapping[str, float]
    seed: int = 0

    @cached_property
    def small(self) -> Case:
        """A few steps of a few units, moved from where training starts."""
        return make_case(self.graph, small_sizes(self.graph), self.settings, seed=self.seed)

    @cached_property
    def wide(self) -> Case:
        """More units than a vector of the processor holds."""
        return make_case(self.graph, small_sizes(self.graph, 5, 19, 7), self.settings, 6, seed=self.seed)

    @cached_property
    def long(self) -> Case:
        """Many steps of the caller's cell, as it starts."""
        blocks = blocks_of(self.graph)
        sizes = {name: size if size <= LARGEST else LARGEST + -LARGEST % blocks for name, size in self.sizes.items()}
        return make_case(self.graph, sizes, self.settings, LAGS, 2, seed=self.seed, moved=0.0)

    @cached_property
    def lags(self) -> GradientOverLags:
        """How far back the gradient of the last output reaches before any training."""
        case = self.long
        return gradient_over_lags(module_of(case), case.x.detach(), seed=self.seed)

    def hints(self) -> tuple[Hint, ...]:
        """What deserves a thought."""
        return find_hints(look_at_start(self.long, self.small, self.lags))


def _check_lags(subject: Subject) -> str:
    lags = subject.lags
    text = f"at the start of training, {lags.verdict}"
    if lags.verdict in ("no memory", "no gradient"):
        return text
    return f"{text}: times {lags.growth:.3g} a step back; 90 % of it in {lags.effective_memory + 1} of {LAGS} steps"


# Checks in numbers. The first one comes first: of what is not a number no other can say anything.
NUMBER_CHECKS: dict[str, Callable[[Subject], str]] = {
    "finite": lambda subject: check_finite(subject.small),
    "finite differences": lambda subject: check_differences(subject.small),
    "derived backward": lambda subject: check_backward(subject.small),
    "generated C": lambda subject: check_c(subject.wide),
    "step by step": lambda subject: check_steps(subject.small),
    "ragged": lambda subject: check_ragged(subject.small),
    "no step, one step": lambda subject: check_empty(subject.small),
    "large inputs": lambda subject: check_large(subject.small),
    "ONNX": lambda subject: check_onnx(subject.wide),
    "gradient over lags": _check_lags,
}
