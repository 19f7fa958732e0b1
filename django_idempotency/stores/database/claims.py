"""The claim: read the record or create it, in one commit of its own.

Looking first and inserting later would let two requests through; inserting first would make
every replay write. PostgreSQL and MariaDB do both in one statement. MySQL and SQLite need a
second statement for new keys; there, too, the insert decides, not the look.
"""

from typing import Any, cast

from django.db.backends.base.base import BaseDatabaseWrapper

from ...protocol.record import RESPONSE_VERSION, Claim, Snapshot, State
from .clock import store_time
from .cursors import cursor_of
from .rows import COLUMNS, snapshot
from .sql import Sql, sql_of

Parameters = tuple[Any, ...]

_GIVEN = ("scope", "key", "fingerprint", "method", "path", "response_codec")
_CONSTANT = ("state", "attempt", "response_version", "response_headers", "response_omitted")
_INSERTED = (*_GIVEN, *_CONSTANT, "created_at", "expires_at")


class ClaimStatement(Sql):
    """Runs claims; a subclass per dialect. Its texts are made once."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        names = self.names
        moment = self.moment
        self.inserted = self.list(_INSERTED)
        self.unique = f"({names['key']}, {names['scope']})"
        self.match = f"{names['key']} = %s AND {names['scope']} = %s"
        given = ["%s"] * len(_GIVEN)
        constants = [f"'{State.CLAIMED}'", "1", str(RESPONSE_VERSION), "''", "''"]
        self.values = ", ".join([*given, *constants, moment, moment])
        self.seen = (
            f"{self.list(COLUMNS)}, {names['expires_at']} <= {moment} AS expired, "
            f"{names['expires_at']} > {moment} AS buried"
        )

    def run(
        self, connection: BaseDatabaseWrapper, claim: Claim, is_durable: bool = False
    ) -> Snapshot | None:
        """Return the record, created if it was not there.

        ``None``: a rival is creating it at this moment, and its commit is not visible yet.

        :param is_durable: its commit waits for the disk
        """
        raise TypeError("each dialect has its own claim")

    def seen_parameters(self, connection: BaseDatabaseWrapper, claim: Claim) -> Parameters:
        _, moment = store_time(connection)
        _, tombstone = store_time(connection, -claim.tombstone)
        return (*moment, *tombstone)

    def value_parameters(self, connection: BaseDatabaseWrapper, claim: Claim) -> Parameters:
        _, created = store_time(connection)
        _, expires = store_time(connection, claim.retention)
        identity = (claim.scope, claim.key, claim.fingerprint, claim.method, claim.path)
        return (*identity, claim.codec, *created, *expires)


class PostgresqlClaim(ClaimStatement):
    """One statement; a replay inserts nothing and takes no transaction id."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        # The commit of a claim need not wait for the disk: the log is written in order, so if
        # the commit that stores the response is durable, so is the claim before it; and if a
        # crash of the server loses the claim, nothing else was committed under it. The setting
        # ends with the transaction, so it is left alone inside a longer one (a test case's).
        # Effects on other systems would not be undone by that crash, so there the claim waits.
        self.durable = self._sql("")
        self.quick = self._sql(", set_config('synchronous_commit', 'off', TRUE)")

    def _sql(self, commit: str) -> str:
        return (
            f"WITH known AS (SELECT {self.seen} FROM {self.table} WHERE {self.match}), claimed AS ("
            f"INSERT INTO {self.table} ({self.inserted}) SELECT {self.values} "
            "WHERE NOT EXISTS (SELECT 1 FROM known) "
            f"ON CONFLICT {self.unique} DO NOTHING RETURNING {self.names['id']}{commit}) "
            f"SELECT claimed.{self.names['id']}, known.* FROM (SELECT 1) AS one "
            "LEFT JOIN known ON TRUE LEFT JOIN claimed ON TRUE"
        )

    def run(
        self, connection: BaseDatabaseWrapper, claim: Claim, is_durable: bool = False
    ) -> Snapshot | None:
        waits = is_durable or connection.in_atomic_block
        with cursor_of(connection) as cursor:
            cursor.execute(
                self.durable if waits else self.quick,
                (
                    *self.seen_parameters(connection, claim),
                    claim.key,
                    claim.scope,
                    *self.value_parameters(connection, claim),
                ),
            )
            created, *known = cursor.fetchone()
        if created is not None:
            return _created(created, claim)
        return None if known[0] is None else snapshot((*known, False), claim.scope, claim.key)


class MariadbClaim(ClaimStatement):
    """One compound statement. The insert waits for nobody: attempts lock the row by its
    primary key, not through the unique index. The look before it is no condition of ``IF``:
    InnoDB reads those with a shared lock, and would wait for a purge to commit."""

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self.sql = (
            "BEGIN NOT ATOMIC DECLARE known, created INT DEFAULT 0; "
            f"SELECT COUNT(*) INTO known FROM {self.table} WHERE {self.match}; IF known = 0 THEN "
            f"INSERT IGNORE INTO {self.table} ({self.inserted}) VALUES ({self.values}); "
            f"SET created = ROW_COUNT(); END IF; "
            f"SELECT {self.seen}, created AS fresh FROM {self.table} WHERE {self.match}; END"
        )

    def run(
        self, connection: BaseDatabaseWrapper, claim: Claim, is_durable: bool = False
    ) -> Snapshot | None:
        match = (claim.key, claim.scope)
        values = self.value_parameters(connection, claim)
        seen = self.seen_parameters(connection, claim)
        with connection.cursor() as cursor:
            cursor.execute(self.sql, (*match, *values, *seen, *match))
            row = cursor.fetchone()
            # A compound statement ends with a second, empty result that must be read.
            while cast(Any, cursor).nextset():
                pass
        return None if row is None else snapshot(row, claim.scope, claim.key)


class TwoStepClaim(ClaimStatement):
    """A read, then for a new key an insert that gives way to a rival's."""

    insert: str

    def __init__(self, connection: BaseDatabaseWrapper) -> None:
        super().__init__(connection)
        self.reading = f"SELECT {self.seen}, 0 AS fresh FROM {self.table} WHERE {self.match}"
        self.inserting = self.insert.format(
            table=self.table, names=self.inserted, values=self.values
        )

    def run(
        self, connection: BaseDatabaseWrapper, claim: Claim, is_durable: bool = False
    ) -> Snapshot | None:
        read, insert = self._read, self._insert
        return read(connection, claim) or insert(connection, claim) or read(connection, claim)

    def _read(self, connection: BaseDatabaseWrapper, claim: Claim) -> Snapshot | None:
        seen = self.seen_parameters(connection, claim)
        with connection.cursor() as cursor:
            cursor.execute(self.reading, (*seen, claim.key, claim.scope))
            row = cursor.fetchone()
        return None if row is None else snapshot(row, claim.scope, claim.key)

    def _insert(self, connection: BaseDatabaseWrapper, claim: Claim) -> Snapshot | None:
        with connection.cursor() as cursor:
            cursor.execute(self.inserting, self.value_parameters(connection, claim))
            if cursor.rowcount != 1:
                return None
            record_id = int(cursor.lastrowid or 0)
        return _created(record_id, claim)


class MysqlClaim(TwoStepClaim):
    insert = "INSERT IGNORE INTO {table} ({names}) VALUES ({values})"


class SqliteClaim(TwoStepClaim):
    insert = "INSERT INTO {table} ({names}) VALUES ({values}) ON CONFLICT DO NOTHING"


def _created(record_id: int, claim: Claim) -> Snapshot:
    return Snapshot(
        record_id,
        State.CLAIMED,
        1,
        claim.fingerprint,
        expired=False,
        response=None,
        fresh=True,
        scope=claim.scope,
        key=claim.key,
    )


_DIALECTS: dict[str, type[ClaimStatement]] = {
    "postgresql": PostgresqlClaim,
    "mysql": MysqlClaim,
    "mariadb": MariadbClaim,
    "sqlite": SqliteClaim,
}


def claim_statement(connection: BaseDatabaseWrapper) -> ClaimStatement:
    """Return the claim in the connection's dialect."""
    vendor = connection.vendor
    if vendor == "mysql" and cast(Any, connection).mysql_is_mariadb:
        vendor = "mariadb"
    return sql_of(connection, _DIALECTS[vendor])
