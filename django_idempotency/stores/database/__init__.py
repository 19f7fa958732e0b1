"""Records in a database of the project."""
