"""Read which modules import which, from their source, without running them."""

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

PACKAGE = "cellula"


@dataclass(frozen=True)
class Import:
    """One imported module or name; `at_import` is false inside a function or where it is for typing only."""

    target: str
    line: int
    at_import: bool


def read_modules(folder: Path) -> dict[str, str]:
    """The source of every module of the package in `folder`, by dotted name."""
    sources = {}
    for path in sorted(folder.rglob("*.py")):
        parts = [PACKAGE, *path.relative_to(folder).with_suffix("").parts]
        dotted = ".".join(parts).removesuffix(".__init__")
        sources[dotted] = path.read_text(encoding="utf-8")
    return sources


def packages_of(names: Mapping[str, str]) -> set[str]:
    """The modules that hold others: their `__init__.py` is what was read."""
    return {PACKAGE} | {name.rpartition(".")[0] for name in names if "." in name}


def imports_of(module: str, source: str, is_package: bool) -> Iterator[Import]:
    """Every import in a module's source; `from a import b` gives `a.b`."""
    base = module.split(".") if is_package else module.split(".")[:-1]

    def visit(node: ast.AST, at_import: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                yield from (Import(alias.name, child.lineno, at_import) for alias in child.names)
            elif isinstance(child, ast.ImportFrom):
                above = base[: len(base) - child.level + 1] if child.level else []
                origin = ".".join([*above, *([child.module] if child.module else [])])
                yield from (Import(f"{origin}.{alias.name}", child.lineno, at_import) for alias in child.names)
            else:
                deferred = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
                typing_only = isinstance(child, ast.If) and "TYPE_CHECKING" in ast.dump(child.test)
                yield from visit(child, at_import and not deferred and not typing_only)

    yield from visit(ast.parse(source), at_import=True)


def owner(target: str, modules: Mapping[str, str]) -> str | None:
    """The module of the package that holds an imported name, or None for something from outside."""
    while target and target not in modules:
        target = target.rpartition(".")[0]
    return target or None
