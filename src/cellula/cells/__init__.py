"""THE ZOO: one `.cell` file a cell, and its catalogue."""
