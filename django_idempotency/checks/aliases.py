"""Checks of projects with several databases: one commit holds in one of them."""

from typing import Any

from django.apps import apps
from django.core.checks import CheckMessage, Warning, register
from django.db import connections, router

from ..conf.policy import Store
from ..models import IdempotencyRecord
from .configuration import TAG, valid_configuration
from .databases import connection_of_records
from .views import guarded_endpoints

_OURS = IdempotencyRecord._meta.app_label


@register(TAG)
def check_aliases(**kwargs: Any) -> list[CheckMessage]:
    """W043, W044, for views in atomic mode."""
    connection, valid = connection_of_records(), valid_configuration()
    if connection is None or valid is None:
        return []
    policies = [policy for _, policy in guarded_endpoints()] or [valid.policy]
    if not any(policy.atomic and policy.store is not Store.CACHE for policy in policies):
        return []
    others = (each for each in apps.get_models() if each._meta.app_label != _OURS)
    written = {router.db_for_write(model) for model in others}
    if written and connection.alias not in written:
        return [_apart(connection.alias, sorted(written))]
    requests = [
        alias
        for alias in connections
        if alias != connection.alias and connections[alias].settings_dict["ATOMIC_REQUESTS"]
    ]
    return [_other_commit(connection.alias, alias) for alias in requests]


def _apart(alias: str, written: list[str]) -> CheckMessage:
    return Warning(
        f'Idempotency records go to database "{alias}", to which no model is written; models go '
        f"to {', '.join(written)}. What guarded views write there is not one commit with their "
        "record: a crash between the two can lose one of them.",
        hint='Keep the records where views write (IDEMPOTENCY["USING"], or the database router), '
        "or guard these views with atomic=False.",
        id="django_idempotency.W043",
    )


def _other_commit(alias: str, other: str) -> CheckMessage:
    return Warning(
        f'Database "{other}" has ATOMIC_REQUESTS, and idempotency records go to "{alias}": what '
        f'guarded views write to "{other}" is another commit, which is made or undone apart from '
        "their record.",
        hint=f'Give views that write to "{other}" records of their own there, with '
        f'@idempotent(using="{other}"), or atomic=False.',
        id="django_idempotency.W044",
    )
