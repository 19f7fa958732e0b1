"""The Django application."""

import atexit

from django.apps import AppConfig


class ReplaysConfig(AppConfig):
    """Connects the receiver, and writes the last counts at exit."""

    name = "django_idempotency.contrib.replays"
    label = "django_idempotency_replays"
    verbose_name = "Idempotency replays"

    def ready(self) -> None:
        from ...signals import replayed
        from .counting import count, flush_at_exit

        replayed.connect(count)
        atexit.unregister(flush_at_exit)
        atexit.register(flush_at_exit)
