"""Three small tasks that ask for memory, one a file, and what trains and compares cells on them."""
