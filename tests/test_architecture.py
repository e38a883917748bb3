"""The one-way flow of docs/architecture.md, kept by reading every import in the package."""

import importlib
from pathlib import Path

import pytest

from imports import PACKAGE, imports_of, owner, packages_of, read_modules

SOURCE = Path(__file__).parent.parent / "src" / PACKAGE

# An entry may import only the entries above it.
ORDER = (
    "errors",
    "formula",
    "graph",
    "plan",
    "backends",
    "printers",
    "cells",
    "nn",
    "inspection",
    "checks",
    "models",
    "tasks",
    "cli",
    "web",
)
# These stand above the whole package and reach it through its public names too.
PROGRAMS = ("cli", "web", "__main__")
# Reading, printing and exporting a formula works without these.
TORCH = ("torch", "safetensors", "accelerate")


def entry_of(module: str) -> str:
    return module.split(".")[1] if "." in module else ""


def wrong_directions(modules: dict[str, str]) -> list[str]:
    """Imports that go against ORDER, and entries that ORDER does not know."""
    found, packages = [], packages_of(modules)
    for module, source in modules.items():
        entry = entry_of(module)
        if not entry or entry == "__main__":
            continue
        if entry not in ORDER:
            found.append(f"{module}: the entry {entry!r} has no place in ORDER")
            continue
        for use in imports_of(module, source, module in packages):
            target = owner(use.target, modules)
            if target is None:
                continue
            if target == PACKAGE:
                allowed = entry in PROGRAMS
            else:
                imported = entry_of(target)
                allowed = imported in ORDER and ORDER.index(imported) <= ORDER.index(entry)
            if not allowed:
                found.append(f"{module}:{use.line} imports {use.target}")
    return found


def may_import_torch(module: str) -> bool:
    parts = module.split(".")
    entry = entry_of(module)
    if entry == "backends":
        return parts[2:] == ["reference"] or parts[3:4] == ["launch"]
    return entry in ORDER and ORDER.index(entry) >= ORDER.index("nn")


def torch_above_the_line(modules: dict[str, str]) -> list[str]:
    """Imports of torch where a formula must be usable without it."""
    packages = packages_of(modules)
    return [
        f"{module}:{use.line} imports {use.target}"
        for module, source in modules.items()
        if not may_import_torch(module)
        for use in imports_of(module, source, module in packages)
        if use.target.split(".")[0] in TORCH and (use.at_import or module != PACKAGE)
    ]


def cycles(modules: dict[str, str]) -> list[list[str]]:
    """Loops among imports that run when a module is imported: each as the modules along it."""
    packages = packages_of(modules)
    edges = {
        module: sorted(
            {
                target
                for use in imports_of(module, source, module in packages)
                if use.at_import and (target := owner(use.target, modules)) and target != module
            }
        )
        for module, source in modules.items()
    }
    found, finished = [], set()

    def follow(module: str, path: list[str]) -> None:
        if module in path:
            found.append([*path[path.index(module) :], module])
            return
        if module in finished:
            return
        for target in edges[module]:
            follow(target, [*path, module])
        finished.add(module)

    for module in modules:
        follow(module, [])
    return found


MODULES = read_modules(SOURCE)


def test_an_entry_imports_only_the_entries_above_it():
    assert wrong_directions(MODULES) == []


def test_torch_stays_out_of_the_formula_side():
    assert torch_above_the_line(MODULES) == []


def test_no_import_cycles():
    assert cycles(MODULES) == []


@pytest.mark.parametrize("module", sorted(name for name, text in MODULES.items() if "__all__" in text))
def test_every_name_in_all_exists_once(module):
    loaded = importlib.import_module(module)
    missing = [name for name in loaded.__all__ if not hasattr(loaded, name)]
    assert missing == [], f"{module}.__all__ names what {module} does not have"
    assert len(set(loaded.__all__)) == len(loaded.__all__), f"{module}.__all__ names something twice"


def test_the_package_lists_its_public_names():
    package = importlib.import_module(PACKAGE)
    assert set(package.__all__) <= set(dir(package)), "names that load on first use belong in dir() too"


@pytest.mark.parametrize(
    ("checker", "modules", "culprit"),
    [
        (
            wrong_directions,
            {"cellula.formula": "from cellula.graph import Graph", "cellula.graph": ""},
            "formula:1",
        ),
        (wrong_directions, {"cellula.formula": "import cellula.nn", "cellula.nn": ""}, "formula:1"),
        (
            wrong_directions,
            {"cellula.plan": "from ..nn import x", "cellula.plan.a": "from ..nn import x", "cellula.nn": ""},
            "plan.a:1",
        ),
        (
            wrong_directions,
            {"cellula.plan": "def f():\n    from cellula.nn import x", "cellula.nn": ""},
            "plan:2",
        ),
        (wrong_directions, {"cellula": "", "cellula.nn": "from cellula import truncated"}, "nn:1"),
        (wrong_directions, {"cellula.helpers": ""}, "'helpers'"),
        (torch_above_the_line, {"cellula.graph.ops": "import torch.nn"}, "ops:1"),
        (torch_above_the_line, {"cellula.backends.c.render": "from torch import Tensor"}, "render:1"),
        (torch_above_the_line, {"cellula.plan": "def f():\n    import torch"}, "plan:2"),
        (torch_above_the_line, {"cellula": "import torch"}, "cellula:1"),
    ],
)
def test_the_checkers_reject_a_wrong_import(checker, modules, culprit):
    assert culprit in "\n".join(checker(modules))


@pytest.mark.parametrize(
    ("checker", "modules"),
    [
        (wrong_directions, {"cellula.graph": "from cellula.formula import parse", "cellula.formula": ""}),
        (wrong_directions, {"cellula": "", "cellula.cli": "import cellula\nfrom cellula import Recurrent"}),
        (torch_above_the_line, {"cellula.backends.reference": "import torch"}),
        (torch_above_the_line, {"cellula.backends.c.launch": "import torch"}),
        (torch_above_the_line, {"cellula.nn.recurrent": "import torch"}),
    ],
)
def test_the_checkers_accept_a_right_import(checker, modules):
    assert checker(modules) == []


def test_the_cycle_checker_finds_a_loop_and_leaves_late_imports_alone():
    loop = {
        "cellula.a": "import cellula.b",
        "cellula.b": "from cellula import c",
        "cellula.c": "from .a import x",
    }
    assert cycles(loop) == [["cellula.a", "cellula.b", "cellula.c", "cellula.a"]]
    late = {"cellula.a": "import cellula.b", "cellula.b": "def f():\n    import cellula.a"}
    assert cycles(late) == []
