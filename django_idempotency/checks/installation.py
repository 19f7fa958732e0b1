"""Checks that the app does anything: something is guarded, and its tables are there."""

from collections.abc import Collection, Iterator
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.checks import CheckMessage, Error, Tags, Warning, register
from django.db import connections, router

from ..conf.policy import Store
from ..contract.endpoints import HIDDEN, Endpoint, State, endpoints
from ..contract.middlewares import is_installed
from ..models import IdempotencyRecord
from ..running import is_migrate
from .configuration import TAG, valid_configuration
from .databases import VENDORS
from .views import guarded_endpoints


@register(TAG, Tags.urls)
def check_something_is_guarded(**kwargs: Any) -> list[CheckMessage]:
    """W050."""
    if valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    found = endpoints()
    if not found or any(each.verdict.policy is not None for each in found):
        return []
    return [_nothing_guarded()]


@register(TAG, Tags.urls)
def check_what_fails(**kwargs: Any) -> list[CheckMessage]:
    """E051, once per view class whose requests with a key would be errors of the server."""
    if valid_configuration() is None or not getattr(settings, "ROOT_URLCONF", None):
        return []
    # What the middleware cannot ask is E004.
    failing = {
        each.verdict.reason: each
        for each in endpoints()
        if each.verdict.state is State.FAILS and each.verdict.reason != HIDDEN
    }
    return [_failing(each) for each in failing.values()]


@register(TAG, Tags.database)
def check_tables(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """W051, once per database; not while ``migrate`` is about to make them."""
    if is_migrate() or valid_configuration() is None:
        return []
    aliases = [alias for alias in _aliases() if alias in (databases or ())]
    lacking = {alias: list(_incomplete_tables(connections[alias])) for alias in aliases}
    return [_incomplete(alias, lacks) for alias, lacks in lacking.items() if lacks]


def _aliases() -> list[str]:
    """Return the databases where guarded views and the setting keep records."""
    valid = valid_configuration()
    policies = [valid.policy] if valid else []
    policies += [policy for _, policy in guarded_endpoints()]
    named = (
        policy.using or router.db_for_write(IdempotencyRecord)
        for policy in policies
        if policy.store is not Store.CACHE
    )
    return [alias for alias in dict.fromkeys(named) if alias in connections]


def _incomplete_tables(connection: Any) -> Iterator[str]:
    # With django-tenants each schema has tables of its own, and none may be in this one.
    if connection.vendor not in VENDORS or hasattr(connection, "schema_name"):
        return
    introspection = connection.introspection
    with connection.cursor() as cursor:
        tables = introspection.table_names(cursor)
        for model in apps.get_app_config(IdempotencyRecord._meta.app_label).get_models():
            table = model._meta.db_table
            if table not in tables:
                yield f"there is no table {table}"
                continue
            described = introspection.get_table_description(cursor, table)
            wanted = {str(field.column) for field in model._meta.local_fields}
            missing = wanted - {column.name for column in described}
            if missing:
                yield f"the table {table} lacks {', '.join(sorted(missing))}"


def _nothing_guarded() -> CheckMessage:
    if is_installed():
        cause = 'no endpoint is under one of IDEMPOTENCY["PATHS"] without being exempt'
        remedy = 'Correct IDEMPOTENCY["PATHS"] (searched in request.path_info, as in r"^/api/")'
    else:
        cause = "IdempotencyMiddleware is not in MIDDLEWARE"
        remedy = (
            'Add "django_idempotency.middleware.IdempotencyMiddleware" as the last of MIDDLEWARE'
        )
    return Warning(
        f"django_idempotency is installed, but guards nothing: {cause}, and no view that a URL "
        "leads to has @idempotent. Keys that clients send are ignored.",
        hint=f"{remedy}, or decorate views; manage.py idempotency_contract lists what is guarded.",
        id="django_idempotency.W050",
    )


def _failing(endpoint: Endpoint) -> CheckMessage:
    fixed = endpoint.path.partition("{")[0]
    return Error(
        f"Requests with a key to {endpoint.path} would fail: {endpoint.verdict.reason}",
        hint=f'If the view is not yours, add r"^{fixed}" and the reason to '
        'IDEMPOTENCY["EXEMPT_PATHS"]; @idempotency_exempt does the same for one of your own.',
        id="django_idempotency.E051",
    )


def _incomplete(alias: str, lacks: list[str]) -> CheckMessage:
    return Warning(
        f'In database "{alias}" {" and ".join(lacks)}: requests with a key would fail.',
        hint=f"Run manage.py migrate django_idempotency --database {alias}. If it does nothing, a "
        "database router keeps the app away from there.",
        id="django_idempotency.W051",
    )
