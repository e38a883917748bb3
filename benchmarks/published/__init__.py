"""The published results that `benchmarks/reproduce.py` trains anew, one file each, and what they share."""
