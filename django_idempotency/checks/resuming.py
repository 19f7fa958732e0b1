"""Checks of handlers that finish interrupted operations."""

from collections.abc import Iterator
from typing import Any

from django.conf import settings
from django.core.checks import CheckMessage, Tags, Warning, register

from ..contract.handlers import declared_handlers
from .configuration import TAG, valid_configuration


@register(TAG, Tags.urls)
def check_resumable_handlers(**kwargs: Any) -> list[CheckMessage]:
    """W020, W021."""
    if valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    return list(_problems())


def _problems() -> Iterator[CheckMessage]:
    for name, policies in declared_handlers().items():
        if not policies:
            yield Warning(
                f"The resumable handler {name} is never called: its views are atomic, or keep "
                "their records in a cache.",
                hint="Set atomic=False, and a store in a database, where it is declared.",
                id="django_idempotency.W020",
            )
        elif len(policies) > 1:
            yield Warning(
                f"The resumable handler {name} is never called: its views have different "
                "policies, and a record does not say which one is meant.",
                hint="Give each policy a handler of its own.",
                id="django_idempotency.W021",
            )
