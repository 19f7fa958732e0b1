"""Checks of the database that holds the records."""

from collections.abc import Callable, Collection
from typing import Any

from django.core.checks import CheckMessage, Error, Info, Tags, Warning, register
from django.db import connections, router

from ..models import IdempotencyRecord
from .configuration import TAG, valid_configuration

VENDORS = ("postgresql", "mysql", "sqlite")


def connection_of_records() -> Any:
    """Return the connection of the records' database, not opened; ``None`` if there is none."""
    alias = _alias()
    return None if alias is None or alias not in connections else connections[alias]


@register(TAG)
def check_database_settings(**kwargs: Any) -> list[CheckMessage]:
    """E005, E006, E009: what needs no connection."""
    connection = connection_of_records()
    if connection is None:
        alias = _alias()
        return [] if alias is None else [_unknown(alias)]
    if connection.vendor not in VENDORS:
        return [_unsupported(connection)]
    return [] if connection.settings_dict["AUTOCOMMIT"] else [_manual_commit(connection)]


@register(TAG, Tags.database)
def check_database(databases: Collection[str] | None = None, **kwargs: Any) -> list[CheckMessage]:
    """E007, E008, W003: what the server has to be asked."""
    connection = connection_of_records()
    if connection is None or connection.alias not in (databases or ()):
        return []
    ask = _QUESTIONS.get(connection.vendor)
    return [] if ask is None else ask(connection)


@register(TAG, deploy=True)
def check_health_checks(**kwargs: Any) -> list[CheckMessage]:
    """I002: kept connections that nobody looks at before they are used again."""
    connection = connection_of_records()
    if connection is None or connection.vendor not in ("postgresql", "mysql"):
        return []
    settings = connection.settings_dict
    is_kept = settings["CONN_MAX_AGE"] != 0 or settings["OPTIONS"].get("pool")
    return [_unchecked(connection)] if is_kept and not settings["CONN_HEALTH_CHECKS"] else []


def _alias() -> str | None:
    valid = valid_configuration()
    if valid is None:
        return None
    return valid.policy.using or router.db_for_write(IdempotencyRecord)


def _mysql(connection: Any) -> list[CheckMessage]:
    if not connection.features.has_select_for_update_skip_locked:
        return [_no_skip_locked(connection)]
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT engine FROM information_schema.tables "
            "WHERE table_schema = DATABASE() AND table_name = %s",
            [IdempotencyRecord._meta.db_table],
        )
        row = cursor.fetchone()
    return [] if row is None or row[0] == "InnoDB" else [_wrong_engine(connection, row[0])]


def _sqlite(connection: Any) -> list[CheckMessage]:
    if connection.is_in_memory_db():
        return []
    with connection.cursor() as cursor:
        mode = cursor.execute("PRAGMA journal_mode").fetchone()[0]
    return [] if mode == "wal" else [_no_log(connection, mode)]


_QUESTIONS: dict[str, Callable[[Any], list[CheckMessage]]] = {"mysql": _mysql, "sqlite": _sqlite}


def _unknown(alias: str) -> CheckMessage:
    return Error(
        f'Idempotency records go to database "{alias}", which is not in DATABASES.',
        hint=f'Correct IDEMPOTENCY["USING"] or the database router. DATABASES has '
        f"{', '.join(connections)}.",
        id="django_idempotency.E005",
    )


def _unsupported(connection: Any) -> CheckMessage:
    return Error(
        f'Idempotency records cannot be kept in database "{connection.alias}" '
        f"({connection.display_name}).",
        hint="Use PostgreSQL, MySQL, MariaDB or SQLite: the database that the views write to.",
        id="django_idempotency.E006",
    )


def _no_skip_locked(connection: Any) -> CheckMessage:
    version = ".".join(str(part) for part in connection.get_database_version())
    return Error(
        f'The server of database "{connection.alias}" is {connection.display_name} {version}, '
        "which has no SKIP LOCKED.",
        hint="Use MariaDB 10.6 or MySQL 8.0.11, or newer.",
        id="django_idempotency.E007",
    )


def _wrong_engine(connection: Any, engine: str) -> CheckMessage:
    table = connection.ops.quote_name(IdempotencyRecord._meta.db_table)
    return Error(
        f'The table {table} in database "{connection.alias}" has the storage engine {engine}; '
        "records need the transactions and row locks of InnoDB.",
        hint=f"Run ALTER TABLE {table} ENGINE=InnoDB, and the same for the tables that guarded "
        "views write to.",
        id="django_idempotency.E008",
    )


def _manual_commit(connection: Any) -> CheckMessage:
    return Error(
        f'Database "{connection.alias}" has AUTOCOMMIT off: claims would stay invisible to other '
        "requests, and duplicates would wait for each other.",
        hint=f'Remove AUTOCOMMIT from DATABASES["{connection.alias}"].',
        id="django_idempotency.E009",
    )


def _no_log(connection: Any, mode: str) -> CheckMessage:
    return Warning(
        f'The SQLite database "{connection.alias}" has the journal mode {mode}, where readers and '
        "the writer block each other: replays would wait for attempts.",
        hint=f'Set DATABASES["{connection.alias}"]["OPTIONS"]["init_command"] to '
        '"PRAGMA journal_mode=WAL".',
        id="django_idempotency.W003",
    )


def _unchecked(connection: Any) -> CheckMessage:
    alias = connection.alias
    return Info(
        f'Connections to database "{alias}" are kept, and used again without a look whether they '
        "still work: after a restart of the server the first request on each fails in the view.",
        hint=f'Set DATABASES["{alias}"]["CONN_HEALTH_CHECKS"] = True.',
        id="django_idempotency.I002",
    )
