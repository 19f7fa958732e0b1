"""The Django application."""

import atexit

from django.apps import AppConfig
from django.utils.translation import gettext_lazy as _


class StatisticsConfig(AppConfig):
    """Connects the receivers, and writes the last numbers at exit."""

    name = "django_idempotency.contrib.statistics"
    label = "django_idempotency_statistics"
    verbose_name = _("Idempotency statistics")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from ...signals import connect, unprotected, without_key
        from . import receiving
        from .counting import flush_at_exit

        connect(receiving.count_outcome)
        unprotected.connect(receiving.count_unprotected)
        without_key.connect(receiving.count_without_key)
        atexit.unregister(flush_at_exit)
        atexit.register(flush_at_exit)
