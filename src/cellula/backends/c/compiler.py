"""The compilers of the machine: where they are, what they can do, and how to get one."""

from __future__ import annotations

import contextlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
from dataclasses import dataclass
from functools import lru_cache

from cellula.backends.c.process import start, stop
from cellula.errors import CellulaError, UsageError

__all__ = [
    "CPP", "C", "Compiler", "CompilerError", "Language", "NoCompilerError", "find_compiler", "flags", "processor",
]  # fmt: skip

FLAGS = "-std=gnu11 -O3 -ffp-contract=fast -fno-math-errno -fno-trapping-math -fPIC -shared -pthread -lm".split()
# How to ask for all instructions of this processor; some compilers for ARM know only the second.
NATIVE = (("-march=native",), ("-mcpu=native",), ())
# In seconds.
PROBE_TIMEOUT = 30.0

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


class CompilerError(CellulaError):
    """The C compiler refused a source, took too long, or made something that cannot be loaded."""


class NoCompilerError(CompilerError):
    """There is no C compiler; the message says what was tried and how to install one."""


@dataclass(frozen=True)
class Language:
    """What is compiled: its name, the variable that names a compiler, and what compilers are called."""

    name: str
    variable: str
    programs: tuple[str, ...]


C = Language("C", "CC", ("cc", "gcc", "clang"))
CPP = Language("C++", "CXX", ("c++", "g++", "clang++"))


@dataclass(frozen=True)
class Compiler:
    """A compiler of this machine.

    Args:
        command: how it is called: the program and the arguments that always go with it.
        version: what it prints for `--version`.
        target: the machine it compiles for, such as `x86_64-linux-gnu`.
        flags: what it is told; None: what kernels need, see `flags`.
        timeout: seconds after which it is stopped; None: two minutes.
    """

    command: tuple[str, ...]
    version: str
    target: str
    flags: tuple[str, ...] | None = None
    timeout: float | None = None


def find_compiler(language: Language = C) -> Compiler:
    """The compiler of this machine: for C `$CC`, which may hold arguments, or else cc, gcc or clang on the PATH.

    Args:
        language: `C` or `CPP`.

    Returns:
        The compiler; it is looked for once in a process, and again when `CC` or `PATH` has changed.

    Raises:
        NoCompilerError: there is none, or the one that the variable names does not run.
        UsageError: the variable has a quotation mark without its partner.

    Example:
        >>> find_compiler().target == find_compiler().target
        True
    """
    return _search(language, os.environ.get(language.variable, ""), os.environ.get("PATH", os.defpath))


@lru_cache(maxsize=8)
def _search(language: Language, chosen: str, path: str) -> Compiler:
    variable = language.variable
    candidates = [_words(variable, chosen)] if chosen.strip() else [(name,) for name in language.programs]
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
    where = f"the variable {variable}" if chosen.strip() else "PATH"
    raise NoCompilerError(
        f"no {language.name} compiler was found; tried from {where}: {', '.join(tried)}\n"
        f"  to install one: {_how_to_install()}\n"
        f"  to use one that is elsewhere: set the variable {variable} to its path\n"
        "  or pass backend='reference', which needs none"
    )


def _words(variable: str, text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text, posix=os.name == "posix"))
    except ValueError as error:
        raise UsageError(f"the variable {variable} cannot be read: {error} in {text!r}") from error


def _ask(*command: str, given: str = "") -> str | None:
    """What a command prints, or nothing where it fails."""
    try:
        child = start(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True
        )
    except OSError:
        return None
    try:
        said, _ = child.communicate(given, timeout=PROBE_TIMEOUT)
    except subprocess.TimeoutExpired:
        return None
    finally:
        if child.returncode is None:
            stop(child)
    return None if child.returncode else said


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
    if compiler.flags is not None:
        return compiler.flags
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
