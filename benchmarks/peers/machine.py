"""Where, when and with what a measurement was made."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import cellula

__all__ = ["describe", "machine"]

PACKAGES = ("torch", "numpy", "jax", "jaxlib", "torchrecurrent")
ROOT = Path(__file__).resolve().parents[2]


def machine() -> dict[str, Any]:
    """Processor, system, versions and commit, as plain values."""
    return {
        "when": datetime.now(UTC).isoformat(timespec="minutes"),
        "commit": _commit(),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "load": os.getloadavg()[0] if hasattr(os, "getloadavg") else None,
        "system": f"{platform.system()} {platform.machine()}",
        "python": platform.python_version(),
        "compiler": _output(os.environ.get("CC", "cc"), "--version").partition("\n")[0] or "none",
        "versions": {"cellula": cellula.__version__} | {name: _installed(name) for name in PACKAGES},
    }


def describe(where: dict[str, Any]) -> str:
    """The same on one line."""
    versions = ", ".join(f"{name} {number}" for name, number in where["versions"].items())
    place = f"{where['processor']}, {where['cores']} cores, {where['system']}, Python {where['python']}"
    return f"{place}, {where['compiler']}, {versions}, commit {where['commit']}, {where['when']}"


def _commit() -> str:
    """The commit, with a plus where the source differs from it."""
    commit = _output("git", "rev-parse", "--short", "HEAD")
    changed = _output("git", "--no-optional-locks", "status", "--porcelain", "--", "src", "benchmarks/peers")
    return f"{commit or 'unknown'}{'+' if changed else ''}"


def _output(*command: str) -> str:
    """What a command prints; nothing where there is no such command or it fails."""
    try:
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return ""
    return done.stdout.strip()


def _processor() -> str:
    """The name that the system gives."""
    path = Path("/proc/cpuinfo")
    names = [line for line in path.read_text().splitlines() if line.startswith("model name")] if path.exists() else []
    return names[0].partition(":")[2].strip() if names else platform.processor()


def _installed(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
