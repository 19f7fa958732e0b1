"""The Django application."""

import sys
from types import FrameType

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.signals import connection_created
from django.utils.translation import gettext_lazy as _


class IdempotencyConfig(AppConfig):
    """Registers the model, the checks, the admin, and a listener for deletions."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import (
            checks,  # noqa: F401  (registers the system checks)
            invalidation,
        )
        from .lifecycle.blocks import watch_changes

        invalidation.connect()
        connection_created.connect(watch_changes, dispatch_uid="idempotency_changes")
        if not is_command():
            stop_if_wrong()


def stop_if_wrong() -> None:
    """Let a wrong setting stop the start of a server or a worker, not each of its requests.

    :raises SettingError: names everything that is wrong in ``IDEMPOTENCY``
    """
    from .conf import SettingError, configuration

    try:
        configuration()
    except SettingError:
        raise
    except ImproperlyConfigured:
        pass  # SECRET_KEY is empty: Django's to report, where somebody needs it.


def is_command() -> bool:
    """Whether a management command sets Django up: it runs the system checks, which list what is
    wrong, each with a hint, and stop it."""
    management = sys.modules.get("django.core.management")
    if management is None:
        return False
    execute = management.ManagementUtility.execute.__code__
    frame: FrameType | None = sys._getframe()
    while frame is not None and frame.f_code is not execute:
        frame = frame.f_back
    return frame is not None
