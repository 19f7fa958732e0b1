"""The Django application."""

from typing import Any

from django.apps import AppConfig
from django.core.exceptions import ImproperlyConfigured
from django.db.backends.signals import connection_created
from django.db.models.signals import pre_delete
from django.utils.translation import gettext_lazy as _

from .compat.commands import is_command


class IdempotencyConfig(AppConfig):
    """Registers the model, the checks, the admin, and a listener for deletions."""

    name = "django_idempotency"
    verbose_name = _("Idempotency")
    default_auto_field = "django.db.models.BigAutoField"

    def ready(self) -> None:
        from . import checks  # noqa: F401  (registers the system checks)
        from .invalidation import forget_deleted

        pre_delete.connect(
            forget_deleted,
            sender=self.get_model("IdempotencyRecord"),
            dispatch_uid="idempotency_deletions",
        )
        connection_created.connect(prepare, dispatch_uid="idempotency_dialect")
        # A command runs the system checks, which list all mistakes with hints, and stop it.
        if not is_command():
            stop_if_wrong()


def prepare(connection: Any, **kwargs: Any) -> None:
    """Receiver of ``connection_created``: prepare a connection as its database needs it."""
    from .stores.database.dialects import dialect_of

    dialect_of(connection).on_connect(connection)


def stop_if_wrong() -> None:
    """Let a wrong setting stop the start of a server or a worker, not each of its requests.

    :raises SettingError: names all mistakes in ``IDEMPOTENCY``
    """
    from .conf.settings import SettingError, configuration

    try:
        configuration()
    except SettingError:
        raise
    except ImproperlyConfigured:
        pass  # SECRET_KEY is empty: Django reports that to code that needs it.
