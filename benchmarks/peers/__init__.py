"""Whom the recurrent benchmark measures, and how: one peer a file, one section a file."""
