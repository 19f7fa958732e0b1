"""One operation from its claim to its stored response. Knows stores, not HTTP."""
