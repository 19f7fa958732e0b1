"""The HTTP edge: requests in, responses out."""
