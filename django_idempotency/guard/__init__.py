"""One guarded request: its key, its claim, its operation, its response."""
