"""What happens under a key: claim, lock, run, store."""
