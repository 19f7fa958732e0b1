"""What stands in ``MIDDLEWARE``."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.utils.module_loading import import_string

from ..middleware import IdempotencyMiddleware

Listed = tuple[str, Any]
"""A path in ``MIDDLEWARE``, and what it names."""


def is_installed() -> bool:
    """Whether the middleware, or a subclass of it, is in ``MIDDLEWARE``."""
    return any(is_ours(listed) for listed in listed_middlewares())


def listed_middlewares() -> Iterator[Listed]:
    for path in settings.MIDDLEWARE:
        try:
            yield path, import_string(path)
        except Exception:  # Django fails at its start, and says so itself.
            yield path, None


def is_ours(listed: Listed) -> bool:
    return isinstance(listed[1], type) and issubclass(listed[1], IdempotencyMiddleware)
