"""Forks, data loaders, threads of Python, machines without a compiler: what happens around a call."""

import threading

import pytest
import torch

from c_backend import needs_compiler, run_child
from cellula import Recurrent

# A process of its own that has run kernels on two threads.
WARM = """
import os, signal, sys, threading, time, warnings
import torch
from cellula import Recurrent
torch.manual_seed(0)
torch.set_num_threads(2)

def gradients(module, x):
    output, _ = module(x)
    return [output, *torch.autograd.grad(output.square().sum(), [x, *module.parameters()])]

def ends_well(work):
    # What a forked child does; it is killed when it hangs.
    child = os.fork()
    if not child:
        signal.alarm(20)
        good = False
        try:
            good = work()
        finally:
            os._exit(0 if good else 1)
    return os.waitpid(child, 0)[1] == 0
"""


@needs_compiler
def test_a_forked_child_computes_the_same():
    """Its parent's threads are gone, and must not be waited for."""
    printed = run_child(WARM + """
module = Recurrent("lstm", 64, 128)
large, small = torch.randn(20, 8, 64, requires_grad=True), torch.randn(5, 1, 64, requires_grad=True)
wide = Recurrent("lstm", 16, 256)
one_row = torch.randn(10, 1, 16, requires_grad=True)
def everything():
    return [value for m, x in ((module, large), (module, small), (wide, one_row)) for value in gradients(m, x)]
expected = everything()
def work():
    torch.set_num_threads(1)
    found = everything()
    return all(torch.allclose(one, other, atol=1e-4) for one, other in zip(found, expected))
print(ends_well(work), ends_well(work))
again = everything()
print(all(torch.equal(one, other) for one, other in zip(again, expected)))
""")  # fmt: skip
    assert printed == "True True\nTrue"


@needs_compiler
def test_a_child_that_is_forked_while_another_thread_compiles():
    printed = run_child(WARM + """
from cellula.backends.c.launch import kernels
compiling, go_on = threading.Event(), threading.Event()
load = kernels.load_library
def slow(source):
    compiling.set()
    go_on.wait()
    return load(source)
kernels.load_library = slow
x = torch.randn(5, 2, 3)
thread = threading.Thread(target=lambda: Recurrent("lstm", 3, 4)(x))
thread.start()
compiling.wait()
kernels.load_library = load
print(ends_well(lambda: Recurrent("lstm", 3, 4)(x)[0].shape == (5, 2, 4)))
go_on.set()
thread.join()
""")  # fmt: skip
    assert printed == "True"


@needs_compiler
def test_a_child_that_is_forked_during_a_call():
    """The scratch memory that the call holds is not the child's to wait for."""
    printed = run_child(WARM + """
torch.set_num_threads(1)
module, x = Recurrent("elman", 64, 256), torch.randn(400, 16, 64)
other, y = Recurrent("elman", 3, 4), torch.randn(5, 2, 3)
with torch.no_grad():
    expected = other(y)[0]
    stop = threading.Event()
    def busy():
        with torch.no_grad():
            while not stop.is_set():
                module(x)
    thread = threading.Thread(target=busy)
    thread.start()
    def work():
        with torch.no_grad():
            return torch.equal(other(y)[0], expected)
    print(all(ends_well(work) for _ in range(10)))
    stop.set()
    thread.join()
""")  # fmt: skip
    assert printed == "True"


@needs_compiler
@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_workers_of_a_data_loader(method, tmp_path):
    script = tmp_path / "loads.py"
    script.write_text(
        """
import torch
from torch.utils.data import DataLoader, Dataset
from cellula import Recurrent

class Encoded(Dataset):
    def __init__(self):
        torch.manual_seed(0)
        self.module = Recurrent("lstm", 8, 64).requires_grad_(False)
        self.x = torch.randn(8, 30, 2, 8)
        # Two threads, before there are workers.
        self.module(self.x[0])
    def __len__(self):
        return len(self.x)
    def __getitem__(self, index):
        return self.module(self.x[index])[0]

if __name__ == "__main__":
    torch.set_num_threads(2)
    data = Encoded()
    loader = DataLoader(data, batch_size=4, num_workers=2, multiprocessing_context=METHOD, timeout=60)
    found = torch.cat([*loader])
    print(torch.equal(found, torch.stack([data[index] for index in range(8)])))
""".replace("METHOD", repr(method))
    )
    assert run_child(script) == "True"


@needs_compiler
def test_threads_of_python_that_call_one_module_at_once():
    """Only one of them gets the memory that is kept; all get their own results."""
    torch.manual_seed(0)
    module = Recurrent("lstm", 16, 48, backend="c")
    inputs = [torch.randn(30 + number, 3 + number, 16) for number in range(4)]
    expected = [run_once(module, x) for x in inputs]
    found: list[list] = [[] for _ in inputs]
    start = threading.Barrier(len(inputs))

    def work(number):
        start.wait()
        found[number] += [run_once(module, inputs[number]) for _ in range(20)]

    threads = [threading.Thread(target=work, args=(number,)) for number in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(100)
    for results, right in zip(found, expected, strict=True):
        assert len(results) == 20
        assert all(torch.equal(one, other) for result in results for one, other in zip(result, right, strict=True))


def run_once(module, x):
    output, state = module(x)
    parameters = [*module.parameters()]
    return [output.detach(), state.c.detach(), *torch.autograd.grad(output.square().sum(), parameters)]


@needs_compiler
def test_threads_that_all_compile_first():
    """The first call of several threads at once."""
    printed = run_child(WARM + """
torch.set_num_threads(1)
module, x, found = Recurrent("gru", 3, 5), torch.randn(6, 2, 3, requires_grad=True), []
threads = [threading.Thread(target=lambda: found.append(gradients(module, x))) for _ in range(6)]
for thread in threads: thread.start()
for thread in threads: thread.join()
print(len(found), all(torch.equal(a, b) for one in found for a, b in zip(one, found[0])), module.backend)
""")  # fmt: skip
    assert printed == "6 True auto, last call: c"


# Without a compiler on the PATH; what was compiled before must not help.
NO_COMPILER = {"PATH": "", "CC": None}
ALONE = """
import warnings
import torch
from cellula import Recurrent
from cellula.backends.c.compiler import NoCompilerError
"""


def test_without_a_compiler_the_reference_runs_with_one_warning(tmp_path):
    printed = run_child(ALONE + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    x = torch.randn(5, 2, 3, requires_grad=True)
    for cell in ("lstm", "gru"):
        module, other = Recurrent(cell, 3, 4), Recurrent(cell, 3, 4, backend="reference")
        other.load_state_dict(module.state_dict())
        for _ in range(2):
            found = [torch.autograd.grad(m(x)[0].sum(), x)[0] for m in (module, other)]
            assert torch.equal(*found)
        print(module.backend)
told = [str(one.message) for one in caught if issubclass(one.category, RuntimeWarning)]
print(len(told))
print(told[0])
""", CELLULA_CACHE_DIR=str(tmp_path), **NO_COMPILER)  # fmt: skip
    lines = printed.splitlines()
    assert lines[0].startswith("auto, last call: reference: no C compiler was found")
    assert lines[1].startswith("auto, last call: reference: no C compiler was found")
    assert lines[2] == "1"
    warning = "\n".join(lines[3:])
    assert "reference back end" in warning and "to install one:" in warning and "backend='reference'" in warning


def test_without_a_compiler_c_is_refused(tmp_path):
    printed = run_child(ALONE + """
try:
    Recurrent("lstm", 3, 4, backend="c")(torch.randn(5, 2, 3))
except NoCompilerError as error:
    print(error)
""", CELLULA_CACHE_DIR=str(tmp_path), **NO_COMPILER)  # fmt: skip
    assert "no C compiler was found" in printed and "to install one:" in printed


@needs_compiler
def test_a_compiler_that_fails_is_told_once_and_not_asked_again(tmp_path):
    log = tmp_path / "calls"
    compiler = tmp_path / "cc"
    fails = f"echo x >> '{log}'; echo broken >&2; exit 1"
    compiler.write_text(f"#!/bin/sh\ncase \"$*\" in *' -o '*) {fails};; esac\necho fake\n")
    compiler.chmod(0o755)
    printed = run_child(ALONE + """
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    module = Recurrent("lstm", 3, 4)
    for _ in range(3):
        module(torch.randn(5, 2, 3))
    print(len([one for one in caught if issubclass(one.category, RuntimeWarning)]), module.backend)
""", CELLULA_CACHE_DIR=str(tmp_path / "cache"), CC=str(compiler))  # fmt: skip
    assert printed.startswith("1 auto, last call: reference: the C compiler failed")
    assert log.read_text().count("x") == 1


@needs_compiler
@pytest.mark.parametrize(
    ("chosen", "expected"),
    [("c", "c"), ("reference", "reference"), ("auto", "auto, last call: c"), ("", "auto, last call: c")],
)
def test_the_environment_chooses(chosen, expected):
    code = (
        ALONE
        + """
module = Recurrent("lstm", 3, 4)
module(torch.randn(5, 2, 3))
print(module.backend)
print(Recurrent("lstm", 3, 4, backend="reference").backend)
"""
    )
    assert run_child(code, CELLULA_BACKEND=chosen) == f"{expected}\nreference"
