"""Send several statements to PostgreSQL in one round trip, and prepare them, through psycopg 3.

Its cursors can do neither as a guard needs it: they send BEGIN and COMMIT alone, and a pipeline of
theirs costs more processor time than it saves on a near server. So this module speaks to libpq,
through the interface that psycopg documents (``psycopg.pq``), ``Connection.wait()`` and the
generators of ``psycopg.generators``, which wait as the rest of psycopg waits (gevent included).
``tests/compat/test_psycopg.py`` has a test per name.
"""

import logging
import re
from collections import Counter
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from functools import cache, lru_cache, partial
from hashlib import blake2s
from itertools import repeat
from operator import methodcaller
from types import SimpleNamespace
from typing import Any, cast

from psycopg import ClientCursor, Connection, errors, generators, pq

from .django import doubt

logger = logging.getLogger("django_idempotency")

_IDLE = pq.TransactionStatus.IDLE
_SYNC = pq.ExecStatus.PIPELINE_SYNC
_DONE = pq.ExecStatus.COMMAND_OK
_FATAL = pq.ExecStatus.FATAL_ERROR
_OFF = pq.PipelineStatus.OFF
_BINARY = pq.Format.BINARY

UNKNOWN_STATEMENT = (
    errors.InvalidSqlStatementName,  # 26000
    errors.DuplicatePreparedStatement,  # 42P05
    errors.FeatureNotSupported,  # 0A000: the table has got other columns
)
"""What a server says whose session has other prepared statements than we believe."""

_STATE = "_idempotency_session"

_integer = partial(int.from_bytes, byteorder="big", signed=True)
_DECODERS: dict[int, Callable[[bytes], Any]] = {
    16: {b"\x00": False, b"\x01": True}.__getitem__,  # bool
    17: bytes,  # bytea
    **dict.fromkeys((20, 21, 23), _integer),
}
"""By the type's number, for the binary format; all other columns of ours are text."""


@lru_cache(maxsize=64)
def _numbered(sql: str) -> bytes:
    """Return a statement with ``$1`` instead of ``%s``."""
    count = iter(range(1, 1000))
    return re.sub("%s", lambda _: f"${next(count)}", sql).replace("%%", "%").encode()


@lru_cache(maxsize=64)
def _name(sql: str, generation: int) -> bytes:
    """Return the same name for the same text only: a pooler may give us a session of the server in
    which another client has prepared under that name."""
    digest = blake2s(_numbered(sql), digest_size=10).hexdigest()
    return f"idempotency_{digest}_{generation}".encode()


_generations: Counter[Any] = Counter()
"""By database: how often names were lost. New names follow, on every connection of this process, so
what a claim finds out holds for the lock and the store on another one."""

_FORGIVEN = 5
"""How many generations a process may have. A migration that changes the table takes one; a project
that deallocates with each request would take one each time."""

_unprepared: set[Any] = set()
"""Databases to which this process sends nothing by name any more."""


@dataclass(slots=True)
class ServerSession:
    """What we believe about the server's end of one of psycopg's connections.

    :ivar database: where it is
    :ivar is_forbidden: the project does not want prepared statements
    :ivar is_managed: others deallocate: psycopg, which prepares, too, and sends DEALLOCATE ALL
        after a rollback, or the function with which the project's pool resets its connections
    :ivar is_direct: no pooler stands between, which could give each transaction another session of
        the server; ``None`` if that is to be found out with the next round trip
    :ivar prepared: names of statements
    """

    database: Any
    is_forbidden: bool
    is_managed: bool
    is_direct: bool | None = None
    prepared: set[bytes] = field(default_factory=set)

    def generation(self, in_transaction: bool) -> int | None:
        """Return which names to send a statement by, if by any.

        In a transaction an unknown name would be the end of that, so there it must be certain that
        names last. Outside it is tried: a pooler may know the statements of its clients. (PgBouncer
        hangs up on a client that has deallocated what it uses, so not where psycopg does that.)
        """
        if self.is_forbidden or self.is_direct is None or self.database in _unprepared:
            return None
        if self.is_direct:
            lasts = not (in_transaction and self.is_managed)
        else:
            lasts = not (in_transaction or self.is_managed)
        return _generations.get(self.database, 0) if lasts else None

    def lose(self, generation: int, error: BaseException, is_harmless: bool) -> int | None:
        """The server does not know what was prepared, or knows it already: somebody has deallocated
        it, a table has changed, or this is another session of the server.

        :param generation: of the names
        :param is_harmless: the statement can be sent again; otherwise this must not happen twice
        :return: which names to send it by, if by any. The claim must have one if the store has: it
            is the first to notice when that is lost
        """
        is_other = not self.is_direct or isinstance(error, errors.DuplicatePreparedStatement)
        self.is_direct = None
        if is_other or not is_harmless:
            _stop_preparing(self.database, error)
        elif generation == _generations[self.database]:
            begin_generation(self.database, error)
        return None if self.database in _unprepared else _generations[self.database]


def trust() -> None:
    """Forget what was found out about databases."""
    _unprepared.clear()
    _generations.clear()


def begin_generation(database: Any, reason: Any) -> None:
    """Use other names from now on."""
    if database in _unprepared:
        return
    _generations[database] += 1
    if _generations[database] > _FORGIVEN:
        _stop_preparing(database, reason)


def _stop_preparing(database: Any, reason: Any) -> None:
    _unprepared.add(database)
    logger.info(
        "From now on this process prepares no statements on the database %s: %s", database, reason
    )


def notice_deallocation(native: Any, sql: str) -> None:
    """The project's code deallocates statements, ours perhaps among them."""
    session: ServerSession | None = getattr(native, "__dict__", {}).get(_STATE)
    if session is not None:
        begin_generation(session.database, sql)


def session_of(connection: Any, native: Any) -> ServerSession | None:
    """Return what is known about the session of a connection.

    :param connection: Django's
    :param native: psycopg's
    :return: ``None`` if this driver cannot send statements together. A tracer's proxy for psycopg
        cannot, either: it would not see what is sent past its cursors
    """
    if not (issubclass(type(native), Connection) and pq.version() >= 140000):
        return None
    if native.pgconn.pipeline_status != _OFF:
        return None  # a pipeline of the project's is open
    known: ServerSession | None = vars(native).get(_STATE)
    if known is None:
        info, options = native.info, connection.settings_dict["OPTIONS"]
        pool = options.get("pool")
        is_reset = isinstance(pool, dict) and "reset" in pool
        known = ServerSession(
            (info.host, info.port, info.dbname),
            is_forbidden=options.get("prepare_threshold", 0) is None,
            is_managed=native.prepare_threshold is not None or is_reset,
        )
        setattr(native, _STATE, known)
    return known


def round_trip(connection: Any, native: Any, commits: bool) -> "RoundTrip | None":
    """Return a cursor that sends a statement together with its neighbours; ``None`` if the driver
    cannot.

    :param connection: Django's
    :param native: psycopg's
    :param commits: end the transaction after the statement
    """
    session = session_of(connection, native)
    return None if session is None else RoundTrip(session, connection, native, commits)


class RoundTrip:
    """A cursor for one statement, which travels with its neighbours: BEGIN, where psycopg would
    send it first, and COMMIT. It is prepared where that is safe.

    It has of a DB-API cursor what Django's wrappers and this package's statements need.

    :param session: of the connection
    :param connection: Django's
    :param native: psycopg's
    :param commits: end the transaction after the statement, unless that fails
    """

    def __init__(self, session: ServerSession, connection: Any, native: Any, commits: bool) -> None:
        self._connection = connection
        self._native = native
        self._session = session
        self._commits = commits
        self._result: Any = None
        self._sent: tuple[str, Sequence[Any]] = ("", ())

    def execute(self, sql: str, params: Sequence[Any] = ()) -> None:
        """Send a statement and wait for its result.

        :param sql: with ``%s`` for parameters
        :raises psycopg.Error: the statement's, or that of COMMIT
        """
        self._sent = (sql, params)
        native = self._native
        is_first = native.pgconn.transaction_status == _IDLE
        begins = is_first and not native.autocommit
        generation = self._session.generation(begins or not is_first)
        try:
            self._result = self._exchange(sql, params, begins, generation)
        except UNKNOWN_STATEMENT as error:
            if generation is None:
                raise
            again = self._session.lose(generation, error, is_first)
            if not is_first:
                raise
            native.rollback()
            self._result = self._exchange(sql, params, begins, again)
        except errors.ProtocolViolation as error:
            if generation is not None:  # PgBouncer has hung up
                self._session.lose(generation, error, is_harmless=False)
            raise

    def fetchone(self) -> tuple[Any, ...] | None:
        result = self._result
        if not result.ntuples:
            return None
        columns = range(result.nfields)
        values = map(result.get_value, repeat(0), columns)
        decoders = map(_DECODERS.get, map(result.ftype, columns), repeat(bytes.decode))
        pairs = zip(values, decoders, strict=True)
        return tuple([None if value is None else decode(value) for value, decode in pairs])

    @property
    def rowcount(self) -> int:
        return self._result.command_tuples or 0

    @property
    def _query(self) -> Any:
        """What Django's query log shows."""
        sql, params = self._sent
        return SimpleNamespace(query=ClientCursor(self._native).mogrify(sql, params).encode())

    def close(self) -> None:
        """There is nothing to close."""

    def _exchange(
        self, sql: str, params: Sequence[Any], begins: bool, generation: int | None = None
    ) -> Any:
        session, text = self._session, _numbered(sql)
        name = None if generation is None else _name(sql, generation)
        messages = [_plainly(_begin_text(self._native))] if begins else []
        is_new = name is not None and name not in session.prepared
        if is_new:
            messages.append(methodcaller("send_prepare", name, text))
        values, formats = _bound(params)
        if name is not None:
            main = methodcaller("send_query_prepared", name, values, formats, _BINARY)
        else:
            main = methodcaller("send_query_params", text, values, None, formats, _BINARY)
        after = [_plainly(b"COMMIT")] if self._commits else []
        is_asking = session.is_direct is None and not session.is_forbidden
        if is_asking:
            after.append(_plainly(b"SELECT pg_backend_pid()"))
        try:
            results = send_together(self._native, [*messages, main, *after])
        except BaseException:
            doubt(self._connection)
            raise
        if is_new and results[len(messages) - 1].status == _DONE:
            session.prepared.add(cast(bytes, name))  # also if the statement itself fails
        elif is_new and not session.is_direct:
            # PgBouncer believes that it is prepared, and would hang up on a second try.
            begin_generation(session.database, "a statement was refused")
        for result in results:
            if result.status == _FATAL:
                raise errors.error_from_result(result)
        if is_asking:
            # A pooler tells its clients another number than the server's, when they connect.
            process = int(results[-1].get_value(0, 0))
            session.is_direct = process == self._native.pgconn.backend_pid
        return results[len(messages)]


def _bound(params: Sequence[Any]) -> tuple[list[bytes | None], list[int]]:
    """Return parameters as libpq takes them, and which are binary. The server finds out their
    types."""
    texts, formats = list(params), [0] * len(params)
    others = [at for at, each in enumerate(params) if each is None or isinstance(each, bytes)]
    for at in others:
        texts[at] = ""
        formats[at] = 1
    # One call for all of them. A NUL in one of them would make one more.
    values: list[bytes | None] = [*"\0".join(map(str, texts)).encode().split(b"\0")]
    if params and len(values) != len(params):
        raise errors.DataError("PostgreSQL text fields cannot contain NUL (0x00) bytes")
    for at in others:
        values[at] = params[at]
    return values[: len(params)], formats


@cache
def _plainly(text: bytes) -> methodcaller:
    return methodcaller("send_query_params", text, None)


def _begin_text(native: Any) -> bytes:
    """Return how psycopg would begin, by the connection's documented attributes."""
    level, read_only, deferrable = native.isolation_level, native.read_only, native.deferrable
    if level is read_only is deferrable is None:
        return b"BEGIN"
    text = "BEGIN"
    if level is not None:
        text += f" ISOLATION LEVEL {level.name.replace('_', ' ')}"
    if read_only is not None:
        text += " READ ONLY" if read_only else " READ WRITE"
    if deferrable is not None:
        text += " DEFERRABLE" if deferrable else " NOT DEFERRABLE"
    return text.encode()


def send_together(native: Any, messages: Sequence[methodcaller]) -> list[Any]:
    """Send messages in one round trip, and return their results. After the first error the server
    skips the rest, COMMIT included.

    :raises psycopg.OperationalError: if the session is lost
    """
    pgconn = native.pgconn
    with native.lock:
        pgconn.enter_pipeline_mode()
        try:
            for send in messages:
                send(pgconn)
            pgconn.pipeline_sync()
            results: list[Any] = native.wait(_results(pgconn))
            pgconn.exit_pipeline_mode()
        except BaseException:
            # It is unknown what else will arrive, so nobody may read from it any more. Not close(),
            # which returns it to a pool that has ``close_returns``.
            pgconn.finish()
            raise
    return results


def _results(pgconn: Any) -> Generator[Any, Any, list[Any]]:
    """Return what arrives until the server is ready again."""
    yield from generators.send(pgconn)
    found: list[Any] = []
    while True:
        try:
            results = yield from generators.fetch_many(pgconn)
        except errors.OperationalError:
            lost = [each for each in found if each.status == _FATAL]
            if not lost:
                raise
            raise errors.error_from_result(lost[0]) from None  # why the server has hung up
        if results and results[0].status == _SYNC:
            return found
        found += results
