"""PLAN -> C, compiled by the compiler of the machine."""
