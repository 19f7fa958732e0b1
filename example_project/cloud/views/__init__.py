"""One module per contract; each begins with its policy."""
