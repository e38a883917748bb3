"""Make the virtual environment that the Makefile uses, with no surprise in its size.

Which builds of torch pip can see is looked up before anything is downloaded: where only the CUDA build
(several gigabytes) is at hand, the set-up stops and says how to get the CPU build.  Only the standard library
is imported, so any Python 3.11 runs this file.
"""

import argparse
import os
import re
import subprocess
import sys
import venv
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
OLDEST = (3, 11)
RUNNING = sys.version.split()[0]

# Present from the first change to the environment until the last one succeeded.
UNFINISHED = ".unfinished"

REFUSED = """\
Stopped before downloading anything: the only build of torch {version} that pip finds here is {found},
which on {system} brings several gigabytes of CUDA packages. Cellula's set-up takes the CPU build.
Do one of these, then repeat your command:
  - On https://pytorch.org, 'Get started', choose Pip and CPU: the command shown there holds the address
    of an index. Give it to make:                PIP_EXTRA_INDEX_URL=<address> make ...
  - Or name a folder that holds the CPU build's wheel, torch-{version}+cpu-...whl:
                                                 PIP_FIND_LINKS=<folder> make ...
  - Or accept the CUDA build on purpose:         make CUDA=1 ..."""

NOT_FOUND = """\
pip finds no torch {version} for this machine (it finds: {found}).
Its wheels need a 64-bit Linux, macOS or Windows and a Python that PyTorch supports; this is Python {python}.
Without a network, name a folder that holds the wheels of constraints.txt: PIP_FIND_LINKS=<folder> make ..."""


class InstallError(Exception):
    """A set-up that cannot go on; the message says what to do."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Set up the environment that the command line names; return the exit status."""
    parser = argparse.ArgumentParser(description="Make a virtual environment and install Cellula into it.")
    parser.add_argument("folder", type=Path, help="the virtual environment to make or to bring up to date")
    parser.add_argument("--extras", default="", help="extras of the package, separated by commas")
    parser.add_argument("--allow-cuda", action="store_true", help="accept the CUDA build of torch")
    options = parser.parse_args(arguments)
    try:
        install(options.folder, options.extras, allow_cuda=options.allow_cuda)
    except InstallError as error:
        print(f"\n{error}", file=sys.stderr)
        return 1
    return 0


def install(folder: Path, extras: str, *, allow_cuda: bool) -> None:
    """Make `folder` a virtual environment that holds this checkout, editable, and the extras named."""
    if sys.version_info < OLDEST:
        raise InstallError(f"Cellula needs Python 3.11 or newer; {sys.executable} is Python {RUNNING}.")
    python = prepare_environment(folder)
    torch = choose_torch(available_torch(python), pinned_torch(), sys.platform, allow_cuda=allow_cuda)
    print(f"Installing Cellula and {torch} into {folder}: this takes a minute or two ...", flush=True)
    marker = folder / UNFINISHED
    marker.touch()
    project = f".[{extras}]" if extras else "."
    if pip(python, ["install", "--quiet", torch, "--editable", project]).returncode != 0:
        raise InstallError("pip could not install the packages; its messages above say why. Repeat to retry.")
    marker.unlink()


def prepare_environment(folder: Path) -> Path:
    """Make the environment where it is missing or an earlier set-up was cut short; return its python."""
    python = folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")
    interrupted = (folder / UNFINISHED).exists()
    usable = python.exists() and pip(python, ["--version"], capture=True).returncode == 0
    if usable and not interrupted:
        return python
    print(f"Making a virtual environment in {folder} with Python {RUNNING} ...", flush=True)
    try:
        venv.create(folder, with_pip=True, clear=True)
    except (subprocess.CalledProcessError, OSError) as error:
        raise InstallError(
            f"{sys.executable} could not make a virtual environment in {folder}: {error}\n"
            "On Debian and Ubuntu the venv module is a package of its own: apt install python3-venv"
        ) from error
    return python


def pinned_torch() -> str:
    """The release of torch that constraints.txt pins."""
    text = (ROOT / "constraints.txt").read_text(encoding="utf-8")
    match = re.search(r"^torch==(\S+)$", text, re.MULTILINE)
    if match is None:
        raise InstallError("constraints.txt pins no torch: it needs a line such as torch==2.13.0")
    return match[1]


def available_torch(python: Path) -> list[str]:
    """The versions of torch that pip can see for this machine, with their build labels (`+cpu`)."""
    # `pip install --dry-run` would tell too, but downloads wheels where an index serves no metadata.
    result = pip(python, ["index", "versions", "torch"], capture=True)
    match = re.search(r"^Available versions: (.*)$", result.stdout or "", re.MULTILINE)
    return [version.strip() for version in match[1].split(",")] if match else []


def choose_torch(available: Sequence[str], version: str, system: str, *, allow_cuda: bool) -> str:
    """The torch to ask pip for: the CPU build where there is one.

    Args:
        available: Versions that pip can see, with their build labels.
        version: The release wanted, without a label.
        system: `sys.platform`.
        allow_cuda: Whether a CUDA build is welcome.

    Returns:
        A requirement for pip.

    Raises:
        InstallError: There is no such release, or only a CUDA build of it that is not welcome.

    Example:
        >>> choose_torch(["2.14.0", "2.13.0+cpu", "2.13.0"], "2.13.0", "linux", allow_cuda=False)
        'torch==2.13.0+cpu'
    """
    builds = [found for found in available if found.partition("+")[0] == version]
    if not builds:
        shown = ", ".join(available[:5]) or "none at all, so perhaps no index can be reached"
        raise InstallError(NOT_FOUND.format(version=version, found=shown, python=RUNNING))
    if allow_cuda:
        return f"torch=={version}"
    if f"{version}+cpu" in builds:
        return f"torch=={version}+cpu"
    # The release without a label is the CPU build on macOS and Windows, and the CUDA build on Linux.
    if version in builds and not system.startswith("linux"):
        return f"torch=={version}"
    raise InstallError(REFUSED.format(version=version, found=", ".join(builds), system=system))


def pip(python: Path, arguments: Sequence[str], *, capture: bool = False) -> subprocess.CompletedProcess[str]:
    """Run the environment's own pip from the project root, with every version held by constraints.txt."""
    # By environment variable, because that reaches the build environments that pip makes as well (newer
    # releases of pip read the second name for those).  A relative name: the value is split at spaces.
    settings = {"PIP_CONSTRAINT": "constraints.txt", "PIP_BUILD_CONSTRAINT": "constraints.txt"}
    # The version check and the warning for root say nothing about this set-up.
    settings |= {"PIP_DISABLE_PIP_VERSION_CHECK": "1", "PIP_ROOT_USER_ACTION": "ignore"}
    pipe = subprocess.PIPE if capture else None
    command = [str(python.absolute()), "-m", "pip", *arguments]
    return subprocess.run(
        command, cwd=ROOT, env=os.environ | settings, stdout=pipe, stderr=pipe, text=True, check=False
    )


if __name__ == "__main__":
    sys.exit(main())
