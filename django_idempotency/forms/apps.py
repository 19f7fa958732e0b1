"""The Django application: template tags and the pages of errors."""

from django.apps import AppConfig


class FormsConfig(AppConfig):
    name = "django_idempotency.forms"
    label = "django_idempotency_forms"
    verbose_name = "Idempotency forms"
