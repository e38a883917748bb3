"""C SOURCE -> A LOADED LIBRARY: compiled once by the compiler of the machine, and kept for the user."""

from __future__ import annotations

import ctypes
import hashlib
import math
import os
import platform
import shutil
import tempfile
import threading
import warnings
from pathlib import Path

from cellula.backends.c.build import build
from cellula.backends.c.cache import SUFFIX, find_entry, kernels_folder, locked, mistrust, sweep
from cellula.backends.c.compiler import Compiler, CompilerError, find_compiler, flags, processor

__all__ = ["clear_cache", "is_compiled", "library_key", "load_library"]

# Part of every key: raise it when the way in which libraries are built or kept changes.
CACHE_FORMAT = 1
# What else a compiler reads from the environment.
VARIABLES = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "SDKROOT")

_libraries: dict[str, ctypes.CDLL] = {}
_busy: dict[str, threading.Lock] = {}
_warned: set[str] = set()

if hasattr(os, "register_at_fork"):
    # A thread that held a lock does not exist in the child, where nobody would ever let it go.
    os.register_at_fork(after_in_child=_busy.clear)


def load_library(source: str, compiler: Compiler | None = None) -> ctypes.CDLL:
    """Compile source, or take what was compiled from it before, and load it.

    Args:
        source: the whole text; it may include nothing but headers of the system, since the key covers only the text.
        compiler: which one; None: the machine's C compiler.

    Returns:
        The library; its functions are attributes. The same object for the same source within a process.

    Raises:
        NoCompilerError: there is no C compiler.
        CompilerError: the compiler refused the source or took longer than 120 seconds, or the result does not load.
        UsageError: `CC` or `CELLULA_CFLAGS` cannot be read.

    Example:
        >>> load_library("int add(int a, int b) { return a + b; }").add(2, 3)
        5
    """
    compiler = compiler or find_compiler()
    key = library_key(source, compiler)
    with _busy.setdefault(key, threading.Lock()):
        library = _libraries.get(key)
        if library is None:
            library = _from_cache(source, key, compiler) or _from_nowhere(source, key, compiler)
            _libraries[key] = library
        return library


def clear_cache() -> int:
    """Forget all compiled libraries: those on the disk, and which of them this process has loaded.

    Returns:
        How many files were removed. A library that a process has loaded goes on working.
    """
    _libraries.clear()
    folder = kernels_folder()
    return sweep(folder, unused_after=-math.inf) if folder.is_dir() and mistrust(folder) is None else 0


def library_key(source: str, compiler: Compiler) -> str:
    """The first half of the name under which a library is kept: it differs when the machine code may."""
    ingredients = (
        CACHE_FORMAT, source, flags(compiler), compiler.command, compiler.version, compiler.target, processor(),
        platform.system(), platform.machine(), platform.libc_ver(), [os.environ.get(name) for name in VARIABLES],
    )  # fmt: skip
    return hashlib.sha256(repr(ingredients).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def _from_cache(source: str, key: str, compiler: Compiler) -> ctypes.CDLL | None:
    """The library by way of the cache, or nothing, with a warning, where the cache cannot be used."""
    folder = kernels_folder()
    try:
        reason = mistrust(folder)
        if reason is None:
            return find_entry(folder, key) or _add(source, key, compiler, folder)
    except OSError as error:
        reason = error.strerror or str(error)
    if str(folder) not in _warned:
        _warned.add(str(folder))
        warnings.warn(
            f"the cache {folder} cannot be used: {reason}; every process compiles anew. "
            "Set CELLULA_CACHE_DIR to a folder to which only you may write",
            RuntimeWarning,
            stacklevel=3,
        )
    return None


def _add(source: str, key: str, compiler: Compiler, folder: Path) -> ctypes.CDLL:
    """Compile into the cache, unless another process does so first."""
    with locked(folder / f"lock-{key[:2]}"):
        library = find_entry(folder, key)
        if library is None:
            library = ctypes.CDLL(str(build(source, key, compiler, folder)))
            sweep(folder)
        return library


def _from_nowhere(source: str, key: str, compiler: Compiler) -> ctypes.CDLL:
    """The library by way of a folder that is gone as soon as it is loaded, so that nobody needs to clean up."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="cellula-"))
        return ctypes.CDLL(str(build(source, key, compiler, folder)))
    except OSError as error:
        raise CompilerError(
            f"what {compiler.command[0]} makes cannot be written or loaded: {error}\n"
            f"  tried {kernels_folder()} and {tempfile.gettempdir()}: one of them must have space and allow programs "
            "to run\n"
            "  or pass backend='reference'"
        ) from error
    finally:
        # tempfile.TemporaryDirectory would be removed by every process that is forked meanwhile, when that one exits.
        if folder is not None and not any(folder.glob("*.c")):
            shutil.rmtree(folder, ignore_errors=True)


def is_compiled(source: str, compiler: Compiler) -> bool:
    """Whether the cache holds what was compiled from a source."""
    return any(kernels_folder().glob(f"{library_key(source, compiler)}-*{SUFFIX}"))
