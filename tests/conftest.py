"""Settings that every test shares."""

import os
from importlib.util import find_spec

import pytest
from hypothesis import HealthCheck, settings

# Read when torch and matplotlib are first imported: workers run side by side, one thread each, and a
# picture needs no screen.
for name in ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"):
    os.environ.setdefault(name, "1")
os.environ.setdefault("MPLBACKEND", "Agg")
# Most tests are about formulas, and hundreds of them need not be compiled; tests/backends/c names its back end.
os.environ.setdefault("CELLULA_BACKEND", "reference")
# No process compiles the binding beside its tests; those that are about it ask for it.
os.environ.setdefault("CELLULA_BINDING", "off")
# The text of a kernel is the same, and the compiler is four times as fast. What is about bits names its flags; those of
# the environment have the last word in all tests. Workers of a run inherit both.
os.environ.setdefault("CELLULA_TESTS_CFLAGS", os.environ.get("CELLULA_CFLAGS", ""))
os.environ["CELLULA_CFLAGS"] = f"-O1 {os.environ['CELLULA_TESTS_CFLAGS']}"

# A shared machine makes time limits per example meaningless.  CI tries the same examples every time.
settings.register_profile("default", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.register_profile("ci", settings.get_profile("default"), derandomize=True, print_blob=True)
settings.load_profile("ci" if os.environ.get("CI") else "default")


@pytest.fixture(scope="session", autouse=True)
def _kernel_cache(tmp_path_factory):
    """Compiled kernels stand in one folder for all workers of a run, and are gone some runs later."""
    if os.environ.get("CELLULA_CACHE_DIR"):
        return
    folder = tmp_path_factory.getbasetemp()
    # A worker has a folder of its own within that of the run.
    folder = folder.parent if os.environ.get("PYTEST_XDIST_WORKER") else folder
    os.environ["CELLULA_CACHE_DIR"] = str(folder / "cellula-cache")


@pytest.fixture
def on_the_reference(monkeypatch):
    """Modules run in plain torch: what is tested is something else, and hundreds of cells need not be compiled."""
    monkeypatch.setenv("CELLULA_BACKEND", "reference")


# Modules whose docstrings show what needs an extra of the package.
NEEDS_ONNX = ("cellula.tasks.onnx_file",)


def pytest_collection_modifyitems(items):
    """Examples in docstrings are skipped, with the reason, where their package is not installed."""
    if find_spec("onnx") is not None:
        return
    for item in items:
        if isinstance(item, pytest.DoctestItem) and item.name.startswith(NEEDS_ONNX):
            item.add_marker(pytest.mark.skip(reason="onnx is not installed: pip install 'cellula[onnx]'"))
