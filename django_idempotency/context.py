"""Which operation runs here: code that gets no request finds it in its context."""

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

running: ContextVar[Any] = ContextVar("django_idempotency_operation", default=None)
"""The operation of the view, or of the function, that runs; ``None`` outside of both. Threads that
async code waits for, and tasks, inherit it."""


@contextmanager
def as_running(operation: Any) -> Iterator[None]:
    """Let code find an operation, or none."""
    outer = running.get()
    running.set(operation)
    try:
        yield
    finally:
        running.set(outer)
