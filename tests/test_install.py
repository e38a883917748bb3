"""The set-up tool: which torch it asks for, and that a set-up cut short is never taken for a finished one."""

import importlib.util
import subprocess
from pathlib import Path
from types import ModuleType

import pytest


def load_tool() -> ModuleType:
    path = Path(__file__).parent.parent / "tools" / "install.py"
    spec = importlib.util.spec_from_file_location("install", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


tool = load_tool()


@pytest.mark.parametrize(
    ("available", "system", "allow_cuda", "expected"),
    [
        (["2.15.0", "2.13.0+cpu", "2.13.0"], "linux", False, "torch==2.13.0+cpu"),
        (["2.13.0+cu130", "2.13.0+cpu"], "linux", False, "torch==2.13.0+cpu"),
        (["2.13.0"], "darwin", False, "torch==2.13.0"),
        (["2.13.0"], "win32", False, "torch==2.13.0"),
        (["2.13.0", "2.13.0+cpu"], "linux", True, "torch==2.13.0"),
    ],
)
def test_the_cpu_build_is_asked_for_where_there_is_one(available, system, allow_cuda, expected):
    assert tool.choose_torch(available, "2.13.0", system, allow_cuda=allow_cuda) == expected


@pytest.mark.parametrize("available", [["2.13.0"], ["2.13.0+cu130"], ["2.13.0+rocm7", "2.12.0+cpu"]])
def test_a_cuda_build_is_refused_with_a_way_out(available):
    with pytest.raises(tool.InstallError, match="CUDA") as refusal:
        tool.choose_torch(available, "2.13.0", "linux", allow_cuda=False)
    for way_out in ("PIP_EXTRA_INDEX_URL", "PIP_FIND_LINKS", "CUDA=1"):
        assert way_out in str(refusal.value)


def test_a_release_that_no_index_has_is_told_apart_from_a_cuda_build():
    with pytest.raises(tool.InstallError, match=r"no torch 2\.13\.0"):
        tool.choose_torch(["2.12.0+cpu"], "2.13.0", "linux", allow_cuda=True)
    with pytest.raises(tool.InstallError, match="no index can be reached"):
        tool.choose_torch([], "2.13.0", "linux", allow_cuda=False)


def test_constraints_pin_torch_to_a_release_that_pyproject_accepts():
    major, minor, _ = (int(part) for part in tool.pinned_torch().split("."))
    assert (major, minor) >= (2, 11)


def test_a_failed_installation_leaves_its_mark_and_the_next_one_starts_anew(tmp_path, monkeypatch):
    made = []

    def create(folder, **_):
        made.append(folder)
        (folder / "bin").mkdir(parents=True, exist_ok=True)
        (folder / "bin" / "python").touch()
        (folder / tool.UNFINISHED).unlink(missing_ok=True)

    def pip(python, arguments, *, capture=False):
        failed = arguments[0] == "install" and len(made) == 1
        return subprocess.CompletedProcess(arguments, int(failed), "Available versions: 2.13.0+cpu", "")

    monkeypatch.setattr(tool.venv, "create", create)
    monkeypatch.setattr(tool, "pip", pip)
    monkeypatch.setattr(tool.os, "name", "posix")
    folder = tmp_path / "venv"
    assert tool.main([str(folder)]) == 1
    assert (folder / tool.UNFINISHED).exists()
    assert tool.main([str(folder)]) == 0
    assert len(made) == 2 and not (folder / tool.UNFINISHED).exists()
    assert tool.main([str(folder)]) == 0
    assert len(made) == 2, "a finished environment is kept"
