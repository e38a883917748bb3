"""The compiler of the machine and the cache: every promise is provoked, with real compilers and real processes."""

import contextlib
import ctypes
import errno
import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
import warnings
from dataclasses import replace
from pathlib import Path

import pytest

import cellula
from cellula.backends.c import build, compiler, process
from cellula.backends.c import cache as cache_module
from cellula.backends.c import library as library_module
from cellula.backends.c.compiler import CompilerError, NoCompilerError
from cellula.backends.c.library import load_library
from cellula.errors import UsageError

SOURCE = "int answer(void) { return ANSWER; }\n"
FIXED = SOURCE.replace("ANSWER", "42")
DAY = 86400.0
NOBODY = 65534

# Says when it is ready, waits for a line, and prints what the library answers.
WORKER = f"""
import sys
from cellula.backends.c.library import load_library
print("ready", flush=True)
sys.stdin.readline()
print(load_library({FIXED!r}).answer())
assert "torch" not in sys.modules
"""


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty cache; its folder of libraries."""
    if not any(shutil.which(name) for name in ("cc", "gcc", "clang")):
        pytest.skip("this machine has no C compiler")
    monkeypatch.setenv("CELLULA_CACHE_DIR", str(tmp_path / "cache"))
    temporary = tmp_path / "temporary"
    temporary.mkdir()
    monkeypatch.setenv("TMPDIR", str(temporary))
    monkeypatch.setattr(tempfile, "tempdir", str(temporary))
    for name in ("CC", "CELLULA_CFLAGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(library_module, "_libraries", {})
    monkeypatch.setattr(library_module, "_warned", set())
    return tmp_path / "cache" / "kernels"


@pytest.fixture
def wrapper(cache, tmp_path, monkeypatch):
    """Makes `$CC` a script that notes every compilation, runs some lines of shell first, and then the compiler."""
    real = next(found for name in ("cc", "gcc", "clang") if (found := shutil.which(name)))

    def make(before: str = "") -> Path:
        script, log = tmp_path / "counted-cc", tmp_path / "compilations"
        log.touch()
        script.write_text(
            f"#!/bin/sh\ncase \"$*\" in *' -o '*)\necho x >> '{log}'\n{before}\n;; esac\nexec {real} \"$@\"\n"
        )
        script.chmod(0o755)
        monkeypatch.setenv("CC", str(script))
        return log

    return make


def compilations(log: Path) -> int:
    return len(log.read_text().splitlines())


def start(script: str = WORKER, **options) -> subprocess.Popen:
    """A new process with this package on its path."""
    environment = {**os.environ, "PYTHONPATH": str(Path(cellula.__file__).parents[1])}
    pipe = subprocess.PIPE
    return subprocess.Popen(
        [sys.executable, "-c", script], stdin=pipe, stdout=pipe, stderr=pipe, text=True, env=environment, **options
    )


def answer(**options) -> str:
    """What a new process gets from the library."""
    out, err = start(**options).communicate("\n", timeout=60)
    assert out.startswith("ready"), err
    return out.removeprefix("ready").strip() + err


def entry(folder: Path) -> Path:
    (found,) = folder.glob(f"*{cache_module.SUFFIX}")
    return found


def litter(folder: Path) -> list[str]:
    """What stands in a cache beside libraries and locks."""
    return [p.name for p in folder.iterdir() if p.suffix != cache_module.SUFFIX and not p.name.startswith("lock-")]


def wait_for(path: Path) -> str:
    """The content of a file that another process writes soon."""
    end = time.monotonic() + 30
    while time.monotonic() < end:
        if path.exists() and path.read_text().endswith("\n"):
            return path.read_text().strip()
        time.sleep(0.01)
    raise AssertionError(f"{path} was not written")


def is_alive(process: int) -> bool:
    """Whether a process still runs; one that has ended and that nobody has waited for does not."""
    status = subprocess.run(["ps", "-o", "stat=", "-p", str(process)], capture_output=True, text=True).stdout
    return bool(status.strip()) and not status.startswith("Z")


# --- compile, keep, load


def test_one_compilation_serves_the_process_and_later_ones(cache, wrapper):
    log = wrapper()
    library = load_library(FIXED)
    assert library.answer() == 42
    assert load_library(FIXED) is library
    assert answer() == "42"
    assert compilations(log) == 1
    assert litter(cache) == []
    assert os.listdir(os.environ["TMPDIR"]) == []
    key, digest = entry(cache).stem.split("-")
    assert key == library_module.library_key(FIXED, compiler.find_compiler())
    assert digest == hashlib.sha256(entry(cache).read_bytes()).hexdigest()
    assert cache.stat().st_mode & 0o777 == 0o700


def test_eight_processes_at_once_compile_once(cache, wrapper):
    log = wrapper("sleep 0.3")
    workers = [start() for _ in range(8)]
    assert [worker.stdout.readline() for worker in workers] == ["ready\n"] * 8
    for worker in workers:
        worker.stdin.write("\n")
        worker.stdin.flush()
    assert [worker.communicate(timeout=60) for worker in workers] == [("42\n", "")] * 8
    assert compilations(log) == 1
    assert litter(cache) == []


def test_eight_threads_at_once_compile_once(cache, wrapper):
    log, found = wrapper("sleep 0.1"), []
    threads = [threading.Thread(target=lambda: found.append(load_library(FIXED))) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(found) == 8
    assert len(set(map(id, found))) == 1
    assert compilations(log) == 1


@pytest.mark.parametrize("support", ["refused", "missing"])
def test_a_file_system_without_locks_is_no_obstacle(cache, monkeypatch, support):
    if support == "missing":
        monkeypatch.setattr(cache_module, "fcntl", None)
    else:

        def refuse(*_):
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(cache_module.fcntl, "flock", refuse)
    assert load_library(FIXED).answer() == 42


def test_a_lock_that_is_never_freed_is_waited_for_a_while_only(cache, monkeypatch):
    cache.mkdir(mode=0o700, parents=True)
    monkeypatch.setattr(cache_module, "LOCK_TIMEOUT", 0.2)
    key = library_module.library_key(FIXED, compiler.find_compiler())
    with (cache / f"lock-{key[:2]}").open("ab") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        began = time.monotonic()
        assert load_library(FIXED).answer() == 42
    assert time.monotonic() - began >= 0.2


# --- damage


def other_library(path: Path) -> bytes:
    """A library that is whole but not the one: it leaves a mark when it is loaded."""
    mark = path.with_name("loaded.mark")
    source = f"""
        #include <stdio.h>
        int answer(void) {{ return 13; }}
        __attribute__((constructor)) static void leave(void) {{ fclose(fopen("{mark}", "w")); }}
    """
    made = path.with_name("other.bin")
    command = [*compiler.find_compiler().command, "-x", "c", "-", "-shared", "-fPIC", "-o", str(made)]
    subprocess.run(command, input=source, text=True, check=True)
    return made.read_bytes()


DAMAGES = {
    "truncated": lambda path: path.read_bytes()[:1000],
    "empty": lambda path: b"",
    "garbage": lambda path: b"garbage" * 1000,
    "longer": lambda path: path.read_bytes() + b"\0",
    "another library": other_library,
}


def test_a_damaged_entry_is_never_loaded_and_heals(cache, wrapper):
    log = wrapper()
    assert answer() == "42"
    for damage in DAMAGES.values():
        path = entry(cache)
        data = damage(path)
        before = compilations(log)
        path.write_bytes(data)
        assert answer() == "42"
        assert compilations(log) == before + 1
        assert not path.with_name("loaded.mark").exists()
        assert entry(cache).stem.split("-")[1] == hashlib.sha256(entry(cache).read_bytes()).hexdigest()
        path.with_name("other.bin").unlink(missing_ok=True)
    before = compilations(log)
    assert answer() == "42"
    assert compilations(log) == before


def test_a_whole_entry_that_does_not_load_is_rebuilt_once(cache, wrapper):
    log = wrapper()
    cache.mkdir(mode=0o700, parents=True)
    key, data = library_module.library_key(FIXED, compiler.find_compiler()), b"no library at all"
    bad = cache / f"{key}-{hashlib.sha256(data).hexdigest()}{cache_module.SUFFIX}"
    bad.write_bytes(data)
    assert load_library(FIXED).answer() == 42
    assert compilations(log) == 1
    assert entry(cache) != bad


def test_a_killed_process_leaves_nothing_that_hinders_the_next(cache, wrapper, tmp_path):
    slow, pid = tmp_path / "slow", tmp_path / "pid"
    log = wrapper(f"if [ -e '{slow}' ]; then echo $$ > '{pid}'; sleep 60; fi")
    slow.touch()
    worker = start()
    worker.stdin.write("\n")
    worker.stdin.flush()
    group = int(wait_for(pid))
    worker.kill()
    worker.communicate(timeout=30)
    slow.unlink()
    began = time.monotonic()
    assert answer() == "42"
    assert time.monotonic() - began < 20, "the lock of the dead process was waited for"
    assert compilations(log) == 2
    os.killpg(group, signal.SIGKILL)
    # What it left is swept by a later compilation, when it is surely nobody's.
    (left,) = litter(cache)
    assert left.startswith("build-")
    os.utime(cache / left, (time.time() - 7200,) * 2)
    load_library(FIXED + "\n")
    assert litter(cache) == []


def test_ctrl_c_ends_the_compiler_and_leaves_no_litter(cache, wrapper, tmp_path):
    pid = tmp_path / "pid"
    wrapper(f"sleep 60 & echo $! > '{pid}'; wait")
    worker = start()
    worker.stdin.write("\n")
    worker.stdin.flush()
    sleeper = int(wait_for(pid))
    assert is_alive(sleeper)
    worker.send_signal(signal.SIGINT)
    _, err = worker.communicate(timeout=30)
    assert "KeyboardInterrupt" in err
    assert not is_alive(sleeper)
    assert litter(cache) == []
    assert os.listdir(os.environ["TMPDIR"]) == []


@pytest.mark.parametrize("manners", ["", "trap '' TERM;"], ids=["polite", "stubborn"])
def test_a_compiler_that_takes_too_long_is_stopped(cache, wrapper, tmp_path, monkeypatch, manners):
    pid = tmp_path / "pid"
    wrapper(f"{manners} sleep 60 & echo $! > '{pid}'; wait")
    monkeypatch.setattr(build, "COMPILE_TIMEOUT", 0.5)
    monkeypatch.setattr(process, "STOP_TIMEOUT", 0.2)
    with pytest.raises(CompilerError, match=r"longer than 0\.5 seconds"):
        load_library(FIXED)
    assert not is_alive(int(wait_for(pid)))
    assert [Path(name).suffix for name in litter(cache)] == [".c"]


# --- fork

FORK = """
    import os, sys, threading, time, warnings
    from pathlib import Path
    from cellula.backends.c.library import load_library
    warnings.simplefilter("ignore")
    found = []
    thread = threading.Thread(target=lambda: found.append(load_library(SOURCE).answer()))
    thread.start()
    while not Path(MARK).exists():
        time.sleep(0.01)
    child = os.fork()
    if child == 0:
        # Leaves as a program does, with all that is to be done at the exit.
        sys.exit(load_library(SOURCE).answer() if IN_CHILD else 42)
    _, status = os.waitpid(child, 0)
    Path(GO).touch()
    thread.join()
    print(found[0], os.waitstatus_to_exitcode(status))
"""


@pytest.mark.parametrize("where", ["cache", "no cache"])
@pytest.mark.parametrize("in_child", [False, True], ids=["exits", "loads"])
def test_a_fork_in_the_middle_of_a_compilation_harms_nobody(cache, wrapper, tmp_path, monkeypatch, where, in_child):
    mark, go = tmp_path / "mark", tmp_path / "go"
    # The first compilation waits until the child has ended, or, where the child needs its result, a moment.
    pause = "sleep 0.3" if in_child else f"while [ ! -e '{go}' ]; do sleep 0.01; done"
    wrapper(f"if [ ! -e '{mark}' ]; then touch '{mark}'; {pause}; fi")
    if where == "no cache":
        (tmp_path / "file").touch()
        monkeypatch.setenv("CELLULA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    names = f"SOURCE, MARK, GO, IN_CHILD = {FIXED!r}, {str(mark)!r}, {str(go)!r}, {in_child}\n"
    out, err = start(names + textwrap.dedent(FORK)).communicate(timeout=60)
    assert (out, err) == ("42 42\n", "")
    assert os.listdir(os.environ["TMPDIR"]) == []


START = """
    import os, subprocess, threading, time
    from cellula.backends.c import process
    real, begun = subprocess._fork_exec, threading.Event()

    def slow(*arguments):
        found = real(*arguments)
        begun.set()
        time.sleep(0.3)
        return found

    subprocess._fork_exec = slow
    said = []
    run = lambda: said.append(process.start(["echo", "42"], stdout=subprocess.PIPE).communicate()[0])
    thread = threading.Thread(target=run)
    thread.start()
    begun.wait()
    child = os.fork()
    if child == 0:
        time.sleep(8)
        os._exit(0)
    thread.join(4)
    print(said)
    os.kill(child, 9)
"""


def test_a_fork_while_a_program_starts_does_not_hold_its_pipes():
    """The forked process would keep them open, and the compilation would last as long as it lives."""
    out, err = start(textwrap.dedent(START)).communicate(timeout=60)
    assert (out, err) == ("['42\\n']\n", "")


# --- folders that cannot be used


def test_without_a_folder_every_process_compiles_and_cleans_up(cache, wrapper, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLULA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    log = wrapper()
    with pytest.warns(RuntimeWarning, match=r"cannot be used: Not a directory.*CELLULA_CACHE_DIR"):
        library = load_library(FIXED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_library(FIXED + "\n").answer() == 42
    assert library.answer() == 42
    assert load_library(FIXED) is library
    assert compilations(log) == 2
    assert os.listdir(os.environ["TMPDIR"]) == []


@contextlib.contextmanager
def read_only(folder: Path):
    """Makes a folder read-only for this process; root, who may write anywhere, is somebody else meanwhile."""
    is_root = os.geteuid() == 0
    folder.chmod(0o555)
    if is_root:
        os.seteuid(NOBODY)
    try:
        yield
    finally:
        if is_root:
            os.seteuid(0)
        folder.chmod(0o755)


@pytest.fixture
def public(cache, monkeypatch):
    """An empty cache that other users can reach too, which they cannot in tmp_path; its folder of libraries."""
    folder = Path(tempfile.mkdtemp(dir="/tmp", prefix="cellula-test-"))
    (folder / "temporary").mkdir()
    (folder / "cache" / "kernels").mkdir(parents=True)
    for path in (folder, *folder.rglob("*")):
        path.chmod(0o755)
    (folder / "temporary").chmod(0o777)
    monkeypatch.setenv("CELLULA_CACHE_DIR", str(folder / "cache"))
    monkeypatch.setenv("TMPDIR", str(folder / "temporary"))
    monkeypatch.setattr(tempfile, "tempdir", str(folder / "temporary"))
    yield folder / "cache" / "kernels"
    shutil.rmtree(folder)


def test_a_read_only_cache_is_read(public):
    load_library(FIXED)
    before = aged(entry(public), 5)
    library_module._libraries.clear()
    with read_only(public), warnings.catch_warnings():
        warnings.simplefilter("error")
        assert load_library(FIXED).answer() == 42
    assert entry(public).stat().st_mtime == before


@pytest.mark.parametrize("content", ["nothing", "a damaged entry"])
def test_a_read_only_cache_without_the_library_is_got_around(public, content):
    if content != "nothing":
        load_library(FIXED)
        path = entry(public)
        path.unlink()
        path.write_bytes(b"garbage")
        library_module._libraries.clear()
    before = sorted(public.iterdir())
    with read_only(public), pytest.warns(RuntimeWarning, match="Permission denied"):
        assert load_library(FIXED).answer() == 42
    assert sorted(public.iterdir()) == before
    assert os.listdir(os.environ["TMPDIR"]) == []


def test_a_folder_to_which_others_may_write_is_not_used(cache):
    load_library(FIXED)
    data = entry(cache).read_bytes()
    cache.chmod(0o777)
    library_module._libraries.clear()
    with pytest.warns(RuntimeWarning, match="others may write to it"):
        assert load_library(FIXED).answer() == 42
    assert entry(cache).read_bytes() == data
    assert library_module.clear_cache() == 0


def test_a_folder_of_another_user_is_not_used(cache, monkeypatch):
    cache.mkdir(mode=0o700, parents=True)
    if os.geteuid() == 0:
        os.chown(cache, 12345, 12345)
    else:
        monkeypatch.setattr(os, "geteuid", lambda: 12345)
    with pytest.warns(RuntimeWarning, match="belongs to another user"):
        assert load_library(FIXED).answer() == 42
    assert list(cache.iterdir()) == []


def test_a_full_disk_under_the_cache_is_got_around(cache, wrapper):
    wrapper("case \"$*\" in *kernels*) echo 'ld: final link failed: No space left on device' >&2; exit 1;; esac")
    with pytest.warns(RuntimeWarning, match="No space left"):
        assert load_library(FIXED).answer() == 42
    assert litter(cache) == []


def test_a_cache_on_a_disk_that_runs_no_programs_is_got_around(cache, monkeypatch):
    def load(path):
        if str(cache) in path:
            raise OSError("failed to map segment from shared object")
        return real(path)

    real = ctypes.CDLL
    monkeypatch.setattr(ctypes, "CDLL", load)
    with pytest.warns(RuntimeWarning, match="failed to map segment"):
        assert load_library(FIXED).answer() == 42


# --- age, number, clearing


def aged(path: Path, days: float) -> float:
    when = time.time() - days * DAY
    os.utime(path, (when, when))
    return path.stat().st_mtime


def test_what_is_unused_for_ninety_days_goes_at_a_later_compilation(cache):
    load_library(FIXED)
    old = entry(cache)
    aged(old, 89)
    load_library(FIXED + " ")
    assert old.exists()
    aged(old, 91)
    load_library(FIXED + "  ")
    assert not old.exists()
    assert len(list(cache.glob(f"*{cache_module.SUFFIX}"))) == 2


def test_use_renews_an_entry_at_most_once_a_day(cache):
    load_library(FIXED)
    path = entry(cache)
    recent = aged(path, 0.5)
    library_module._libraries.clear()
    load_library(FIXED)
    assert path.stat().st_mtime == recent
    aged(path, 60)
    library_module._libraries.clear()
    load_library(FIXED)
    assert time.time() - path.stat().st_mtime < 60


def test_the_oldest_entries_make_room(cache, monkeypatch):
    monkeypatch.setattr(cache_module, "MOST_ENTRIES", 2)
    kept = []
    for days in (3, 2, 0):
        load_library(FIXED + " " * days)
        (new,) = set(cache.glob(f"*{cache_module.SUFFIX}")) - set(kept)
        aged(new, days)
        kept.append(new)
    assert [path.exists() for path in kept] == [False, True, True]


def test_clear_cache_forgets_everything(cache, wrapper):
    log = wrapper()
    library = load_library(FIXED)
    assert library_module.clear_cache() == 1
    assert library_module.clear_cache() == 0
    assert list(cache.glob(f"*{cache_module.SUFFIX}")) == []
    assert library.answer() == 42
    assert load_library(FIXED).answer() == 42
    assert compilations(log) == 2


# --- finding a compiler, telling it what to do


def test_no_compiler_says_what_was_tried_and_what_to_do(cache, monkeypatch):
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCompilerError) as caught:
        load_library(FIXED)
    message = str(caught.value)
    for words in ("cc (not found), gcc (not found), clang (not found)", "to install one: ", "backend='reference'"):
        assert words in message
    assert not cache.exists()


@pytest.mark.parametrize(
    ("system", "release", "line"),
    [
        ("Linux", {"ID": "debian"}, "sudo apt install gcc libc6-dev"),
        ("Linux", {"ID": "linuxmint", "ID_LIKE": "ubuntu debian"}, "sudo apt install gcc libc6-dev"),
        ("Linux", {"ID": "rocky", "ID_LIKE": "rhel centos fedora"}, "sudo dnf install gcc"),
        ("Linux", {"ID": "homemade"}, compiler.INSTALL_ELSEWHERE),
        ("Darwin", {}, "xcode-select --install (or: brew install gcc)"),
    ],
)
def test_the_way_to_install_one_fits_the_system(monkeypatch, system, release, line):
    monkeypatch.setattr(compiler.platform, "system", lambda: system)
    monkeypatch.setattr(compiler.platform, "freedesktop_os_release", lambda: release)
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(NoCompilerError, match=f"to install one: {line}".replace("(", r"\(").replace(")", r"\)")):
        compiler.find_compiler()


@pytest.mark.parametrize("fault", ["missing", "failing"])
def test_a_wrong_CC_is_not_replaced_in_silence(cache, tmp_path, monkeypatch, fault):
    script = tmp_path / "my-cc"
    if fault == "failing":
        script.write_text("#!/bin/sh\nexit 1\n")
        script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    with pytest.raises(NoCompilerError, match=r"variable CC: .*my-cc \(.*(not found|--version fails)"):
        compiler.find_compiler()


def test_a_compiler_that_does_not_run_is_passed_over(cache, tmp_path, monkeypatch):
    broken = tmp_path / "bin" / "cc"
    broken.parent.mkdir()
    broken.write_text("#!/bin/sh\necho 'install the command line tools' >&2; exit 1\n")
    broken.chmod(0o755)
    (tmp_path / "bin" / "clang").symlink_to(compiler.find_compiler().command[0])
    monkeypatch.setenv("PATH", f"{broken.parent}")
    assert compiler.find_compiler().command == (str(tmp_path / "bin" / "clang"),)


def test_CC_may_hold_arguments(cache, monkeypatch):
    plain = compiler.find_compiler()
    for number in (7, 8):
        monkeypatch.setenv("CC", f"{plain.command[0]} -DANSWER={number} '-DUNUSED=a b'")
        assert compiler.find_compiler().command == (*plain.command, f"-DANSWER={number}", "-DUNUSED=a b")
        assert load_library(SOURCE).answer() == number


def test_CELLULA_CFLAGS_comes_last(cache, monkeypatch):
    plain = compiler.flags(compiler.find_compiler())
    monkeypatch.setenv("CELLULA_CFLAGS", "-DANSWER=9 -O1")
    assert compiler.flags(compiler.find_compiler()) == (*plain, "-DANSWER=9", "-O1")
    assert load_library(SOURCE).answer() == 9


@pytest.mark.parametrize("variable", ["CC", "CELLULA_CFLAGS"])
def test_an_open_quotation_mark_is_named(cache, monkeypatch, variable):
    monkeypatch.setenv(variable, "cc 'x")
    with pytest.raises(UsageError, match=f"the variable {variable} cannot be read: .*cc 'x"):
        load_library(FIXED)


@pytest.mark.parametrize(("refused", "expected"), [("-march=native", "-mcpu=native"), ("-m*=native", None)])
def test_a_compiler_that_does_not_know_march_native(cache, tmp_path, monkeypatch, refused, expected):
    script, real = tmp_path / "old-cc", compiler.find_compiler().command[0]
    # An ARM compiler is played here: -mcpu=native is taken, and not passed on.
    script.write_text(
        f'#!/bin/sh\ncase "$*" in *{refused}*) echo "error: unknown value" >&2; exit 1;; esac\n'
        f'for a; do shift; [ "$a" = -mcpu=native ] || set -- "$@" "$a"; done\nexec {real} "$@"\n'
    )
    script.chmod(0o755)
    monkeypatch.setenv("CC", str(script))
    native = [flag for flag in compiler.flags(compiler.find_compiler()) if "native" in flag]
    assert native == ([expected] if expected else [])
    assert load_library(FIXED).answer() == 42


def test_a_refused_source_is_shown_with_its_place(cache, monkeypatch):
    monkeypatch.setenv("CELLULA_CFLAGS", "-DMARK=1")
    with pytest.raises(CompilerError) as caught:
        load_library("int answer(void) { return missing; }\n")
    message, (kept,) = str(caught.value), list(cache.glob("*.c"))
    assert kept.read_text() == "int answer(void) { return missing; }\n"
    assert f"kept in {kept}" in message
    assert f"{kept}:1:" in message
    assert "missing" in message
    assert "-DMARK=1" in message
    assert "build-" not in message
    assert litter(cache) == [kept.name]
    assert not isinstance(caught.value, NoCompilerError)


def test_a_long_message_is_cut_to_its_end(cache):
    with pytest.raises(CompilerError) as caught:
        load_library("".join(f"int f{n}(void) {{ return missing{n}; }}\n" for n in range(100)))
    assert "missing99" in str(caught.value)
    assert len(str(caught.value).splitlines()) < 30


def test_without_a_cache_a_refused_source_is_kept_too(cache, tmp_path, monkeypatch):
    (tmp_path / "file").touch()
    monkeypatch.setenv("CELLULA_CACHE_DIR", str(tmp_path / "file" / "cache"))
    with pytest.warns(RuntimeWarning), pytest.raises(CompilerError, match="missing") as caught:
        load_library("int answer(void) { return missing; }\n")
    (kept,) = Path(os.environ["TMPDIR"]).glob("*/*.c")
    assert f"kept in {kept}" in str(caught.value)


@pytest.mark.parametrize("before", ["exit 0", 'for a; do o=$n; n=$a; [ "$o" = -o ] && echo no > $a; done; exit 0'])
def test_a_compiler_that_makes_no_library(cache, wrapper, before):
    wrapper(before)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(CompilerError, match=r"it made no library|cannot be written or loaded"):
            load_library(FIXED)


# --- the key and the place


def test_the_key_changes_with_every_ingredient(cache, monkeypatch):
    found = compiler.find_compiler()

    def key(source=FIXED, tool=found):
        return library_module.library_key(source, tool)

    keys = [key(), key(FIXED + " ")]
    keys += [key(tool=replace(found, **{name: value})) for name, value in (
        ("version", "13"), ("target", "riscv"), ("command", (*found.command, "-w")))]  # fmt: skip
    for change in (
        lambda patch: patch.setenv("CELLULA_CFLAGS", "-g"),
        lambda patch: patch.setenv("CPATH", "/somewhere"),
        lambda patch: patch.setattr(library_module, "CACHE_FORMAT", 2),
        lambda patch: patch.setattr(library_module, "processor", lambda: "another"),
        lambda patch: patch.setattr(compiler, "_native", lambda _: ()),
        lambda patch: patch.setattr(compiler.platform, "machine", lambda: "another"),
        lambda patch: patch.setattr(compiler.platform, "system", lambda: "another"),
        lambda patch: patch.setattr(compiler.platform, "libc_ver", lambda: ("glibc", "1.0")),
    ):
        with monkeypatch.context() as patch:
            change(patch)
            keys.append(key())
    assert len(set(keys)) == len(keys)
    assert key() == keys[0]


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc/cpuinfo, which only Linux has")
def test_the_processor_is_described_without_what_changes():
    text = compiler.processor()
    assert text
    assert "MHz" not in text
    compiler.processor.cache_clear()
    assert compiler.processor() == text


@pytest.mark.parametrize(
    ("system", "variables", "expected"),
    [
        ("linux", {"CELLULA_CACHE_DIR": "/a/b"}, "/a/b"),
        ("linux", {"CELLULA_CACHE_DIR": "~/b"}, "/home/me/b"),
        ("linux", {}, "/home/me/.cache/cellula"),
        ("linux", {"XDG_CACHE_HOME": "/x"}, "/x/cellula"),
        ("linux", {"XDG_CACHE_HOME": "x"}, "/home/me/.cache/cellula"),
        ("darwin", {"XDG_CACHE_HOME": "/x"}, "/home/me/Library/Caches/cellula"),
        ("win32", {"LOCALAPPDATA": "/local"}, "/local/cellula/Cache"),
    ],
)
def test_cache_folder(monkeypatch, system, variables, expected):
    for name in ("CELLULA_CACHE_DIR", "XDG_CACHE_HOME", "LOCALAPPDATA"):
        monkeypatch.delenv(name, raising=False)
    for name, value in {"HOME": "/home/me", **variables}.items():
        monkeypatch.setenv(name, value)
    monkeypatch.setattr(sys, "platform", system)
    assert cache_module.cache_folder() == Path(expected)


def test_a_user_without_a_home_has_a_folder_of_his_own(monkeypatch):
    for name in ("CELLULA_CACHE_DIR", "XDG_CACHE_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os.path, "expanduser", lambda path: path)
    assert cache_module.cache_folder() == Path(tempfile.gettempdir()) / f"cellula-{os.getuid()}"
