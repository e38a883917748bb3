"""What the tests of ONNX share: run an exported module and compare it with the module itself."""

import numpy as np
import pytest
import torch

from cellula import Recurrent, load_cell
from cellula.backends.onnx.proto import to_bytes
from cellula.tasks.onnx_file import onnx_model
from zoo_sizes import fitting, own_sizes

onnx = pytest.importorskip("onnx", reason="onnx is not installed: pip install 'cellula[onnx]'")
reference = pytest.importorskip("onnx.reference")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed: pip install 'cellula[onnx]'")

# Warnings of the runtime are worth reading, but not its notes.
runtime.set_default_logger_severity(2)


def module_of(cell, inputs=3, hidden=4, seed=0, **options):
    """A module of a cell whose weights all differ from their start, biases too."""
    torch.manual_seed(seed)
    graph = load_cell(cell)
    module = Recurrent(graph, inputs, fitting(graph, hidden), **options, **own_sizes(graph)).eval()
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.add_(0.2 * torch.randn_like(parameter))
    return module


def exported(module, check=True, **options):
    """The bytes of the file, which ONNX's own checker passes."""
    data = to_bytes(onnx_model(module, **options), "")
    if check:
        onnx.checker.check_model(data, full_check=True)
    return data


def session(module, **options):
    """onnxruntime with the exported module."""
    return runtime.InferenceSession(exported(module, **options), providers=["CPUExecutionProvider"])


def feed_states(module, state):
    """A module's state as the inputs of its file."""
    feeds = {}
    for slot, value in zip(module.state_names, state, strict=True):
        if torch.is_tensor(value):
            feeds[f"{slot}_0"] = value.numpy()
        else:
            feeds |= {f"{slot}_0.layer_{n}": part.numpy() for n, part in enumerate(by_layer(module, value))}
    return feeds


def by_layer(module, parts):
    """The parts of a state whose layers differ in size, one tensor [D, B, H] a layer."""
    step = module.directions
    return [torch.stack(tuple(parts[n : n + step])) for n in range(0, len(parts), step)]


def expected(module, x, state=None, **options):
    """What the file should give, name by name."""
    with torch.no_grad():
        output, state = module(x, state, **options)
    found = {"output": output}
    for slot, value in zip(module.state_names, state, strict=True):
        if torch.is_tensor(value):
            found[f"{slot}_n"] = value
        else:
            found |= {f"{slot}_n.layer_{n}": part for n, part in enumerate(by_layer(module, value))}
    return found


def random_state(module, rows, seed=1):
    """A state to start from; positive, as some cells divide by theirs."""
    generator = torch.Generator().manual_seed(seed)
    values = []
    for slot in module.state_names:
        parts = [
            0.2
            + torch.rand(rows, d.state_sizes[slot], generator=generator).to(
                next(iter(module.state_dict().values()), torch.zeros(1))
            )
            for d in module.layers
        ]
        values.append(torch.stack(parts) if len({part.shape for part in parts}) == 1 else tuple(parts))
    return tuple(values)


def assert_same(results, wanted, tolerance=1e-5):
    """All results of a file, by name, agree with tensors to rounding; NaN equals nothing."""
    assert list(results) == list(wanted)
    for name, want in wanted.items():
        found, want = np.asarray(results[name]), want.detach().numpy()
        assert found.shape == want.shape, f"{name}: {found.shape} and {want.shape}"
        scale = 1 + np.abs(want).max(initial=0.0)
        error = np.abs(found - want).max(initial=0.0)
        assert error <= tolerance * scale, f"{name}: differs by {error:.3g}, scale {scale:.3g}"


def run_named(session, feeds):
    """Every output by its name."""
    names = [port.name for port in session.get_outputs()]
    return dict(zip(names, session.run(names, feeds), strict=True))
