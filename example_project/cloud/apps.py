from django.apps import AppConfig, apps


class CloudConfig(AppConfig):
    name = "cloud"

    def ready(self) -> None:
        if apps.is_installed("drf_spectacular"):
            from . import schema  # noqa: F401
