"""`backend="auto"`: C where it can run a call, else the reference; never another answer, and it says which and why."""

import warnings

import pytest
import torch

from c_backend import QUICK, compiler_flags, needs_compiler
from cellula import Recurrent, UsageError
from compare import assert_close, gradients

pytestmark = needs_compiler
DOUBLE = torch.float64


@pytest.fixture(scope="module", autouse=True)
def _quick():
    with compiler_flags(QUICK):
        yield


def pair(cell="lstm", backend="auto", dtype=DOUBLE, **options):
    """A module, and the same by the reference."""
    torch.manual_seed(0)
    modules = [Recurrent(cell, 3, 4, dtype=dtype, backend=name, **options) for name in (backend, "reference")]
    modules[1].load_state_dict(modules[0].state_dict())
    return modules


def numbers(*shape, dtype=DOUBLE):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64).to(dtype)


def test_what_can_run_in_c_does():
    auto, reference = pair()
    assert auto.backend == "auto, last call: none yet" and reference.backend == "reference"
    x = numbers(5, 2, 3)
    assert_close([auto(x)[0]], [reference(x)[0]])
    assert auto.backend == "auto, last call: c"


def by_vmap(module, x):
    return torch.func.vmap(lambda one: module(one)[0])(torch.stack([x, 2 * x, -x]))


def by_grad(module, x):
    parameters = dict(module.named_parameters())

    def loss(parameters, x):
        return torch.func.functional_call(module, parameters, (x.unsqueeze(1),))[0].square().sum()

    each = torch.func.vmap(torch.func.grad(loss), in_dims=(None, 1))(parameters, x)
    return torch.cat([value.flatten() for value in each.values()])


def by_jvp(module, x):
    return torch.func.jvp(lambda x: module(x)[0], (x,), (torch.ones_like(x),))[1]


def by_forward_mode(module, x):
    with torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(x, torch.ones_like(x))
        return torch.autograd.forward_ad.unpack_dual(module(dual)[0]).tangent


def by_jacrev(module, x):
    return torch.func.jacrev(lambda x: module(x)[0])(x)


def by_hessian(module, x):
    return torch.func.hessian(lambda x: module(x)[0].square().sum())(x)


TRANSFORMS = (by_vmap, by_grad, by_jvp, by_forward_mode, by_jacrev, by_hessian)


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_torch(transform):
    auto, reference = pair()
    x = numbers(4, 2, 3)
    assert_close([transform(auto, x)], [transform(reference, x)])
    reasons = ("forward-mode differentiation is on", "a torch.func transform (vmap, grad, jvp) is at work")
    assert auto.backend in [f"auto, last call: reference: {reason}" for reason in reasons]
    # The next plain call is C again.
    auto(x)
    assert auto.backend == "auto, last call: c"


@pytest.mark.parametrize("transform", TRANSFORMS)
def test_transforms_of_torch_are_refused_by_name(transform):
    module, _ = pair(backend="c")
    with pytest.raises(
        UsageError, match=r"backend='c' cannot run this: .*(torch.func|forward-mode).*use backend='auto'"
    ):
        transform(module, numbers(4, 2, 3))


# Options of the module, shape and type of the input, and what is said.
REFUSED = {
    "bfloat16": ({"dtype": torch.bfloat16}, (4, 2, 3), "the input is torch.bfloat16, and the kernels compute in"),
    "float16": ({"dtype": torch.float16}, (4, 2, 3), "the input is torch.float16, and the kernels compute in"),
    "no rows": ({}, (4, 0, 3), "the batch is empty"),
}


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_run_in_c_runs_by_the_reference(what):
    options, shape, why = REFUSED[what]
    dtype = options.get("dtype", DOUBLE)
    auto, reference = pair(**options)
    x = numbers(*shape, dtype=dtype).requires_grad_()
    found = []
    for module in (auto, reference):
        output, state = module(x)
        ends = [output, *state]
        found.append([*ends, *gradients(ends, [x, *module.parameters()])])
    assert all(torch.equal(one, other) for one, other in zip(*found, strict=True))
    assert auto.backend.startswith(f"auto, last call: reference: {why}")


@pytest.mark.parametrize("what", REFUSED)
def test_what_cannot_run_in_c_is_refused_by_name(what):
    options, shape, why = REFUSED[what]
    module, _ = pair(backend="c", **options)
    with pytest.raises(UsageError, match=f"backend='c' cannot run this: {why}"):
        module(numbers(*shape, dtype=options.get("dtype", DOUBLE)))


def test_tensors_of_two_types_are_refused_by_name():
    module, _ = pair(backend="c", dtype=torch.float32)
    x = numbers(4, 2, 3, dtype=torch.float32)
    state = {"c": torch.zeros(1, 2, 4), "h": torch.zeros(1, 2, 4, dtype=DOUBLE)}
    with pytest.raises(UsageError, match=r"a tensor is torch.float64 on cpu, the input torch.float32 on cpu"):
        module(x, state)
    with pytest.raises(UsageError, match=r"a tensor is torch.float32 on cpu, the input torch.float64 on cpu"):
        module(x.double())


def test_another_device_is_refused_by_name():
    module, _ = pair(backend="c")
    with pytest.raises(UsageError, match="the input is on meta, and the kernels run on the CPU"):
        module.to("meta")(numbers(4, 2, 3).to("meta"))
    auto, _ = pair()
    assert auto.to("meta")(numbers(4, 2, 3).to("meta"))[0].device.type == "meta"


def test_a_setting_that_is_a_tensor_is_refused_by_name():
    """It may want a gradient."""
    module, _ = pair("leak = setting(0.3)\nh[t] = leak * h[t-1] + tanh(x[t] @ W)", backend="c")
    module.settings["leak"] = torch.tensor(0.5, dtype=DOUBLE)
    with pytest.raises(UsageError, match="a setting is a tensor"):
        module(numbers(4, 2, 3))


@pytest.mark.parametrize("learning", [False, True])
def test_recorded_nodes_run_in_c(learning):
    auto, reference = pair()
    x = numbers(4, 2, 3)
    # A name twice, an output and a state among them.
    names = ("i", "c", "h", "i")
    with torch.set_grad_enabled(learning):
        ours, theirs = (module(x, lengths=[4, 2], record=names) for module in (auto, reference))
    assert list(ours[2]) == list(theirs[2]) == ["i", "c", "h"]
    assert_close(ours[2], theirs[2])
    assert auto.backend == "auto, last call: c"


def test_low_precision_under_autocast_runs_in_c():
    """The kernels compute in float32 there."""
    auto, _ = pair(dtype=torch.float32)
    x = numbers(4, 2, 3, dtype=torch.float32)
    expected = auto(x)[0]
    with torch.autocast("cpu", torch.bfloat16):
        found = auto(x.bfloat16())[0]
        assert auto.backend == "auto, last call: c" and found.dtype == torch.float32
        assert_close([found], [expected], 0.02)
        assert torch.equal(auto(x)[0], expected)


def test_a_machine_with_a_compiler_is_not_warned():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        auto, _ = pair()
        auto(numbers(4, 2, 3).requires_grad_())[0].sum().backward()
        by_vmap(auto, numbers(4, 2, 3))
        pair(dtype=torch.bfloat16)[0](numbers(4, 2, 3, dtype=torch.bfloat16))


def test_the_environment_chooses_where_no_argument_does(monkeypatch):
    for name, expected in (
        ("reference", "reference"),
        ("c", "c"),
        ("auto", "auto, last call: none yet"),
        ("", "auto, last call: none yet"),
    ):
        monkeypatch.setenv("CELLULA_BACKEND", name)
        assert Recurrent("lstm", 3, 4).backend == expected
        assert Recurrent("lstm", 3, 4, backend="c").backend == "c"
    monkeypatch.setenv("CELLULA_BACKEND", "cuda")
    message = (
        "CELLULA_BACKEND is 'cuda': there is no such back end; write one of 'auto', 'c', 'c_steps', 'scan', 'reference'"
    )
    with pytest.raises(UsageError, match=message):
        Recurrent("lstm", 3, 4)
    with pytest.raises(UsageError, match="backend is 'C': there is no such back end"):
        Recurrent("lstm", 3, 4, backend="C")
