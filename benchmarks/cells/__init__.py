"""``mesp bench``: a table's definition to its cells, each cell measured, and what they come to drawn."""
