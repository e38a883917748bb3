"""The binding: a small library in C++ through which small calls reach their kernels without Python.

It is the same for all cells, and is compiled once for a user and a version of torch. That takes some twenty seconds, so
it is done beside the work, by a thread, once a process has made many small calls; until then, and where it cannot be
done, Python does the same with the same kernels, to the same bits.
"""

from __future__ import annotations

import atexit
import os
import shutil
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import cache
from pathlib import Path

import torch
from torch import Tensor

from cellula.backends.c.build import stop_all
from cellula.backends.c.compiler import CPP, Compiler, CompilerError, find_compiler
from cellula.backends.c.library import is_compiled, load_library
from cellula.errors import UsageError

__all__ = ["prepare_binding", "run_operator"]

SOURCE = Path(__file__).with_name("binding.cpp")
MODES = ("auto", "now", "off")
# From so many small calls on, over so many seconds, a process is worth a compilation.
CALLS, SECONDS = 500, 5.0
# In seconds; it runs beside others, at a low priority.
TIMEOUT = 900.0

RunOperator = Callable[[Tensor, Sequence[Tensor], bool], list[Tensor]]


class Binding:
    """Whether the binding is there, and what is done about it.

    Attributes:
        run: the operator; None where it is not there, or not yet.
        problem: why it will not be there; empty where nothing is known.
    """

    def __init__(self) -> None:
        self.run: RunOperator | None = None
        self.problem = ""
        self.mode = ""
        self.calls, self.since = 0, 0.0
        self.thread: threading.Thread | None = None

    def seek(self) -> RunOperator | None:
        """The operator, if it can be had at this moment; called once a call, so most of the time it must be quick."""
        if self.problem or self.thread is not None:
            return None
        if not self.mode:
            self.begin()
            return self.run
        self.calls += 1
        if self.calls >= CALLS and time.monotonic() - self.since >= SECONDS:
            self.thread = threading.Thread(target=self.load, name="cellula-binding", daemon=True)
            self.thread.start()
            atexit.register(stop_all)
        return None

    def begin(self) -> None:
        """The first call of a process: what is compiled is loaded, the rest is left for later."""
        self.mode = os.environ.get("CELLULA_BINDING", "").strip().lower() or "auto"
        if self.mode not in MODES:
            raise UsageError(f"CELLULA_BINDING is {self.mode!r}; write one of {', '.join(MODES)}")
        self.since = time.monotonic()
        if self.mode == "off":
            self.problem = "CELLULA_BINDING is off"
        elif self.mode == "now":
            self.load()
            if self.problem:
                warnings.warn(f"small calls go the long way: {self.problem}", RuntimeWarning, stacklevel=8)
        else:
            try:
                if is_compiled(source(), compiler()):
                    self.load()
            except (CompilerError, OSError) as error:
                self.problem = str(error)

    def load(self) -> None:
        """Compile it, unless that was done before, and load it."""
        try:
            # What is registered twice ends the process.
            if not torch._C._jit_get_schemas_for_operator("cellula_binding::run"):
                load_library(source(), compiler())
            self.run = torch.ops.cellula_binding.run.default
        except (CompilerError, OSError, AttributeError) as error:
            self.problem = str(error)


def source() -> str:
    """The text; its first line tells versions of torch apart."""
    return f"/* torch {torch.__version__} {torch.version.git_version} */\n{SOURCE.read_text(encoding='utf-8')}"


@cache
def compiler() -> Compiler:
    """The C++ compiler with what torch's headers need.

    Raises:
        NoCompilerError: there is none.
        CompilerError: torch is installed without its headers.
    """
    folder = Path(torch.__file__).parent
    headers, libraries = folder / "include", folder / "lib"
    if os.name != "posix":
        raise CompilerError("the binding is made for Linux and macOS")
    if not (headers / "torch" / "library.h").is_file():
        raise CompilerError(f"this torch came without its C++ headers: {headers}")
    found = find_compiler(CPP)
    flags = ("-std=c++20", "-O1", "-w", "-fPIC", "-shared", "-pthread", f"-I{headers}")
    flags += (f"-I{headers / 'torch' / 'csrc' / 'api' / 'include'}", f"-L{libraries}", "-lc10", "-ltorch_cpu")
    flags += (f"-D_GLIBCXX_USE_CXX11_ABI={int(torch.compiled_with_cxx11_abi())}",)
    nice = shutil.which("nice")
    command = ((nice, "-n", "10") if nice else ()) + (*found.command, "-x", "c++")
    return replace(found, command=command, flags=flags, timeout=TIMEOUT)


_binding = Binding()


def run_operator() -> RunOperator | None:
    """The operator that runs small calls; None where it is not there, or not yet.

    Raises:
        UsageError: `CELLULA_BINDING` is none of `auto`, `now` and `off`.
    """
    return _binding.run or _binding.seek()


def prepare_binding() -> str:
    """Make the binding now, whatever `CELLULA_BINDING` says: half a minute, once for a user and a version of torch.

    Returns:
        Nothing, or why it cannot be had; then small calls go the long way, to the same results.
    """
    binding = _binding
    if binding.run is None:
        binding.mode, binding.problem = "now", ""
        if binding.thread is not None:
            binding.thread.join()
        else:
            binding.load()
    return binding.problem


def _forked() -> None:
    """A thread of the parent's does not exist in a child."""
    if _binding.run is None and _binding.thread is not None:
        _binding.problem = "the process was forked while the binding was compiled"


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forked)
