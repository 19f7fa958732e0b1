"""The Django application."""

from django.apps import AppConfig
from django.utils.module_loading import autodiscover_modules


class EffectsConfig(AppConfig):
    """Finds the declarations of effects in the modules ``effects`` and ``tasks`` of all apps, so
    that every process knows them. Those in views are found with the URLconf."""

    name = "django_idempotency.effects"
    label = "idempotency_effects"
    verbose_name = "Idempotency effects"

    def ready(self) -> None:
        autodiscover_modules("effects", "tasks")
