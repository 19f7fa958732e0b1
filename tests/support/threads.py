"""Threads that cannot be had."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def no_more_threads() -> Iterator[None]:
    """Nothing is left for the stack of another one: the system's own refusal, in this process."""
    usual = threading.stack_size(2**47 - 2**20)
    try:
        yield
    finally:
        threading.stack_size(usual)
