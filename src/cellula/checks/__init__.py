"""A suite of checks that any cell can be put through: those that Cellula's own cells pass."""

from cellula.checks.report import CheckReport, Hint, Outcome
from cellula.checks.suite import check

__all__ = ["CheckReport", "Hint", "Outcome", "check"]
