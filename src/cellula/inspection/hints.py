"""What the numbers of a lens mean, in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from cellula.inspection.carry import Carrier
from cellula.inspection.memory import GradientOverLags
from cellula.inspection.recorded import Recorded

__all__ = ["hints_on"]

# A node that is saturated in more than this share of its steps and units deserves a word.
OFTEN = 0.5
# A gate that lets less than this through of a state on average forgets within ten steps.
CARRIED = 0.9


def hints_on(
    nodes: Sequence[Recorded], memory: GradientOverLags | None, carried: Sequence[Carrier], steps: int
) -> tuple[str, ...]:
    """Say what deserves attention, the gravest first; nothing where all is well."""
    found = [*_not_finite(nodes)]
    if memory is not None:
        found += _about_memory(memory, steps)
        if memory.verdict == "vanishes" and not memory.is_cut_off:
            found += _about_carriers(nodes, carried)
    for node in nodes:
        found += _about_saturation(node)
    found += _about_still_units(nodes)
    return tuple(found)


def _not_finite(nodes: Sequence[Recorded]) -> list[str]:
    """The first nodes that overflow."""
    wrong = {node.name: node.not_finite_from for node in nodes if node.not_finite_from is not None}
    if not wrong:
        return []
    first = min(step for step in wrong.values() if step is not None)
    names = ", ".join(name for name, step in wrong.items() if step == first)
    return [f"{names} is not finite from step {first} on: the forward pass itself overflows"]


def _about_memory(memory: GradientOverLags, steps: int) -> list[str]:
    if memory.verdict == "explodes":
        if memory.not_finite_from is not None:
            grows = "overflows even in float64"
        else:
            grows = f"grows {memory.growth ** (len(memory.lags) - 1):.1e}-fold over {len(memory.lags)} steps"
        return [
            f"the gradient {grows}: clip it in training (clip_norm=1), begin with short sequences, or make the "
            "matrices that lead from state to state smaller"
        ]
    if memory.verdict == "vanishes" and not memory.is_cut_off:
        reach = memory.effective_memory + 1
        return [
            f"a loss at the last step teaches little about what lies more than {reach} steps back, of {steps} that it "
            "is given"
        ]
    if memory.verdict == "no gradient":
        return ["the output does not follow the input smoothly: gradient descent learns nothing from it"]
    return []


def _about_carriers(nodes: Sequence[Recorded], carried: Sequence[Carrier]) -> list[str]:
    """Which gates let the states fade."""
    found = []
    for carrier in carried:
        values = [node.values for node in nodes if node.name == carrier.gate]
        if not values:
            continue
        kept = float(np.mean([value.mean() for value in values]))
        kept = 1.0 - kept if carrier.complement else kept
        if kept >= CARRIED:
            continue
        way = "closed (a negative bias)" if carrier.complement else "open (a positive bias)"
        found.append(
            f"{carrier} lets {kept:.2f} of {carrier.state} through per step on average; start {carrier.gate} more "
            f"{way} to remember longer"
        )
    return found


def _about_saturation(node: Recorded) -> list[str]:
    if node.limits is None or node.not_finite_from is not None:
        return []
    low, high = float(node.low_share.mean()), float(node.high_share.mean())
    where = f"{node.name} of layer {node.layer}" if node.layer else node.name
    if node.role == "gate":
        for share, word in ((low, f"closed (below {node.limits[0]:g})"), (high, f"open (above {node.limits[1]:g})")):
            if share > OFTEN:
                return [f"gate {where} is {word} in {share:.0%} of steps and units, where it learns slowly"]
    elif low + high > OFTEN:
        what = "0" if np.isinf(node.limits[1]) else f"saturated (beyond {node.limits[1]:g} or {node.limits[0]:g})"
        return [f"{where} is {what} in {low + high:.0%} of steps and units, where it learns slowly or not at all"]
    return []


def _about_still_units(nodes: Sequence[Recorded]) -> list[str]:
    """Units that do nothing; of the states, since a gate may well stand still."""
    found = []
    for node in nodes:
        if not node.is_state or node.values.shape[0] < 2:
            continue
        still = np.flatnonzero(node.is_still)
        if len(still):
            where = f"{node.name} of layer {node.layer}" if node.layer else node.name
            shown = ", ".join(map(str, still[:8])) + (", ..." if len(still) > 8 else "")
            found.append(f"{len(still)} of {node.units} units of {where} stand still all the time: {shown}")
    return found
