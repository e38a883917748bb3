"""The only part of the C back end that needs torch and a compiler."""

from cellula.backends.c.launch.operator import backward_operator, forward_operator
from cellula.backends.c.launch.program import CProgram

__all__ = ["CProgram", "backward_operator", "forward_operator"]
