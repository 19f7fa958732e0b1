"""Statements that databases share. Names in braces are replaced, once per process."""

from collections.abc import Callable

from ....models import IdempotencyRecord, IdempotencyStep
from ....protocol.record import RESPONSE_VERSION, State
from ..rows import COLUMNS, RESPONSE_COLUMNS

# By primary key: InnoDB then leaves the unique index free for the claims of rivals.
READ = (
    "SELECT {columns}, {expires_at} <= {clock}, 0, 0, {scope}, {key} FROM {table} WHERE {id} = %s"
)
# A view may have left another schema's table in the place of ours: so scope and key are named.
_FENCED = f" WHERE {{id}} = %s AND {{attempt}} = %s AND {{state}} = '{State.CLAIMED}' AND {{match}}"
# The indexed columns change only where the record expires earlier than its claim said, and in
# non-atomic mode.
COMPLETE = (
    "UPDATE {table} SET {state} = %s, {completed_at} = {clock}, {expires_at} = {clock}, "
    "{purge_at} = {least}({purge_at}, {clock}), {outcome_open} = FALSE, "
    + ", ".join(f"{{{name}}} = %s" for name in RESPONSE_COLUMNS)
    + _FENCED
)

WITHDRAW = "DELETE FROM {table}" + _FENCED

BUMP = (
    "UPDATE {table} SET {attempt} = {attempt} + 1, {outcome_open} = {outcome_open} OR %s "
    "WHERE {id} = %s"
)
# The step log's row of an attempt that starts, if none has started before.
START = (
    "INSERT INTO {steps} ({record_id}, {position}, {attempt}, {name}, {result}, {started_at}) "
    "VALUES (%s, 0, %s, %s, %s, {clock})"
)

END = (
    "UPDATE {steps} SET {finished_at} = {clock} "
    "WHERE {record_id} = %s AND {position} = 0 AND {attempt} = %s"
)
OF_ATTEMPT = (
    " FROM {steps} WHERE {record_id} = %s AND {position} = 0 AND {attempt} = %s "
    "AND {finished_at} IS NULL"
)
ADD_STEP = (
    "INSERT INTO {steps} ({record_id}, {position}, {attempt}, {name}, {result}, {started_at}, "
    "{finished_at}) VALUES (%s, %s, %s, %s, %s, %s, {clock})"
)

COMPARED = ("key", "scope", "fingerprint")
"""Columns that must compare exactly."""

_COLUMNS = ", ".join(f"{{{name}}}" for name in COLUMNS)
_GIVEN = ("scope", "key", "fingerprint", "method", "path", "request_id", "response_codec")
_INSERTED = {
    **dict.fromkeys(_GIVEN, "%s"),
    "state": f"'{State.CLAIMED}'",
    "attempt": "1",
    "response_version": str(RESPONSE_VERSION),
    "response_headers": "''",
    "response_omitted": "''",
    "created_at": "{clock}",
    "purge_at": "{clock}",
    "expires_at": "{clock}",
    # By a comparison, because a driver may send every parameter as text.
    "outcome_open": "%s = 'open'",
}
"""Columns of a new record, and their values."""

_PARTS = {
    "columns": _COLUMNS,
    "inserted": ", ".join(f"{{{name}}}" for name in _INSERTED),
    "values": ", ".join(_INSERTED.values()),
    "seen": f"{_COLUMNS}, {{expires_at}} <= {{clock}} AS expired, "
    "{expires_at} > {clock} AS is_tombstone",
    "match": "{key} = %s AND {scope} = %s",
}


def replacements(clock: str, least: str, quoted: Callable[[str], str]) -> dict[str, str]:
    """Return what to put in place of names in braces: names of tables and columns, and parts.

    :param clock: SQL of the store's clock
    :param least: function that returns the least of its arguments
    :param quoted: quotes a name
    """
    names = {
        "clock": clock,
        "least": least,
        "table": quoted(IdempotencyRecord._meta.db_table),
        "steps": quoted(IdempotencyStep._meta.db_table),
    }
    for model in (IdempotencyStep, IdempotencyRecord):
        for field in model._meta.concrete_fields:
            names[field.name] = quoted(str(field.column))
    return names | {name: part.format(**names) for name, part in _PARTS.items()}
