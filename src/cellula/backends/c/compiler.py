"""C SOURCE -> A LOADED LIBRARY: compiled once by the compiler of the machine, and kept for the user.

The libraries stand in the folder `kernels` of the cache, each under `<key>-<sha256 of the file><suffix>`. The key
covers all that the machine code depends on; the second half tells a damaged file from a whole one before it is
loaded. An entry is one file that appears by one rename, so no reader ever sees half of it, and two processes that
compile the same source by accident do no harm.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import hashlib
import math
import os
import platform
import shlex
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import IO

from cellula.errors import CellulaError, UsageError

try:
    import fcntl
except ImportError:
    # Windows has no flock; there two processes may compile the same source, and one result wins.
    fcntl = None

__all__ = [
    "Compiler",
    "CompilerError",
    "NoCompilerError",
    "cache_folder",
    "clear_cache",
    "find_compiler",
    "flags",
    "load_library",
]

# Part of every key: raise it when the way in which libraries are built or kept changes.
CACHE_FORMAT = 1
SUFFIX = ".dll" if sys.platform == "win32" else ".so"
FLAGS = "-std=gnu11 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared -pthread -lm".split()
# How to ask for all instructions of this processor; some compilers for ARM know only the second.
NATIVE = (("-march=native",), ("-mcpu=native",), ())
# What else a compiler reads from the environment.
VARIABLES = ("CPATH", "C_INCLUDE_PATH", "LIBRARY_PATH", "COMPILER_PATH", "GCC_EXEC_PREFIX", "SDKROOT")

# In seconds.
COMPILE_TIMEOUT = 120.0
# A process that holds a lock for longer than a compiler may take is not coming back.
LOCK_TIMEOUT = 130.0
PROBE_TIMEOUT = 30.0
# Between asking a compiler to end and making it.
STOP_TIMEOUT = 2.0
HOUR, DAY = 3600.0, 86400.0
UNUSED_AFTER = 90 * DAY
# How much of a compiler's message is shown.
LAST_LINES = 20
# How many libraries the cache holds at most; one has some 100 kB.
MOST_ENTRIES = 500
# A folder in which a library is being compiled; a kill leaves it behind.
BUILD_PREFIX = "build-"

# The name of a system (of Linux: of the distribution, or of one that it is like) -> how to install a compiler.
INSTALL = {
    "debian": "sudo apt install gcc libc6-dev",
    "ubuntu": "sudo apt install gcc libc6-dev",
    "fedora": "sudo dnf install gcc",
    "rhel": "sudo dnf install gcc",
    "suse": "sudo zypper install gcc",
    "arch": "sudo pacman -S gcc",
    "alpine": "sudo apk add gcc musl-dev",
    "darwin": "xcode-select --install (or: brew install gcc)",
    "windows": "winget install BrechtSanders.WinLibs.POSIX.UCRT (gcc), or install LLVM (clang)",
}
INSTALL_ELSEWHERE = "install gcc or clang with the package manager of the system"

# The lines of /proc/cpuinfo that say what a processor can do; the others count cores or change with the clock.
PROCESSOR_LINES = frozenset(
    "vendor_id|cpu family|model|model name|stepping|flags|Features|CPU implementer|CPU architecture|CPU variant|"
    "CPU part|CPU revision|isa|uarch|cpu|cpu model|features|machine".split("|")
)

_libraries: dict[str, ctypes.CDLL] = {}
_busy: dict[str, threading.Lock] = {}
_warned: set[str] = set()

if hasattr(os, "register_at_fork"):
    # A thread that held a lock does not exist in the child, where nobody would ever let it go.
    os.register_at_fork(after_in_child=_busy.clear)


class CompilerError(CellulaError):
    """The C compiler refused a source, took too long, or made something that cannot be loaded."""


class NoCompilerError(CompilerError):
    """There is no C compiler; the message says what was tried and how to install one."""


@dataclass(frozen=True)
class Compiler:
    """A C compiler of this machine.

    Args:
        command: how it is called: the program and the arguments that always go with it.
        version: what it prints for `--version`.
        target: the machine it compiles for, such as `x86_64-linux-gnu`.
    """

    command: tuple[str, ...]
    version: str
    target: str


def find_compiler() -> Compiler:
    """The C compiler of this machine: `$CC`, which may hold arguments, or else cc, gcc or clang on the PATH.

    Returns:
        The compiler; it is looked for once in a process, and again when `CC` or `PATH` has changed.

    Raises:
        NoCompilerError: there is none, or the one that `CC` names does not run.
        UsageError: `CC` has a quotation mark without its partner.

    Example:
        >>> find_compiler().target == find_compiler().target
        True
    """
    return _search(os.environ.get("CC", ""), os.environ.get("PATH", os.defpath))


@lru_cache(maxsize=8)
def _search(chosen: str, path: str) -> Compiler:
    candidates = [_words("CC", chosen)] if chosen.strip() else [("cc",), ("gcc",), ("clang",)]
    tried = []
    for name, *arguments in candidates:
        program = shutil.which(name, path=path)
        if program is None:
            tried.append(f"{name} (not found)")
            continue
        command = (os.path.abspath(program), *arguments)
        version, target = _ask(*command, "--version"), _ask(*command, "-dumpmachine")
        if version is not None:
            return Compiler(command, version.strip(), (target or "").strip())
        tried.append(f"{name} ({command[0]} --version fails)")
    where = "the variable CC" if chosen.strip() else "PATH"
    raise NoCompilerError(
        f"no C compiler was found; tried from {where}: {', '.join(tried)}\n"
        f"  to install one: {_how_to_install()}\n"
        "  to use one that is elsewhere: set the variable CC to its path\n"
        "  or pass backend='reference', which needs none"
    )


def _words(variable: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text, posix=os.name == "posix"))
    except ValueError as error:
        raise UsageError(f"the variable {variable} cannot be read: {error} in {text!r}") from error


def _ask(*command: str, given: str = "") -> str | None:
    """What a command prints, or nothing where it fails."""
    environment = {**os.environ, "LC_ALL": "C"}
    try:
        answer = subprocess.run(
            command, input=given, capture_output=True, text=True, errors="replace", env=environment,
            timeout=PROBE_TIMEOUT, check=True,
        )  # fmt: skip
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout


def _how_to_install() -> str:
    system = platform.system().lower()
    names = [system]
    if system == "linux":
        with contextlib.suppress(OSError):
            release = platform.freedesktop_os_release()
            names = [release.get("ID", ""), *release.get("ID_LIKE", "").split()]
    return next((INSTALL[name] for name in names if name in INSTALL), INSTALL_ELSEWHERE)


def flags(compiler: Compiler) -> tuple[str, ...]:
    """What a compiler is told: fast code for this very processor, with `CELLULA_CFLAGS` at the end.

    Args:
        compiler: which one; whether it knows `-march=native` is tried once in a process.

    Raises:
        UsageError: `CELLULA_CFLAGS` has a quotation mark without its partner.

    Example:
        >>> flags(find_compiler())[:2]
        ('-std=gnu11', '-O3')
    """
    extra = _words("CELLULA_CFLAGS", os.environ.get("CELLULA_CFLAGS", ""))
    return (*FLAGS, *_native(compiler), *extra)


@lru_cache(maxsize=8)
def _native(compiler: Compiler) -> tuple[str, ...]:
    trial = ("-fsyntax-only", "-x", "c", "-")
    return next((n for n in NATIVE if _ask(*compiler.command, *n, *trial, given="int x;\n") is not None), ())


@lru_cache(maxsize=1)
def processor() -> str:
    """The model of the processor and all that it can do, as the system tells it."""
    if sys.platform == "darwin":
        return _ask("sysctl", "machdep.cpu.brand_string", "hw.cpufamily", "hw.optional") or platform.processor()
    lines = set()
    with contextlib.suppress(OSError), open("/proc/cpuinfo", encoding="utf-8", errors="replace") as file:
        for line in file:
            name = line.partition(":")[0].strip()
            if name in PROCESSOR_LINES:
                lines.add(" ".join(line.split()))
            # All cores of a PC can do the same, and a list of hundreds is slow to get; those of ARM may differ.
            if not name and any(known.startswith("flags") for known in lines):
                break
    return "\n".join(sorted(lines)) or platform.processor()


def library_key(source: str, compiler: Compiler) -> str:
    """The first half of the name under which a library is kept: it differs when the machine code may."""
    ingredients = (
        CACHE_FORMAT, source, flags(compiler), compiler.command, compiler.version, compiler.target, processor(),
        platform.system(), platform.machine(), platform.libc_ver(), [os.environ.get(name) for name in VARIABLES],
    )  # fmt: skip
    return hashlib.sha256(repr(ingredients).encode("utf-8", "surrogatepass")).hexdigest()[:32]


def cache_folder() -> Path:
    """The folder in which Cellula keeps what it can make again: `CELLULA_CACHE_DIR`, or the user's own cache.

    Returns:
        The path; the folder need not exist. Without a variable: `~/.cache/cellula` on Linux (`XDG_CACHE_HOME` is
        followed), `~/Library/Caches/cellula` on macOS, `%LOCALAPPDATA%\\cellula\\Cache` on Windows.

    Example:
        >>> cache_folder().is_absolute()
        True
    """
    if chosen := os.environ.get("CELLULA_CACHE_DIR"):
        return Path(os.path.expanduser(chosen)).absolute()
    if sys.platform == "win32":
        folder = Path(os.environ.get("LOCALAPPDATA") or os.path.expanduser("~/AppData/Local")) / "cellula" / "Cache"
    elif sys.platform == "darwin":
        folder = Path(os.path.expanduser("~/Library/Caches/cellula"))
    else:
        # The XDG rules say that a relative path counts as none.
        base = os.environ.get("XDG_CACHE_HOME", "")
        folder = Path(base if os.path.isabs(base) else os.path.expanduser("~/.cache")) / "cellula"
    # A user without a home, as in some containers, still has one folder of his own.
    user = os.getuid() if hasattr(os, "getuid") else "user"
    return folder if folder.is_absolute() else Path(tempfile.gettempdir()) / f"cellula-{user}"


def clear_cache() -> int:
    """Forget all compiled libraries: those on the disk, and which of them this process has loaded.

    Returns:
        How many files were removed. A library that a process has loaded goes on working.
    """
    _libraries.clear()
    folder = _kernels()
    return _sweep(folder, unused_after=-math.inf) if folder.is_dir() and _mistrust(folder) is None else 0


def load_library(source: str) -> ctypes.CDLL:
    """Compile C source, or take what was compiled from it before, and load it.

    Args:
        source: the whole text; it may include nothing but headers of the system, since the key covers only the text.

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
    compiler = find_compiler()
    key = library_key(source, compiler)
    with _busy.setdefault(key, threading.Lock()):
        library = _libraries.get(key)
        if library is None:
            library = _from_cache(source, key, compiler) or _from_nowhere(source, key, compiler)
            _libraries[key] = library
        return library


def _kernels() -> Path:
    return cache_folder() / "kernels"


def _from_cache(source: str, key: str, compiler: Compiler) -> ctypes.CDLL | None:
    """The library by way of the cache, or nothing, with a warning, where the cache cannot be used."""
    folder = _kernels()
    try:
        reason = _mistrust(folder)
        if reason is None:
            return _find(folder, key) or _add(source, key, compiler, folder)
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
    with _locked(folder / f"lock-{key[:2]}"):
        library = _find(folder, key)
        if library is None:
            library = ctypes.CDLL(str(_build(source, key, compiler, folder)))
            _sweep(folder)
        return library


def _from_nowhere(source: str, key: str, compiler: Compiler) -> ctypes.CDLL:
    """The library by way of a folder that is gone as soon as it is loaded, so that nobody needs to clean up."""
    folder = None
    try:
        folder = Path(tempfile.mkdtemp(prefix="cellula-"))
        return ctypes.CDLL(str(_build(source, key, compiler, folder)))
    except OSError as error:
        raise CompilerError(
            f"what {compiler.command[0]} makes cannot be written or loaded: {error}\n"
            f"  tried {_kernels()} and {tempfile.gettempdir()}: one of them must have space and allow programs to run\n"
            "  or pass backend='reference'"
        ) from error
    finally:
        # tempfile.TemporaryDirectory would be removed by every process that is forked meanwhile, when that one exits.
        if folder is not None and not any(folder.glob("*.c")):
            shutil.rmtree(folder, ignore_errors=True)


def _mistrust(folder: Path) -> str | None:
    """Why what stands in a folder must not be loaded, if so; a missing folder is made."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    facts = folder.stat()
    # Root can do as it likes anyway, and an image may come with a cache that root has filled.
    if hasattr(os, "geteuid") and facts.st_uid not in (os.geteuid(), 0):
        return f"it belongs to another user (number {facts.st_uid})"
    if os.name == "posix" and facts.st_mode & 0o022:
        return f"others may write to it (mode {facts.st_mode & 0o777:o}; 700 is right)"
    return None


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Let one process at a time pass, as far as the file system can; never wait for ever."""
    with path.open("ab") as file:
        held = _take(file)
        try:
            yield
        finally:
            # Closing is not enough: a process that was forked meanwhile has the file open too.
            if fcntl is not None and held:
                fcntl.flock(file, fcntl.LOCK_UN)


def _take(file: IO[bytes]) -> bool:
    """Whether the lock was got; without it one compiles all the same, and the rename keeps the cache whole."""
    end = time.monotonic() + LOCK_TIMEOUT
    while fcntl is not None and time.monotonic() < end:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.02)
        except OSError:
            # Some network file systems have no locks.
            return False
        else:
            return True
    return False


def _find(folder: Path, key: str) -> ctypes.CDLL | None:
    """The library of a key, from the disk; an entry that is damaged is removed, never loaded."""
    for path in folder.glob(f"{key}-*{SUFFIX}"):
        with contextlib.suppress(OSError):
            if path.name == _entry_name(key, path):
                library = ctypes.CDLL(str(path))
                _touch(path)
                return library
        with contextlib.suppress(OSError):
            path.unlink()
    return None


def _entry_name(key: str, path: Path) -> str:
    return f"{key}-{hashlib.sha256(path.read_bytes()).hexdigest()}{SUFFIX}"


def _touch(path: Path) -> None:
    """Note that an entry was used, once a day at most."""
    with contextlib.suppress(OSError):
        if time.time() - path.stat().st_mtime > DAY:
            os.utime(path)


def _build(source: str, key: str, compiler: Compiler, folder: Path) -> Path:
    """Compile into a folder, where the library appears whole or not at all; a source that fails is kept there."""
    work = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=folder))
    try:
        text, made = work / "kernel.c", work / f"kernel{SUFFIX}"
        text.write_text(source, encoding="utf-8")
        command = (*compiler.command, str(text), "-o", str(made), *flags(compiler))
        said = _compile(command)
        if said is None and made.is_file():
            with made.open("rb+") as file:
                os.fsync(file.fileno())
            path = folder / _entry_name(key, made)
            os.replace(made, path)
            return path
        said = said or "it made no library"
        if os.strerror(errno.ENOSPC) in said:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(folder))
        kept = folder / f"{key}.c"
        os.replace(text, kept)
        shown = f"{shlex.join(command)}\n{said}".replace(str(text), str(kept)).replace(str(made), made.name)
        raise CompilerError(f"the C compiler failed; the source is kept in {kept}\n{shown}")
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _compile(command: Sequence[str]) -> str | None:
    """Run the compiler; what it said last, if it failed. Neither it nor what it started outlives the call."""
    try:
        # A group of its own, since a compiler starts others, which have to end with it.
        child = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, encoding="utf-8",
            errors="replace", env={**os.environ, "LC_ALL": "C"}, start_new_session=True,
        )  # fmt: skip
    except OSError as error:
        return f"it cannot be started: {error}"
    try:
        said, _ = child.communicate(timeout=COMPILE_TIMEOUT)
    except subprocess.TimeoutExpired:
        return f"it took longer than {COMPILE_TIMEOUT:g} seconds and was stopped"
    finally:
        if child.returncode is None:
            _stop(child)
    return (
        "\n".join([*said.splitlines()[-LAST_LINES:], f"(exit code {child.returncode})"]) if child.returncode else None
    )


def _stop(child: subprocess.Popen[str]) -> None:
    """End the compiler: at first so that it can remove its temporary files, and if that does not help, at once."""
    for name in ("SIGTERM", "SIGKILL"):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, getattr(signal, name))
            else:
                child.kill()
        with contextlib.suppress(subprocess.TimeoutExpired):
            child.communicate(timeout=STOP_TIMEOUT)
            return


def _sweep(folder: Path, unused_after: float = UNUSED_AFTER) -> int:
    """Remove what was not used for long, the oldest beyond a number, and what killed processes left behind."""
    now, entries, removed = time.time(), [], 0
    for path in folder.iterdir():
        with contextlib.suppress(OSError):
            age = now - path.stat().st_mtime
            if path.suffix in (SUFFIX, ".c"):
                entries.append((age, path))
            elif path.name.startswith(BUILD_PREFIX) and age > HOUR:
                shutil.rmtree(path, ignore_errors=True)
    for number, (age, path) in enumerate(sorted(entries)):
        if age > unused_after or number >= MOST_ENTRIES:
            with contextlib.suppress(OSError):
                path.unlink()
                removed += 1
    return removed
