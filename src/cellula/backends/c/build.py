"""C SOURCE -> A FILE: the compiler is run, and ended where it does not end by itself."""

from __future__ import annotations

import contextlib
import errno
import os
import shlex
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

from cellula.backends.c.cache import BUILD_PREFIX, SUFFIX, entry_name
from cellula.backends.c.compiler import Compiler, CompilerError, flags
from cellula.backends.c.process import start, stop

__all__ = ["COMPILE_TIMEOUT", "build", "stop_all"]

# In seconds.
COMPILE_TIMEOUT = 120.0
# How much of a compiler's message is shown.
LAST_LINES = 20

_running: set[subprocess.Popen[str]] = set()


def build(source: str, key: str, compiler: Compiler, folder: Path) -> Path:
    """Compile into a folder, where the library appears whole or not at all; a source that fails is kept there."""
    work = Path(tempfile.mkdtemp(prefix=BUILD_PREFIX, dir=folder))
    try:
        text, made = work / "kernel.c", work / f"kernel{SUFFIX}"
        text.write_text(source, encoding="utf-8")
        command = (*compiler.command, str(text), "-o", str(made), *flags(compiler))
        said = _compile(command, compiler.timeout or COMPILE_TIMEOUT)
        if said is None and made.is_file():
            with made.open("rb+") as file:
                os.fsync(file.fileno())
            path = folder / entry_name(key, made)
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


def _compile(command: Sequence[str], timeout: float) -> str | None:
    """Run the compiler; what it said last, if it failed. Neither it nor what it started outlives the call."""
    try:
        # A group of its own, since a compiler starts others, which have to end with it.
        child = start(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, start_new_session=True
        )
    except OSError as error:
        return f"it cannot be started: {error}"
    _running.add(child)
    try:
        said, _ = child.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        return f"it took longer than {timeout:g} seconds and was stopped"
    finally:
        _running.discard(child)
        if child.returncode is None:
            stop(child)
    return (
        "\n".join([*said.splitlines()[-LAST_LINES:], f"(exit code {child.returncode})"]) if child.returncode else None
    )


def stop_all() -> None:
    """End every compiler that another thread waits for; it is the end of the program."""
    for child in tuple(_running):
        with contextlib.suppress(OSError):
            if hasattr(os, "killpg"):
                os.killpg(child.pid, signal.SIGKILL)
            else:
                child.kill()


if hasattr(os, "register_at_fork"):
    # What a parent compiles is no affair of its children.
    os.register_at_fork(after_in_child=_running.clear)
