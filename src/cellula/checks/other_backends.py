"""Do generated C and an exported ONNX file give what the reference gives."""

from __future__ import annotations

import importlib
from importlib.util import find_spec
from typing import Any

import torch
from torch import Tensor

from cellula.backends import compile
from cellula.backends.c.compiler import CompilerError, NoCompilerError
from cellula.backends.onnx.proto import to_bytes
from cellula.checks.case import Case, Tensors, expect_equal
from cellula.checks.report import Failed, NotRun
from cellula.checks.sequences import module_of
from cellula.nn.onnx_export import to_model

__all__ = ["check_c", "check_onnx"]

# Of a tensor's size; in float32 sums are in another order.
_TOLERANCES = {torch.float64: 1e-11, torch.float32: 1e-4}
_ONNX_TOLERANCE = 1e-4


def check_c(case: Case) -> str:
    """Outputs, final states and every gradient of the kernels, of whole and of ragged batches, and without gradients.

    Raises:
        Failed: they differ, or the compiler does not take the C.
        NotRun: there is no compiler.
    """
    found = []
    for dtype, tolerance in _TOLERANCES.items():
        same = case.to(dtype)
        exact = same.to(torch.float64)
        program = compile(case.plan, "c")
        try:
            actual = same.everything(program)
        except NoCompilerError as error:
            raise NotRun(str(error).splitlines()[0]) from error
        except CompilerError as error:
            raise Failed(str(error)) from error
        name = str(dtype).removeprefix("torch.")
        found.append(expect_equal(actual, exact.everything(case.reference), tolerance, name))
        if dtype == torch.float32:
            # The kernels that keep nothing for a way back, which streaming and prediction use.
            with torch.no_grad():
                without = same.values(program)
            expect_equal(without, exact.values(case.reference), tolerance, f"{name} without gradients")
        ragged = _Ragged(program, case), _Ragged(case.reference, case)
        expect_equal(same.everything(ragged[0]), exact.everything(ragged[1]), tolerance, f"{name}, ragged")
    return f"outputs, states and all gradients: {', '.join(found)}"


class _Ragged:
    """A program whose rows end at different steps."""

    def __init__(self, program: Any, case: Case) -> None:
        self.program = program
        steps, rows = case.x.shape[:2]
        ends = torch.tensor([max(1, steps - 2 * row) for row in range(rows)])
        self.alive = (torch.arange(steps)[:, None] < ends).unsqueeze(-1)

    def __call__(self, *given: Any) -> Any:
        return self.program(*given, alive=self.alive)


def check_onnx(case: Case) -> str:
    """An exported file, run by onnxruntime.

    Raises:
        Failed: it gives something else.
        NotRun: onnx or onnxruntime is not installed.
    """
    missing = [package for package in ("onnx", "onnxruntime") if find_spec(package) is None]
    if missing:
        raise NotRun(f"{missing[0]} is not installed: pip install 'cellula[onnx]'")
    # Heavy, and only this check needs it.
    runtime = importlib.import_module("onnxruntime")
    # What the runtime has to say, but not its notes.
    runtime.set_default_logger_severity(3)
    single = case.to(torch.float32)
    data = to_bytes(to_model(module_of(single), states=True), "")
    session = runtime.InferenceSession(data, providers=["CPUExecutionProvider"])
    feeds = {"x": single.x} | {f"{slot}_0": value[None] for slot, value in single.start.items()}
    known = {one.name for one in session.get_inputs()}
    results = session.run(None, {name: value.detach().numpy() for name, value in feeds.items() if name in known})
    actual: Tensors = {o.name: torch.from_numpy(v) for o, v in zip(session.get_outputs(), results, strict=True)}
    expected: dict[str, Tensor] = {}
    with torch.no_grad():
        for name, value in single.to(torch.float64).values(case.reference).items():
            expected["output" if name == "output" else f"{name.removeprefix('final ')}_n"] = (
                value if name == "output" else value[None]
            )
    return expect_equal(actual, expected, _ONNX_TOLERANCE, f"onnxruntime {runtime.__version__} and the reference agree")
