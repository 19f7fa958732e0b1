"""The claim: read the record or create it, in one commit of its own.

Looking first and inserting later would let two requests through; inserting first would make
every replay write. PostgreSQL and MariaDB do both in one statement. MySQL and SQLite need a
second statement for new keys; there, too, the insert decides, not the look.
"""

from typing import Any, cast

from django.db import models
from django.db.backends.base.base import BaseDatabaseWrapper

from ..protocol.record import RESPONSE_VERSION, Claim, Snapshot, State
from .clock import store_time
from .rows import COLUMNS, snapshot

Parameters = tuple[Any, ...]
Statement = tuple[str, Parameters]

_PLAIN = ("scope", "key", "fingerprint", "method", "path", "state", "attempt")
_RESPONSE = ("response_version", "response_headers", "response_omitted")
_INSERTED = (*_PLAIN, *_RESPONSE, "created_at", "expires_at")


class ClaimStatement:
    """Runs claims on one connection; a subclass per dialect."""

    def __init__(
        self, connection: BaseDatabaseWrapper, model: type[models.Model], is_durable: bool = False
    ) -> None:
        self.connection = connection
        self.is_durable = is_durable
        quote = connection.ops.quote_name
        fields = model._meta.concrete_fields
        names = {field.name: quote(str(field.column)) for field in fields}
        self.table = quote(model._meta.db_table)
        self.columns = ", ".join(names[name] for name in COLUMNS)
        self.inserted = ", ".join(names[name] for name in _INSERTED)
        self.unique = f"({names['key']}, {names['scope']})"
        self.match = f"{names['key']} = %s AND {names['scope']} = %s"
        self.expires = names["expires_at"]

    def run(self, claim: Claim) -> Snapshot | None:
        """Return the record, created if it was not there.

        ``None``: a rival is creating it at this moment, and its commit is not visible yet.
        """
        raise TypeError("each dialect has its own claim")

    def select(self, claim: Claim, fresh: str) -> Statement:
        moment, parameters = store_time(self.connection)
        buried, buried_parameters = store_time(self.connection, -claim.tombstone)
        sql = (
            f"SELECT {self.columns}, {self.expires} <= {moment} AS expired, "
            f"{self.expires} > {buried} AS buried, {fresh} AS fresh "
            f"FROM {self.table} WHERE {self.match}"
        )
        return sql, (*parameters, *buried_parameters, claim.key, claim.scope)

    def values(self, claim: Claim) -> Statement:
        created, created_parameters = store_time(self.connection)
        expires, expires_parameters = store_time(self.connection, claim.retention)
        identity = (claim.scope, claim.key, claim.fingerprint, claim.method, claim.path)
        plain = (*identity, str(State.CLAIMED), 1, RESPONSE_VERSION, "", "")
        sql = ", ".join([*["%s"] * len(plain), created, expires])
        return sql, (*plain, *created_parameters, *expires_parameters)


class PostgresqlClaim(ClaimStatement):
    """One statement; a replay inserts nothing and takes no transaction id."""

    def run(self, claim: Claim) -> Snapshot | None:
        known, known_parameters = self.select(claim, "FALSE")
        values, value_parameters = self.values(claim)
        sql = (
            f"WITH known AS ({known}), claimed AS ("
            f"INSERT INTO {self.table} ({self.inserted}) SELECT {values} FROM {self._commit()} "
            "WHERE NOT EXISTS (SELECT 1 FROM known) AND wal.mode IS NOT NULL "
            f"ON CONFLICT {self.unique} DO NOTHING RETURNING {self.columns}, FALSE, FALSE, TRUE) "
            "SELECT * FROM known UNION ALL SELECT * FROM claimed"
        )
        with self.connection.cursor() as cursor:
            cursor.execute(sql, (*known_parameters, *value_parameters))
            row = cursor.fetchone()
        return None if row is None else snapshot(row)

    def _commit(self) -> str:
        # The commit of a claim need not wait for the disk: the log is written in order, so if
        # the commit that stores the response is durable, so is the claim before it; and if a
        # crash of the server loses the claim, nothing else was committed under it. The setting
        # ends with the transaction, so it is left alone inside a longer one (a test case's).
        # Effects on other systems would not be undone by that crash, so there the claim waits.
        if self.is_durable or self.connection.in_atomic_block:
            return "(SELECT '' AS mode) AS wal"
        return "(SELECT set_config('synchronous_commit', 'off', TRUE) AS mode) AS wal"


class MariadbClaim(ClaimStatement):
    """One compound statement. The insert waits for nobody: attempts lock the row by its
    primary key, not through the unique index. The look before it is no condition of ``IF``:
    InnoDB reads those with a shared lock, and would wait for a purge to commit."""

    def run(self, claim: Claim) -> Snapshot | None:
        known, known_parameters = self.select(claim, "created")
        values, value_parameters = self.values(claim)
        sql = (
            "BEGIN NOT ATOMIC DECLARE known, created INT DEFAULT 0; "
            f"SELECT COUNT(*) INTO known FROM {self.table} WHERE {self.match}; IF known = 0 THEN "
            f"INSERT IGNORE INTO {self.table} ({self.inserted}) VALUES ({values}); "
            f"SET created = ROW_COUNT(); END IF; {known}; END"
        )
        with self.connection.cursor() as cursor:
            cursor.execute(sql, (claim.key, claim.scope, *value_parameters, *known_parameters))
            row = cursor.fetchone()
            # A compound statement ends with a second, empty result that must be read.
            while cast(Any, cursor).nextset():
                pass
        return None if row is None else snapshot(row)


class TwoStepClaim(ClaimStatement):
    """A read, then for a new key an insert that gives way to a rival's."""

    insert: str

    def run(self, claim: Claim) -> Snapshot | None:
        return self._read(claim) or self._insert(claim) or self._read(claim)

    def _read(self, claim: Claim) -> Snapshot | None:
        with self.connection.cursor() as cursor:
            cursor.execute(*self.select(claim, "0"))
            row = cursor.fetchone()
        return None if row is None else snapshot(row)

    def _insert(self, claim: Claim) -> Snapshot | None:
        values, parameters = self.values(claim)
        sql = self.insert.format(table=self.table, names=self.inserted, values=values)
        with self.connection.cursor() as cursor:
            cursor.execute(sql, parameters)
            if cursor.rowcount != 1:
                return None
            record_id = int(cursor.lastrowid or 0)
        return Snapshot(record_id, State.CLAIMED, 1, claim.fingerprint, False, None, fresh=True)


class MysqlClaim(TwoStepClaim):
    insert = "INSERT IGNORE INTO {table} ({names}) VALUES ({values})"


class SqliteClaim(TwoStepClaim):
    insert = "INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING"


def claim_statement(
    connection: BaseDatabaseWrapper, model: type[models.Model], is_durable: bool = False
) -> ClaimStatement:
    """Return the claim in the connection's dialect.

    :param is_durable: its commit waits for the disk
    """
    dialects: dict[str, type[ClaimStatement]] = {
        "postgresql": PostgresqlClaim,
        "mysql": MysqlClaim,
        "sqlite": SqliteClaim,
    }
    dialect = dialects[connection.vendor]
    if dialect is MysqlClaim and cast(Any, connection).mysql_is_mariadb:
        dialect = MariadbClaim
    return dialect(connection, model, is_durable)
