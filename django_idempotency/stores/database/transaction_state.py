"""Who ends a transaction: statements that do, and what the driver knows without asking."""

import re
import sqlite3
from enum import Enum, auto
from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper

_ROLLBACK = r"ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)"
_ENDINGS = {
    # https://www.postgresql.org/docs/current/sql-commands.html
    "postgresql": rf"COMMIT|END|ABORT|BEGIN|START\s+TRANSACTION|PREPARE\s+TRANSACTION|{_ROLLBACK}",
    # https://www.sqlite.org/lang_transaction.html
    "sqlite": rf"COMMIT|END|BEGIN|{_ROLLBACK}",
    # https://mariadb.com/kb/en/sql-statements-that-cause-an-implicit-commit/
    "mysql": rf"COMMIT|BEGIN(?!\s+NOT\s+ATOMIC)|START|XA|{_ROLLBACK}|ALTER"
    r"|CREATE(?!\s+(?:OR\s+REPLACE\s+)?TEMPORARY\b)|DROP(?!\s+(?:TEMPORARY|PREPARE)\b)"
    r"|RENAME|TRUNCATE|GRANT|REVOKE|LOCK\s+TABLES?|UNLOCK\s+TABLES?|INSTALL|UNINSTALL|CHANGE|FLUSH"
    r"|RESET|CACHE\s+INDEX|LOAD\s+INDEX|SET\s+PASSWORD"
    r"|(?:ANALYZE|CHECK|OPTIMIZE|REPAIR)\s+(?:\w+\s+)?TABLE"
    r"|SET\b[^;]*\bAUTOCOMMIT\s*:?=\s*(?!0|OFF|FALSE)",
}
_SPACE = r"(?:[\s(]|/\*.*?\*/|--[^\n]*(?:\n|\Z))*"
_BEGINS = {
    vendor: re.compile(rf"{_SPACE}(?:{words})\b", re.IGNORECASE | re.DOTALL)
    for vendor, words in _ENDINGS.items()
}
_COMPOUND = re.compile(rf"{_SPACE}(?:CREATE|BEGIN\s+NOT\s+ATOMIC)\b", re.IGNORECASE | re.DOTALL)
"""Their bodies hold semicolons, and words that end the body."""

_USUAL = frozenset({"SELECT", "INSERT", "UPDATE", "DELETE"})
"""What nearly every statement begins with; no need to look closer."""

_LITERALS = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|/\*.*?\*/|--[^\n]*""", re.DOTALL
)


def ends_transaction(connection: BaseDatabaseWrapper, sql: object) -> bool:
    """Whether the text of a statement says that it ends the transaction it runs in.

    What a procedure does, or the server when something goes wrong, no text says.

    :param sql: text, or what psycopg composes it of
    """
    begins = _BEGINS.get(connection.vendor)
    text = _text(connection, sql)
    if begins is None or (text[:6] in _USUAL and ";" not in text):
        return False
    if begins.match(text):
        return True
    if ";" not in text or connection.vendor == "sqlite" or _COMPOUND.match(text):
        return False
    return any(begins.match(each) for each in _LITERALS.sub("''", text).split(";"))


def _text(connection: BaseDatabaseWrapper, sql: object) -> str:
    if isinstance(sql, str):
        return sql
    if isinstance(sql, bytes):
        return sql.decode(errors="replace")
    as_string = getattr(sql, "as_string", None)
    return str(as_string(cast(Any, connection).connection)) if as_string else str(sql)


class Standing(Enum):
    """What the driver says about the transaction of its session."""

    OPEN = auto()
    """There is one, as far as the driver knows. Drivers of MySQL do not."""
    ABORTED = auto()
    """The server refuses everything until its end, or until a savepoint is rolled back."""
    ENDED = auto()
    """There is none."""


_ABORTED = 3
_STANDINGS = {1: Standing.OPEN, 2: Standing.OPEN, _ABORTED: Standing.ABORTED}
"""By the numbers of libpq's ``PQtransactionStatus``: active, in a transaction, in a failed one."""


def standing_of(session: Any) -> Standing:
    """Return what a driver's connection knows about its transaction. Asks nobody."""
    if isinstance(session, sqlite3.Connection):
        try:
            return Standing.OPEN if session.in_transaction else Standing.ENDED
        except sqlite3.ProgrammingError:  # it is closed
            return Standing.ENDED
    info = getattr(session, "info", None)
    status = getattr(info, "transaction_status", None)
    return Standing.OPEN if status is None else _STANDINGS.get(int(status), Standing.ENDED)
