"""Gradients of generated C as users of torch ask for them: twice, of some, in a graph, in batches."""

import copy
import io
import pickle

import pytest
import torch

from c_backend import QUICK, Case, compiler_flags, needs_compiler, programs, the_binding
from cellula import Recurrent
from compare import assert_close, gradients

pytestmark = needs_compiler
DOUBLE = torch.float64


@pytest.fixture(scope="module", autouse=True, params=[False, True], ids=["without the binding", "with the binding"])
def _quick(request):
    with compiler_flags(QUICK), the_binding(request.param):
        yield


def pair(cell, inputs=3, hidden=4, **options):
    """The same module in C and by the reference."""
    torch.manual_seed(0)
    modules = [Recurrent(cell, inputs, hidden, dtype=DOUBLE, backend=b, **options) for b in ("c", "reference")]
    modules[1].load_state_dict(modules[0].state_dict())
    return modules


def numbers(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=DOUBLE)


def first_and_second(output, leaves):
    """The gradients of a sum of squares, and those of the sum of their squares."""
    first = torch.autograd.grad(output.square().sum(), leaves, create_graph=True)
    second = torch.autograd.grad(sum(one.square().sum() for one in first), leaves)
    return [*first, *second]


@pytest.mark.parametrize("cell", ["lstm", "layer_norm_lstm", "slstm"])
def test_a_second_derivative(cell):
    found = []
    for module in pair(cell, num_layers=2):
        x = numbers(5, 3, 3).requires_grad_()
        output, _ = module(x, lengths=[5, 0, 3])
        found.append(first_and_second(output, [x, *module.parameters()]))
    assert_close(*found, 1e-10)


def test_a_second_derivative_of_recorded_nodes():
    found = []
    for module in pair("lstm", checkpoint_every=2):
        x = numbers(5, 3, 3).requires_grad_()
        recorded = module(x, lengths=[5, 0, 3], record=("i", "h", "g"))[2]
        found.append(first_and_second(torch.cat([*recorded.values()], -1), [x, *module.parameters()]))
    assert_close(*found, 1e-10)


def test_second_derivatives_with_drawn_masks():
    found = []
    for module in pair("zoneout_lstm"):
        x = numbers(5, 3, 3).requires_grad_()
        torch.manual_seed(7)
        found.append(first_and_second(module(x)[0], [x, *module.parameters()]))
    assert_close(*found, 1e-10)


def test_second_derivatives_agree_with_difference_quotients():
    case = Case("lstm", 3, 2, 2, 3)
    c, _ = programs("lstm")

    def values(*leaves):
        case.leaves = dict(zip(case.leaves, leaves, strict=True))
        return tuple(case.values(c).values())

    leaves = tuple(case.leaves.values())
    assert torch.autograd.gradcheck(values, leaves, fast_mode=True)
    assert torch.autograd.gradgradcheck(values, leaves, fast_mode=True)


def test_one_tensor_in_several_places():
    """Tied parameters: each place adds to the one gradient, once."""
    found = []
    for module in pair("lstm", 4, 4):
        layer = module.layers[0]
        layer.U_f = layer.W_i = layer.U_i
        x = numbers(5, 3, 4).requires_grad_()
        leaves = [x, *module.parameters()]
        assert len(leaves) == 1 + len(layer.attributes) - 2
        plain = torch.autograd.grad(module(x)[0].square().sum(), leaves)
        found.append([*plain, *first_and_second(module(x)[0], leaves)])
    assert_close(*found, 1e-10)


def test_a_start_that_is_made_of_the_input():
    """The way through the start is the caller's; the gradient of the input itself must not hold it too."""
    found = []
    for module in pair("lstm", 4, 4):
        x = numbers(5, 3, 4).requires_grad_()
        outputs = [module(x, {"c": x.mean(0, keepdim=True), "h": x[:1].tanh()})[0] for _ in range(2)]
        plain = torch.autograd.grad(outputs[0].square().sum(), x)
        found.append([*plain, *first_and_second(outputs[1], [x])])
    assert_close(*found, 1e-10)


def test_going_back_twice_gives_the_same():
    for cell in ("lstm", "gru", "zoneout_lstm"):
        module = pair(cell)[0]
        x = numbers(5, 3, 3).requires_grad_()
        leaves = [x, *module.parameters()]
        loss = module(x, lengths=[5, 0, 3])[0].square().sum()
        first, second, third = (torch.autograd.grad(loss, leaves, retain_graph=True) for _ in range(3))
        for one, other, another in zip(first, second, third, strict=True):
            assert torch.equal(one, other) and torch.equal(one, another)


def test_a_graph_that_is_used_up_says_so():
    module = pair("lstm")[0]
    loss = module(numbers(5, 3, 3).requires_grad_())[0].sum()
    loss.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        loss.backward()


def test_what_was_changed_in_place_is_noticed():
    module = pair("lstm")[0]
    x = numbers(5, 3, 3)
    output, _ = module(x)
    output.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()
    output, _ = module(x)
    with torch.no_grad():
        module.layers[0].U_i.mul_(2)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_final_states_may_be_changed():
    found = []
    for module in pair("lstm"):
        x = numbers(5, 3, 3).requires_grad_()
        output, state = module(x)
        state.c.mul_(3)
        state.h.add_(1)
        found.append(gradients([output, *state], [x, *module.parameters()]))
    assert_close(*found)


SOME = (["x"], ["state c"], ["U_i", "b_o"], ["W_g", "x"], ["b_f"], ["state h", "W_i", "U_o"])


@pytest.mark.parametrize("wanted", SOME)
def test_gradients_of_some_only(wanted):
    c, reference = programs("lstm")
    for shape in ((4, 3, 5, 7, (4, 0, 2)), (30, 9, 20, 33, None)):
        found = []
        for program in (c, reference):
            case = Case("lstm", *shape)
            case.leaves = {name: value.detach().requires_grad_(name in wanted) for name, value in case.leaves.items()}
            ends = case.values(program).values()
            found.append(torch.autograd.grad(sum(end.square().sum() for end in ends), [case.leaves[n] for n in wanted]))
        assert_close(*found)


def test_frozen_parameters_get_no_gradient():
    for module in pair("lstm"):
        for name, parameter in module.named_parameters():
            parameter.requires_grad_("U_" in name)
        module(numbers(5, 3, 3))[0].sum().backward()
        assert {name for name, p in module.named_parameters() if p.grad is not None} == {
            name for name, _ in module.named_parameters() if "U_" in name
        }


def test_nothing_wants_a_gradient():
    module = pair("lstm")[0].requires_grad_(False)
    output, state = module(numbers(5, 3, 3))
    assert not output.requires_grad and not state.c.requires_grad
    with torch.inference_mode():
        assert torch.equal(module(numbers(5, 3, 3))[0], output)


def test_many_gradients_in_one_go():
    """`is_grads_batched`, and what torch builds on it."""
    found = []
    for module in pair("lstm"):
        x = numbers(3, 2, 3).requires_grad_()
        output = module(x)[0]
        ways = torch.stack([torch.ones_like(output), output.detach()])
        batched = torch.autograd.grad(output, [x, *module.parameters()], ways, is_grads_batched=True)
        jacobian = torch.autograd.functional.jacobian(lambda x, m=module: m(x)[0], x, vectorize=True)
        hessian = torch.autograd.functional.hessian(lambda x, m=module: m(x)[0].square().sum(), x, vectorize=True)
        found.append([*batched, jacobian, hessian])
    assert_close(*found, 1e-10)


def test_checkpoints_and_hooks_of_torch():
    found = []
    for module in pair("lstm"):
        x = numbers(5, 3, 3).requires_grad_()
        leaves = [x, *module.parameters()]
        output = torch.utils.checkpoint.checkpoint(lambda x, m=module: m(x)[0], x, use_reentrant=False)
        again = torch.autograd.grad(output.square().sum(), leaves)
        with torch.autograd.graph.save_on_cpu():
            output = module(x)[0]
        found.append([*again, *torch.autograd.grad(output.square().sum(), leaves)])
    assert_close(*found)


@pytest.mark.parametrize("backend", ["c", "auto", "reference"])
def test_a_module_that_has_run_can_be_copied_and_saved(backend):
    module = Recurrent("lstm", 3, 4, backend=backend)
    x = torch.randn(5, 2, 3)
    expected = module(x)[0]
    file = io.BytesIO()
    torch.save(module, file)
    file.seek(0)
    others = (copy.deepcopy(module), pickle.loads(pickle.dumps(module)), torch.load(file, weights_only=False))
    for other in others:
        assert torch.equal(other(x)[0], expected)
        with torch.no_grad():
            other.layers[0].b_f.add_(1)
        assert not torch.equal(other(x)[0], expected)
    assert torch.equal(module(x)[0], expected)


def test_an_uneven_gradient_of_the_output():
    """Expanded, transposed, and of a part of the output."""
    found = []
    for module in pair("lstm", hidden=3):
        x = numbers(3, 3, 3).requires_grad_()
        leaves = [x, *module.parameters()]
        output = module(x)[0]
        ways = (torch.ones((), dtype=DOUBLE).expand(3, 3, 3), numbers(3, 3, 3).transpose(0, 2))
        grads = [torch.autograd.grad(output, leaves, way, retain_graph=True) for way in ways]
        part = torch.autograd.grad(output[1, 2].sum(), leaves)
        found.append([one for group in (*grads, part) for one in group])
    assert_close(*found)
