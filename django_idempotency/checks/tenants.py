"""A check of projects with a schema for each tenant."""

from typing import Any

from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error, register

from ..conf.policy import Scope
from ..stores.database.location import is_shared
from .configuration import TAG, valid_configuration


@register(TAG)
def check_tenants(**kwargs: Any) -> list[CheckMessage]:
    """E015: one table of records for users who are numbered in each schema anew."""
    valid = valid_configuration()
    if valid is None or not hasattr(settings, "TENANT_MODEL"):
        return []
    policy = valid.policy
    is_told_apart = policy.tenant is not None or not isinstance(policy.scope, Scope)
    if is_told_apart or not is_shared() or is_shared(get_user_model()._meta.app_label):
        return []
    return [
        Error(
            "Records of all tenants are in one table, and users of two tenants with the same "
            "primary key are one caller: one could get the other's answer.",
            hint='Add "django_idempotency" to TENANT_APPS and migrate, or set '
            'IDEMPOTENCY["TENANT"].',
            id="django_idempotency.E015",
        )
    ]
