"""Programs by number: an operator of a compiled graph can hold a number, not a program."""

from __future__ import annotations

import itertools
import weakref
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cellula.backends.c.launch.program import CProgram

__all__ = ["program_of", "register"]

_programs: weakref.WeakValueDictionary[int, CProgram] = weakref.WeakValueDictionary()
_numbers = itertools.count()


def register(program: CProgram) -> int:
    """Give a program a number."""
    number = next(_numbers)
    _programs[number] = program
    return number


def program_of(number: int) -> CProgram:
    """The program that was given a number."""
    return _programs[number]
