"""Is a sequence the same however it comes: whole, step by step, cut, ragged, without any step."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor

from cellula.checks.case import Case, expect_equal
from cellula.nn.recurrent import Recurrent

__all__ = ["check_empty", "check_ragged", "check_steps", "module_of"]

_TOLERANCE = 1e-11


def module_of(case: Case, backend: str | None = "reference") -> Recurrent:
    """The cell as a module with the numbers of a case."""
    sizes: dict[str, Any] = {name: case.sizes[name] for name in case.graph.extra_sizes}
    module = Recurrent(
        case.graph, case.sizes["input"], case.sizes["hidden"], dtype=case.x.dtype, backend=backend,
        **{**sizes, **case.settings},
    )  # fmt: skip
    direction = next(module._all())
    with torch.no_grad():
        for name, attribute in direction.attributes.items():
            getattr(direction, attribute).copy_(case.parameters[name])
    return module.eval()


def _start(module: Recurrent, case: Case, rows: slice = slice(None)) -> Any:
    return module.state(**{slot: value.detach()[None, rows] for slot, value in case.start.items()})


def _named(module: Recurrent, output: Tensor, state: Iterable[Tensor]) -> dict[str, Tensor]:
    finals = dict(zip((f"final {slot}" for slot in module.state_names), state, strict=True))
    return {"output": output, **finals}


@torch.no_grad()
def check_steps(case: Case) -> str:
    """One step after the other, and two halves, give what the whole sequence gives."""
    module, x = module_of(case), case.x.detach()
    whole = _named(module, *module(x, _start(module, case)))
    state, outputs = _start(module, case), []
    for step in x:
        output, state = module.step(step, state)
        outputs.append(output)
    expect_equal(_named(module, torch.stack(outputs), state), whole, _TOLERANCE, "step by step")
    cut = len(x) // 2
    first, state = module(x[:cut], _start(module, case))
    second, state = module(x[cut:], state)
    expect_equal(_named(module, torch.cat([first, second]), state), whole, _TOLERANCE, "in two halves")
    return f"{len(x)} steps one by one, in two halves and as a whole give the same"


@torch.no_grad()
def check_ragged(case: Case) -> str:
    """A row of a ragged batch is as if it were alone; what lies behind its end is not read."""
    module, x = module_of(case), case.x.detach().clone()
    lengths = [max(1, len(x) - 2 * row) for row in range(x.shape[1])]
    for row, length in enumerate(lengths):
        x[length:, row] = torch.nan
    together = _named(module, *module(x, _start(module, case), lengths=lengths))
    for row, length in enumerate(lengths):
        rows = slice(row, row + 1)
        alone = _named(module, *module(x[:length, rows], _start(module, case, rows)))
        behind = torch.zeros_like(together["output"][length:, rows])
        alone["output"] = torch.cat([alone["output"], behind])
        expect_equal({name: v[:, rows] for name, v in together.items()}, alone, _TOLERANCE, f"a row of {length} steps")
    return f"rows of {', '.join(map(str, lengths))} steps are as if alone"


@torch.no_grad()
def check_empty(case: Case) -> str:
    """A row without steps keeps its state and puts out zeros; one step works."""
    module, x = module_of(case), case.x.detach()
    start = _start(module, case)
    lengths = [0] + [1] * (x.shape[1] - 1)
    found = _named(module, *module(x[:1], start, lengths=lengths))
    kept = _named(module, torch.zeros_like(found["output"][:, :1]), start)
    kept = {name: value[:, :1] for name, value in kept.items()}
    expect_equal({name: value[:, :1] for name, value in found.items()}, kept, 0.0, "a row without steps")
    output, state = module.step(x[0], start)
    one = {name: value[:, 1:] for name, value in _named(module, output[None], state).items()}
    expect_equal({name: value[:, 1:] for name, value in found.items()}, one, _TOLERANCE, "a row of one step")
    return "a row without steps keeps its state; a row of one step is that step"
