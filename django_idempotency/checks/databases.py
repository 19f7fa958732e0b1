"""Checks of the databases: of the records' settings, server and table, and of the others."""

import re
from collections.abc import Iterable, Iterator
from datetime import timedelta
from typing import Any

from django.apps import apps
from django.core.checks import Tags
from django.db import DatabaseError, connections, router

from ..compat.commands import is_migrate
from ..conf.policy import StoreKind
from ..conf.settings import Configuration
from ..contract.endpoints import longest_tombstone, policies_of_endpoints
from ..models import IdempotencyRecord
from ..stores.database.dialects import ServerFault, dialect_of
from ..stores.database.store import DatabaseStore
from .configuration import Databases, Messages, check
from .messages import message

_APP = IdempotencyRecord._meta.app_label
_TABLE = IdempotencyRecord._meta.db_table
_PURGED_WITHIN = timedelta(days=7)
"""A purge at least once a week is often enough."""
_LONGEST_IDLE_TIMEOUT = 600
"""Seconds that a lock may outlive its host before we warn."""
_HERE = re.compile(r"|[/@].*|localhost|127\.0\.0\.1|::1", re.DOTALL)
"""Hosts that cannot vanish alone: this one."""
_FAULTS = {
    ServerFault.NO_SKIP_LOCKED: "E007",
    ServerFault.WRONG_ENGINE: "E008",
    ServerFault.NO_WRITE_AHEAD_LOG: "W003",
}


def _alias_of_records(valid: Configuration) -> str:
    return IdempotencyRecord.alias(valid.policy.using)


def _connection_of_records(valid: Configuration) -> Any:
    """Return the connection of the records' database, not opened; ``None`` if there is none."""
    alias = _alias_of_records(valid)
    if alias not in connections:
        return None
    return connections[alias]


def _asked(valid: Configuration, databases: Databases) -> Any:
    """Return the connection of the records' database if it may be asked, and is supported."""
    connection = _connection_of_records(valid)
    if connection is None or connection.alias not in databases:
        return None
    return connection if dialect_of(connection).is_supported else None


@check()
def check_database_settings(valid: Configuration, databases: Databases) -> Messages:
    """What needs no connection."""
    alias, connection = _alias_of_records(valid), _connection_of_records(valid)
    if connection is None:
        yield message("E005", alias=alias, known=", ".join(connections))
    elif not dialect_of(connection).is_supported:
        yield message("E006", alias=alias, server=connection.display_name)
    elif not connection.settings_dict["AUTOCOMMIT"]:
        yield message("E009", alias=alias)


@check(Tags.database)
def check_server(valid: Configuration, databases: Databases) -> Messages:
    """What the server has to be asked.

    The migrations see to columns that compare exactly; a table that was made by hand, or copied
    with another collation, may take two keys for one.
    """
    connection = _asked(valid, databases)
    if connection is None:
        return
    dialect, alias = dialect_of(connection), connection.alias
    table, server = connection.ops.quote_name(_TABLE), connection.display_name
    for fault, found in dialect.server_faults(connection):
        yield message(_FAULTS[fault], alias=alias, server=server, table=table, found=found)
    inexact = ", ".join(sorted(dialect.inexact_columns(connection)))
    if inexact:
        yield message("E042", table=table, alias=alias, columns=inexact, kind=dialect.exact_type)


@check(deploy=True)
def check_kept_connections(valid: Configuration, databases: Databases) -> Messages:
    connection = _connection_of_records(valid)
    if connection is None:
        return
    dialect, settings = dialect_of(connection), connection.settings_dict
    if not (dialect.is_supported and dialect.has_server):
        return
    is_kept = settings["CONN_MAX_AGE"] != 0 or settings["OPTIONS"].get("pool")
    if is_kept and not settings["CONN_HEALTH_CHECKS"]:
        yield message("I002", alias=connection.alias)


@check(Tags.database, deploy=True)
def check_keepalive(valid: Configuration, databases: Databases) -> Messages:
    """By the settings, or with ``--database`` by what is in force on the server.

    A process that dies closes its connection, which frees its lock at once. A host that loses power
    or its network closes nothing: its lock stays until the *server* gives the connection up.
    """
    connection = _connection_of_records(valid)
    if connection is None:
        return
    keepalive, settings = dialect_of(connection).keepalive, connection.settings_dict
    # libpq takes a list of hosts, separated by commas.
    hosts = [host.strip() for host in settings["HOST"].split(",")]
    if keepalive is None or all(_HERE.fullmatch(host) for host in hosts):
        return
    after = ""
    if connection.alias in databases:
        seconds = dialect_of(connection).idle_timeout(connection)
        after = f"{seconds} seconds" if seconds > _LONGEST_IDLE_TIMEOUT else ""
    elif not keepalive.enough.search(str(settings["OPTIONS"].get(keepalive.option, ""))):
        after = "two hours, on most systems"
    if after:
        yield message(
            "W004",
            alias=connection.alias,
            after=after,
            option=keepalive.option,
            example=keepalive.example,
        )


@check(Tags.database, deploy=True)
def check_purge(valid: Configuration, databases: Databases) -> Messages:
    """A record has been expired for longer than any purge would leave it."""
    connection = _asked(valid, databases)
    if connection is None:
        return
    latest = _PURGED_WITHIN + longest_tombstone()
    try:
        is_purged = not DatabaseStore(connection.alias).expired(latest).exists()
    except DatabaseError:  # Before the first migration there is no table.
        return
    if not is_purged:
        yield message("W042", alias=connection.alias, days=latest.days)


@check(Tags.database)
def check_tables(valid: Configuration, databases: Databases) -> Messages:
    """In each database where guarded views keep records; not while ``migrate`` makes the tables."""
    if is_migrate():
        return
    policies = [valid.policy, *(policy for _, policy in policies_of_endpoints())]
    aliases = dict.fromkeys(
        IdempotencyRecord.alias(policy.using)
        for policy in policies
        if policy.store is not StoreKind.CACHE
    )
    for alias in aliases:
        if alias in databases and alias in connections:
            lacks = list(incomplete_tables(connections[alias], _models()))
            if lacks:
                yield message("W051", alias=alias, lacks=" and ".join(lacks))


def incomplete_tables(connection: Any, models: Iterable[Any]) -> Iterator[str]:
    """Yield what a database lacks of the tables of models, for people."""
    # With django-tenants each schema has separate tables, and none may be in this one.
    if not dialect_of(connection).is_supported or hasattr(connection, "schema_name"):
        return
    introspection = connection.introspection
    with connection.cursor() as cursor:
        tables = introspection.table_names(cursor)
        for model in models:
            table = model._meta.db_table
            if table not in tables:
                yield f"there is no table {table}"
                continue
            described = introspection.get_table_description(cursor, table)
            wanted = {str(field.column) for field in model._meta.local_fields}
            missing = wanted - {column.name for column in described}
            if missing:
                yield f"the table {table} lacks {', '.join(sorted(missing))}"


def _models() -> Iterator[Any]:
    yield from apps.get_app_config(_APP).get_models()
    if apps.is_installed("django_idempotency.effects"):
        yield from apps.get_app_config("idempotency_effects").get_models()


@check()
def check_several_databases(valid: Configuration, databases: Databases) -> Messages:
    """In atomic mode: one commit holds in one of them."""
    connection = _connection_of_records(valid)
    if connection is None:
        return
    policies = [policy for _, policy in policies_of_endpoints()] or [valid.policy]
    if not any(policy.atomic and policy.store is not StoreKind.CACHE for policy in policies):
        return
    models = [each for each in apps.get_models() if each._meta.app_label != _APP]
    written = {router.db_for_write(model) for model in models}
    if written and connection.alias not in written:
        yield message("W043", alias=connection.alias, written=", ".join(sorted(written)))
        return
    for other in connections:
        if other != connection.alias and connections[other].settings_dict["ATOMIC_REQUESTS"]:
            yield message("W044", other=other, alias=connection.alias)
