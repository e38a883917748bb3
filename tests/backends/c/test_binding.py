"""Small calls by way of the binding: the same bits as by Python, and the same manners."""

import copy
import gc
import threading
import time
import weakref

import pytest
import torch

from c_backend import QUICK, compiler_flags, filled_memory, needs_compiler, run_child, the_binding, torch_threads
from cellula import Recurrent, cells, load_cell
from cellula.backends.c import compiler as compilers
from cellula.backends.c.launch import binding, calls, quick
from cellula.errors import UsageError
from compare import assert_close
from zoo_sizes import fitting, own_sizes

pytestmark = needs_compiler
# Steps, rows, input and hidden units.
SHAPES = ((1, 1, 1, 1), (5, 2, 3, 7), (4, 3, 5, 20))


@pytest.fixture(scope="module", autouse=True)
def _quick_and_poisoned():
    with compiler_flags(QUICK), filled_memory(), the_binding(True):
        yield


@pytest.fixture
def taken(monkeypatch):
    """How many calls the binding has run."""
    count = [0]
    run = binding._binding.run

    def counting(*arguments):
        count[0] += 1
        return run(*arguments)

    monkeypatch.setattr(binding._binding, "run", counting)
    return count


def layer(name, inputs, hidden, **options):
    graph = load_cell(name)
    torch.manual_seed(0)
    made = Recurrent(name, inputs, fitting(graph, hidden), backend="c", **own_sizes(graph), **options)
    with torch.no_grad():
        for parameter in made.parameters():
            parameter += 0.1 * torch.randn_like(parameter)
    return made.eval()


def everything(module, x, state=None):
    """The output, the states, and the gradients of all that wants one."""
    x = x.clone().requires_grad_()
    given = () if state is None else tuple(value.clone().requires_grad_() for value in state)
    output, final = module(x, type(state)(*given) if given else None)
    leaves = [x, *given, *module.parameters()]
    ends = [output, *final]
    weights = [torch.linspace(-1, 1, end.numel(), dtype=end.dtype).view_as(end) for end in ends]
    found = torch.autograd.grad(ends, leaves, weights, allow_unused=True)
    with torch.inference_mode():
        again, _ = module(x.detach(), type(state)(*(value.detach() for value in given)) if given else None)
    return [output, *final, again, *found]


def assert_same_bits(actual, expected):
    assert len(actual) == len(expected)
    for number, (one, other) in enumerate(zip(actual, expected, strict=True)):
        if one is None or other is None:
            assert one is other, number
            continue
        assert one.shape == other.shape, number
        assert torch.equal(one, other), number


ALL = [(name, torch.float64) for name in cells()]
SOME = [(name, torch.float32) for name in ("lstm", "gru", "layer_norm_lstm", "projected_lstm", "nas", "mlp")]


@pytest.mark.parametrize(("name", "dtype"), ALL + SOME)
def test_every_cell_has_the_same_bits(name, dtype, taken):
    for steps, rows, inputs, hidden in SHAPES:
        module = layer(name, inputs, hidden, dtype=dtype)
        x = torch.randn(steps, rows, inputs, dtype=dtype)
        with torch.no_grad():
            _, state = module(x)
        for start in (None, state):
            taken[0] = 0
            found = everything(module, x, start)
            used = taken[0]
            with the_binding(False):
                assert_same_bits(found, everything(module, x, start))
        shape = module.layers[0].program.shape(False, True, (), dtype, module.layers[0].all_sizes)
        # What is computed once, before the steps, and products block by block are left to Python.
        assert used == (0 if shape.kernel.once else 2 if shape.dense else 1)


def same(call):
    """What a call gives by the binding and without."""
    torch.manual_seed(1)
    found = call()
    with the_binding(False):
        torch.manual_seed(1)
        assert_same_bits(found, call())
    return found


def double(*shape):
    return torch.randn(shape, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


@pytest.fixture
def lstm():
    return layer("lstm", 3, 8, dtype=torch.float64).train()


def test_one_step_at_a_time(lstm, taken):
    x = double(5, 2, 3)

    def steps():
        state, outputs = None, []
        for now in x:
            output, state = lstm.step(now, state)
            outputs.append(output)
        return [*outputs, *state, *torch.autograd.grad(torch.stack(outputs).sin().sum(), [*lstm.parameters()])]

    found = same(steps)
    assert taken[0] == 5
    whole, final = lstm(x)
    assert_same_bits([*found[:5], *found[5:7]], [*whole.unbind(0), *final])


def test_inputs_that_lie_elsewhere(lstm, taken):
    with torch.no_grad():
        lstm.layers[0].U_f.set_(lstm.layers[0].U_f.detach().T.contiguous().T)
        lstm.layers[0].b_f.set_(double(8, 2)[:, 0])
    inputs = {
        "transposed": double(2, 5, 3).transpose(0, 1), "cut": double(5, 4, 7)[:, 1:3, 2:5],
        "expanded": double(5, 1, 3).expand(5, 2, 3), "from the end": double(5, 2, 3).flip(0),
    }  # fmt: skip
    for x in inputs.values():
        state = lstm.state(h=double(1, 1, 8).expand(1, 2, 8), c=double(1, 8, 2).transpose(1, 2))
        same(lambda x=x, state=state: everything(lstm, x, state))
    assert taken[0] == 8


def test_a_negated_view_is_not_read_as_it_lies(lstm):
    x = torch._neg_view(double(5, 2, 3))
    assert_same_bits(lstm(x)[0], lstm(-double(5, 2, 3))[0])
    with torch.no_grad():
        assert_same_bits(lstm.step(x[0])[0], lstm.step(-double(5, 2, 3)[0])[0])


def test_two_walks_back_and_a_part_of_the_gradients(lstm, taken):
    x = double(5, 2, 3).requires_grad_()

    def walks():
        output, (h, c) = lstm(x)
        pairs = (output, x), (c, lstm.layers[0].W_o), (h, lstm.layers[0].b_i), (output, x)
        return [torch.autograd.grad(end.sum(), leaf, retain_graph=True)[0] for end, leaf in pairs]

    first, zero, _, again = same(walks)
    assert_same_bits([first], [again])
    # The last long memory does not read the output gate of the last step only.
    assert zero.abs().sum() > 0
    assert taken[0] == 1


def test_frozen_parameters_get_no_gradient(lstm):
    lstm.layers[0].U_g.requires_grad_(False)
    lstm.layers[0].b_o.requires_grad_(False)

    def train():
        lstm.zero_grad()
        lstm(double(5, 2, 3))[0].sin().sum().backward()
        return [parameter.grad for parameter in lstm.parameters()]

    assert [one is None for one in same(train)].count(True) == 2


@pytest.mark.parametrize("single", [False, True], ids=["whole", "one step"])
def test_a_second_derivative(lstm, single, taken):
    x = double(1, 2, 3).requires_grad_()
    start = lstm.state(h=double(1, 2, 8).requires_grad_(), c=double(1, 2, 8).requires_grad_())
    leaves = [x, *start, *lstm.parameters()]

    def second():
        output, state = lstm.step(x[0], start) if single else lstm(x, start)
        end = output.square().sum() + state.c.exp().sum()
        first = torch.autograd.grad(end, leaves, create_graph=True)
        return [*first, *torch.autograd.grad(sum(one.square().sum() for one in first), leaves)]

    found = second()
    assert taken[0] == 1
    with the_binding(False):
        assert_close(found, second(), 1e-12)


def test_many_gradients_at_a_time(lstm):
    x = double(4, 2, 3).requires_grad_()
    output = lstm(x)[0]
    directions = double(6, *output.shape)
    one_by_one = [torch.autograd.grad(output, x, one, retain_graph=True)[0] for one in directions]
    together = torch.autograd.grad(output, x, directions, is_grads_batched=True)[0]
    assert_close([together], [torch.stack(one_by_one)], 1e-12)


def test_a_change_in_place_is_noticed(lstm):
    output, _ = lstm(double(4, 2, 3))
    with torch.no_grad():
        lstm.layers[0].U_i.add_(1)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        output.sum().backward()


def test_a_graph_outlives_its_layer():
    module = layer("lstm", 3, 8, dtype=torch.float64)
    x = double(4, 2, 3).requires_grad_()
    output, gone = module(x)[0], weakref.ref(module)
    expected = torch.autograd.grad(layer("lstm", 3, 8, dtype=torch.float64)(x)[0].sum(), x)
    del module
    gc.collect()
    assert gone() is None
    (found,) = torch.autograd.grad(output.sum(), x, create_graph=True)
    assert_close([found], expected, 1e-12)


def test_what_a_user_changes_later_counts(lstm, taken):
    x = double(4, 2, 3)
    before = lstm(x)[0]
    other = copy.deepcopy(lstm)
    with torch.no_grad():
        other.layers[0].W_i.add_(1)
    assert not torch.equal(other(x)[0], before)
    lstm.layers[0] = other.layers[0]
    assert_same_bits([lstm(x)[0]], [other(x)[0]])
    with torch.no_grad():
        lstm.layers[0].W_i.data = lstm.layers[0].W_i.data - 1
    assert_close([lstm(x)[0]], [before], 1e-12)
    torch.nn.utils.parametrize.register_parametrization(lstm.layers[0], "W_f", torch.nn.Tanh())
    found = same(lambda: [lstm(x)[0]])
    assert not torch.allclose(found[0], before)
    assert taken[0] > 0


def test_a_setting_that_is_changed_counts():
    module = layer("co_rnn", 3, 8, dtype=torch.float64)
    name = next(iter(module.settings))
    x = double(4, 2, 3)
    before = module(x)[0]
    module.settings[name] = module.settings[name] / 2
    found = same(lambda: [module(x)[0]])
    assert not torch.allclose(found[0], before)


def test_what_is_wrong_is_told_as_without(lstm):
    wrong = [
        lambda: lstm(double(4, 2, 2)), lambda: lstm(double(4, 2)), lambda: lstm(double(4, 2, 3).float()),
        lambda: lstm(double(4, 2, 3), (double(1, 2, 8),)), lambda: lstm.step(double(2, 2)),
        lambda: lstm(double(4, 2, 3), lstm.state(h=double(1, 3, 8), c=double(1, 2, 8))),
        lambda: lstm(double(4, 2, 3), lstm.state(h=double(2, 8), c=double(2, 8))), lambda: lstm(double(0, 2, 3)),
        lambda: lstm(None), lambda: lstm(double(4, 2, 3), lstm.state(h=None, c=None)),
    ]  # fmt: skip
    for call in wrong:
        messages = []
        for used in (True, False):
            with the_binding(used), pytest.raises(Exception) as caught:
                call()
            messages.append((caught.type, str(caught.value)))
        assert messages[0] == messages[1]


@pytest.mark.parametrize("cell", ["lstm", "gru", "layer_norm_lstm"])
def test_two_threads_and_large_products(cell, monkeypatch):
    monkeypatch.setattr(calls, "SMALL", 1 << 40)
    module = layer(cell, 33, 140, dtype=torch.float64)
    for threads in (1, 2):
        with torch_threads(threads):
            for x in (double(3, 1, 33), double(150, 2, 33)):
                same(lambda x=x: everything(module, x))


def test_python_threads_share_a_module(lstm):
    inputs = [double(steps, 2, 3) for steps in (3, 4, 5, 6)]
    expected = [everything(lstm, x) for x in inputs]
    found: dict[int, list] = {}

    def work(number):
        for _ in range(20):
            found[number] = everything(lstm, inputs[number])

    workers = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    for number in range(4):
        assert_same_bits(found[number], expected[number])


def test_many_lengths_do_not_pile_up(lstm, monkeypatch):
    monkeypatch.setattr(quick, "MOST_RECIPES", 8)
    for steps in range(1, 30):
        lstm(double(steps, 1, 3))
    assert len(lstm._caller[0].recipes) <= 8


def test_a_compiled_graph_stays_whole(lstm):
    x = double(4, 2, 3)
    lstm(x)
    whole = torch.compile(lstm, fullgraph=True, backend="aot_eager")
    assert_same_bits([whole(x)[0]], [lstm(x)[0]])


ELMAN = """
import torch
from cellula import Recurrent
from cellula.backends.c.launch import binding
layer = Recurrent("elman", 3, 4, backend="c")
def name():
    return type(layer(torch.zeros(4, 2, 3))[0].grad_fn).__name__
"""


def test_it_is_loaded_at_the_first_call_where_it_was_made_before():
    assert run_child(ELMAN + "print(name())", CELLULA_BINDING="auto") == "CppFunction"
    assert run_child(ELMAN + "print(name())", CELLULA_BINDING="off") == "RunBackward"


FORK = """
import os
expected = layer(torch.ones(4, 2, 3))[0]
number = os.fork()
if not number:
    found = layer(torch.ones(4, 2, 3))[0]
    found.sum().backward()
    os._exit(0 if torch.equal(found, expected) else 1)
print(os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]))
"""


def test_a_forked_child_uses_it():
    assert run_child(ELMAN + FORK, CELLULA_BINDING="now") == "0"


def test_without_a_compiler_for_it_python_does_the_same():
    code = ELMAN + "import warnings\nwarnings.simplefilter('ignore')\nprint(name(), binding._binding.problem)"
    said = run_child(code, CELLULA_BINDING="now", CXX="no-such-compiler")
    assert said.startswith("RunBackward no C++ compiler was found; tried from the variable CXX: no-such-compiler")
    assert "RuntimeWarning" not in run_child(ELMAN + "print(name())", CELLULA_BINDING="auto", CXX="no-such-compiler")


def test_a_wrong_mode_is_refused(monkeypatch):
    monkeypatch.setenv("CELLULA_BINDING", "perhaps")
    with pytest.raises(UsageError, match="CELLULA_BINDING is 'perhaps'; write one of auto, now, off"):
        binding.Binding().begin()


def test_it_is_compiled_beside_the_work_once_that_is_worth_it(monkeypatch):
    """Not for a process of a few calls, and once for many."""
    loads = []
    monkeypatch.setenv("CELLULA_BINDING", "auto")
    monkeypatch.setattr(binding, "is_compiled", lambda *_: False)
    monkeypatch.setattr(binding, "load_library", lambda *_: loads.append(threading.current_thread().name))
    monkeypatch.setattr(torch._C, "_jit_get_schemas_for_operator", lambda _: [])
    monkeypatch.setattr(binding, "SECONDS", 0.05)
    state = binding.Binding()
    for _ in range(binding.CALLS + 5):
        assert state.seek() is None
    assert not loads
    time.sleep(0.06)
    for _ in range(5):
        state.seek()
    assert state.thread is not None
    state.thread.join()
    assert loads == ["cellula-binding"]
    assert state.run is not None


def test_torch_without_headers_is_told(monkeypatch, tmp_path):
    monkeypatch.setattr(torch, "__file__", str(tmp_path / "torch" / "__init__.py"))
    binding.compiler.cache_clear()
    try:
        with pytest.raises(compilers.CompilerError, match="this torch came without its C\\+\\+ headers"):
            binding.compiler()
    finally:
        binding.compiler.cache_clear()
