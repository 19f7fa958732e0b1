"""What the promise costs, measured: ``make bench``. See docs/performance.md."""
