"""Machine code on demand, and torch's own threads to run it."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, lru_cache
from pathlib import Path

import torch

from cellula.backends.c.library import load_library
from cellula.backends.c.render import Source, render
from cellula.backends.c.spelling import NATIVE
from cellula.graph.graph import Graph
from cellula.plan.kernel import Kernel, make_kernel

__all__ = ["CompiledKernel", "available_threads", "compiled", "home", "thread_functions"]

_lock = threading.Lock()
_home = os.getpid()


def _renew_lock() -> None:
    """A child may have been forked while another thread held the lock."""
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


@cache
def thread_functions() -> tuple[int, int, int]:
    """The addresses of the functions by which torch itself runs on several threads; zeros where they are not found."""
    folder = Path(torch.__file__).parent / "lib"
    for path in sorted(folder.glob("libgomp*.so*")):
        try:
            # Loaded already by torch: this only looks it up.
            library = ctypes.CDLL(str(path))
            names = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")
            found = [ctypes.cast(getattr(library, name), ctypes.c_void_p).value or 0 for name in names]
        except (OSError, AttributeError):
            continue
        return found[0], found[1], found[2]
    return 0, 0, 0


def home() -> int:
    """The number of the process in which torch's threads run."""
    return _home


def available_threads() -> tuple[int, int, int, int]:
    """Thread functions, and how many threads may run. After a fork torch's threads are gone: then one must do."""
    if os.getpid() != _home:
        return 0, 0, 0, 1
    return *thread_functions(), torch.get_num_threads()


@dataclass(frozen=True)
class CompiledKernel:
    """A kernel and its machine code.

    Args:
        kernel: what it computes.
        source: its text and the order of its arguments.
        forward, backward, products: the functions.
    """

    kernel: Kernel
    source: Source
    forward: Callable[..., int]
    backward: Callable[..., int] | None
    products: Callable[..., None]


@lru_cache(maxsize=64)
def compiled(
    graph: Graph, training: bool, backward: bool, record: tuple[str, ...], double: bool, blocks: bool
) -> CompiledKernel:
    """The machine code of a cell, compiled when it is first asked for.

    Raises:
        CompilerError: there is no compiler, or it failed.
    """
    with _lock:
        kernel = make_kernel(graph, NATIVE, training=training, backward=backward, record=record, blocks=blocks)
        source = render(kernel)
        library = load_library(source.of(double))
        functions = []
        for name in ("forward", "backward") if backward else ("forward",):
            function = getattr(library, name)
            function.argtypes, function.restype = (ctypes.c_void_p,) * 3, ctypes.c_int
            functions.append(function)
        products = library.products
        products.argtypes = (ctypes.c_void_p, ctypes.c_int64, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
        products.restype = None
        return CompiledKernel(kernel, source, functions[0], functions[1] if backward else None, products)
