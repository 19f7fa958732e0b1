"""Statements that end the transaction they run in, as their text says."""

import re
from typing import Any

ROLLBACK = r"ROLLBACK(?!\s+(?:WORK\s+|TRANSACTION\s+)?TO\b)"
"""A rollback that is not one to a savepoint."""

_SPACE = r"(?:[\s(]|/\*.*?\*/|--[^\n]*(?:\n|\Z))*"
_LITERALS = re.compile(
    r"""'(?:[^']|'')*'|"(?:[^"]|"")*"|`[^`]*`|\$(\w*)\$.*?\$\1\$|/\*.*?\*/|--[^\n]*""", re.DOTALL
)


def _beginning(words: str) -> re.Pattern[str]:
    return re.compile(rf"{_SPACE}(?:{words})\b", re.IGNORECASE | re.DOTALL)


# Their bodies hold semicolons, and words that end the body.
_COMPOUND = _beginning(r"CREATE|BEGIN\s+NOT\s+ATOMIC")


class Endings:
    """How a database's statements that end a transaction begin.

    :param words: a regular expression
    :param several: one ``execute()`` may send several statements, separated by semicolons
    """

    def __init__(self, words: str, several: bool = True) -> None:
        self._ends = _beginning(words)
        self._several = several

    def are_in(self, connection: Any, sql: Any) -> bool:
        """Whether one of them is in a text.

        :param sql: text, bytes, or what psycopg composes it of
        """
        if isinstance(sql, bytes):
            sql = sql.decode(errors="replace")
        elif not isinstance(sql, str):
            composed = getattr(sql, "as_string", None)
            sql = composed(connection.connection) if composed else str(sql)
        if self._ends.match(sql):
            return True
        if ";" not in sql or not self._several or _COMPOUND.match(sql):
            return False
        return any(self._ends.match(each) for each in _LITERALS.sub("''", sql).split(";"))
