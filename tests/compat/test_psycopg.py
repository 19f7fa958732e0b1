"""What ``compat/psycopg.py`` asks of psycopg 3 and of libpq.

A failure here names what a new version lacks, or has another meaning for.
"""

import signal
from collections.abc import Iterator
from inspect import signature
from typing import Any

import pytest
from django.db import DatabaseError, DataError, IntegrityError, OperationalError, connections

from tests.support.databases import DATABASE

psycopg = pytest.importorskip("psycopg")
pytestmark = pytest.mark.skipif(DATABASE != "postgresql", reason="about PostgreSQL")

from django_idempotency.compat import psycopg as compat  # noqa: E402
from django_idempotency.compat.django import cursor_of  # noqa: E402


@pytest.fixture(autouse=True)
def _trusting() -> Iterator[None]:
    compat.trust()
    yield
    compat.trust()


@pytest.fixture
def own(db: None) -> Iterator[Any]:
    """A connection of Django's that no request uses, with a table of its own."""
    own = connections.create_connection("default")
    own.ensure_connection()
    with own.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE thing (id int PRIMARY KEY, name text, body bytea)")
        cursor.execute("INSERT INTO thing VALUES (1, 'a name', NULL)")
    send(own, "SELECT 1")  # which finds that no pooler stands between
    yield own
    own.close()


def session(connection: Any) -> Any:
    return compat.session_of(connection, connection.connection)


def send(connection: Any, sql: str, *params: Any, commits: bool = False) -> Any:
    """Send one statement, and return its first row."""
    with cursor_of(compat.round_trip, connection, commits) as cursor:
        cursor.execute(sql, params)
        return cursor.fetchone()


def prepared(connection: Any) -> set[str]:
    with connection.cursor() as cursor:
        cursor.execute("SELECT statement FROM pg_prepared_statements")
        return {text for (text,) in cursor.fetchall()}


def status(connection: Any) -> Any:
    return connection.connection.info.transaction_status.name


def begin(connection: Any) -> None:
    """As ``atomic()`` does: psycopg will send BEGIN with the next statement."""
    connection.set_autocommit(False)


def test_types_that_statements_of_records_have(own: Any) -> None:
    sql = (
        "SELECT %s::int, %s::bigint, %s::text, %s::bytea, %s::bool, NULL::text, %s::interval = '0'"
    )
    values = (-7, 2**40, "ä %s", b"\x00\xff", True, "0 microseconds")
    assert send(own, sql, *values) == (-7, 2**40, "ä %s", b"\x00\xff", True, None, True)
    session(own).is_direct = False
    assert send(own, sql, *values) == (-7, 2**40, "ä %s", b"\x00\xff", True, None, True)


@pytest.mark.parametrize("other", ["text", b"bytes", None])
def test_a_text_with_nul_is_the_error_that_psycopg_raises(own: Any, other: Any) -> None:
    with pytest.raises(DataError, match="NUL"):
        send(own, "SELECT %s::text, %s", "a\0b", other)
    assert status(own) == "IDLE"


def test_it_begins_as_psycopg_would(own: Any) -> None:
    """``isolation_level``, ``read_only``, ``deferrable``: as the project has set them."""
    own.connection.isolation_level = psycopg.IsolationLevel.REPEATABLE_READ
    own.connection.read_only = True
    begin(own)
    sql = (
        "SELECT current_setting('transaction_isolation'), current_setting('transaction_read_only')"
    )
    assert send(own, sql) == ("repeatable read", "on")
    assert status(own) == "INTRANS"
    own.rollback()


def test_it_commits_along_and_psycopg_s_own_commit_sends_nothing(own: Any) -> None:
    begin(own)
    send(own, "UPDATE thing SET name = 'other' RETURNING id", commits=True)
    assert status(own) == "IDLE"
    own.commit()
    own.set_autocommit(True)
    assert send(own, "SELECT name FROM thing") == ("other",)


def test_after_an_error_nothing_is_committed(own: Any) -> None:
    begin(own)
    send(own, "UPDATE thing SET name = 'lost' RETURNING id")
    with pytest.raises(DataError):
        send(own, "SELECT CAST(name AS int) FROM thing", commits=True)
    assert status(own) == "INERROR"
    own.rollback()
    own.set_autocommit(True)
    assert send(own, "SELECT name FROM thing") == ("a name",)


def test_the_error_of_the_commit_is_raised(own: Any) -> None:
    with own.cursor() as cursor:
        cursor.execute("CREATE TEMPORARY TABLE late (id int UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    begin(own)
    send(own, "INSERT INTO late VALUES (1), (1) RETURNING id")
    with pytest.raises(IntegrityError, match="late_id_key"):
        send(own, "SELECT 1", commits=True)
    assert status(own) == "IDLE"


def test_prepared_once_and_found_by_the_same_name(own: Any) -> None:
    sql = "SELECT name FROM thing WHERE id = %s"
    assert send(own, sql, 1) == ("a name",)
    assert send(own, sql, 1) == ("a name",)
    assert prepared(own) == {"SELECT name FROM thing WHERE id = $1"}


def test_prepared_although_its_first_use_failed(own: Any) -> None:
    sql = "SELECT CAST(%s AS text)::int"
    with pytest.raises(DataError):
        send(own, sql, "one")
    begin(own)
    assert send(own, sql, "1") == (1,)
    own.rollback()
    own.set_autocommit(True)
    assert session(own).generation(in_transaction=True) is not None


@pytest.mark.parametrize("gone", ["DEALLOCATE ALL", "DISCARD ALL"])
@pytest.mark.parametrize("in_transaction", [False, True])
def test_a_forgotten_name_is_no_error_where_nothing_was_done_yet(
    own: Any, gone: str, in_transaction: bool
) -> None:
    sql = "SELECT name FROM thing"
    send(own, sql)
    with own.cursor() as cursor:
        cursor.execute(gone)
        cursor.execute("CREATE TEMPORARY TABLE IF NOT EXISTS thing AS SELECT 'a name' AS name")
    if in_transaction:
        begin(own)
    assert send(own, sql) == ("a name",)
    assert status(own) == ("INTRANS" if in_transaction else "IDLE")
    assert sql in prepared(own)
    if in_transaction:
        own.rollback()
        own.set_autocommit(True)


def test_a_name_that_another_client_has_used_ends_preparing(own: Any) -> None:
    """A pooler has given us a session that others have had."""
    sql = "SELECT 1"
    own.connection.pgconn.prepare(compat._name(sql, 0), b"SELECT 1")
    assert send(own, sql) == (1,)
    assert session(own).generation(in_transaction=False) is None


def test_a_forgotten_name_within_a_transaction_happens_once(own: Any) -> None:
    sql = "SELECT 1"
    send(own, sql)
    begin(own)
    with own.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    with pytest.raises(DatabaseError, match="does not exist"):
        send(own, sql)
    own.rollback()
    own.set_autocommit(True)
    assert session(own).generation(in_transaction=True) is None


def test_a_cached_plan_whose_result_has_changed(own: Any) -> None:
    send(own, "SELECT * FROM thing")
    with own.cursor() as cursor:
        cursor.execute("ALTER TABLE thing ADD COLUMN more int")
    assert send(own, "SELECT * FROM thing") == (1, "a name", None, None)


def test_a_cached_plan_is_replaced_by_another_one(own: Any) -> None:
    """Under another name, because the first one cannot be used again."""
    for number in range(3):
        with own.cursor() as cursor:
            cursor.execute(f"ALTER TABLE thing ADD COLUMN more_{number} int")
        send(own, "SELECT * FROM thing")
    assert session(own).generation(in_transaction=True) == 2


def test_names_that_are_lost_again_and_again_are_given_up(own: Any) -> None:
    for _ in range(compat._FORGIVEN + 1):
        send(own, "SELECT 1")
        with own.cursor() as cursor:
            cursor.execute("DEALLOCATE ALL")
    assert send(own, "SELECT 1") == (1,)
    assert session(own).generation(in_transaction=False) is None
    assert prepared(own) == set()


def test_behind_a_pooler_a_name_is_tried_outside_of_transactions(own: Any) -> None:
    """``tests/processes/test_poolers.py`` has real ones."""
    assert session(own).is_direct
    session(own).is_direct = False
    begin(own)
    assert send(own, "SELECT name FROM thing") == ("a name",)
    assert "SELECT name FROM thing" not in prepared(own)
    own.rollback()
    own.set_autocommit(True)
    assert send(own, "SELECT name FROM thing") == ("a name",)
    assert "SELECT name FROM thing" in prepared(own)
    with own.cursor() as cursor:
        cursor.execute("DEALLOCATE ALL")
    session(own).is_direct = False
    assert send(own, "SELECT name FROM thing") == ("a name",)
    assert session(own).generation(in_transaction=False) is None


@pytest.mark.parametrize(("threshold", "prepares"), [(None, False), (5, True)])
def test_the_project_s_threshold(own: Any, threshold: Any, prepares: bool) -> None:
    """``None`` forbids; with a number psycopg deallocates everything after a rollback, so that
    within a transaction a name would not be safe."""
    usual = own.settings_dict["OPTIONS"]
    own.settings_dict["OPTIONS"] = usual | {"prepare_threshold": threshold}
    own.close()
    send(own, "SELECT 1")
    assert (session(own).generation(in_transaction=False) is not None) is prepares
    assert session(own).generation(in_transaction=True) is None
    own.settings_dict["OPTIONS"] = usual


def test_a_session_that_ends_says_why(own: Any) -> None:
    (process,) = send(own, "SELECT pg_backend_pid()")
    begin(own)
    send(own, "SELECT 1")
    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_terminate_backend(%s, 5000)", [process])
    with pytest.raises(OperationalError, match="terminating connection"):
        send(own, "SELECT 1")
    assert own.connection.closed


class Interruption(BaseException):
    """As a time limit, or gevent, raises one."""


def interrupt(own: Any) -> None:
    """Raise an exception while a statement waits for the server."""

    def raise_it(*_: Any) -> None:
        raise Interruption

    with connections["default"].cursor() as cursor:
        cursor.execute("SELECT pg_advisory_lock(18)")
        usual = signal.signal(signal.SIGALRM, raise_it)
        signal.setitimer(signal.ITIMER_REAL, 0.05)
        try:
            with pytest.raises(Interruption):
                send(own, "SELECT pg_advisory_lock(18)")
            assert own.connection.closed  # or its late answer would be the next statement's
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, usual)
            cursor.execute("SELECT pg_advisory_unlock(18)")


def test_after_an_interruption_the_next_request_connects_anew(own: Any) -> None:
    """I15: with ``CONN_MAX_AGE = None`` Django asks a session whether it lives after errors of the
    database only."""
    own.close_at = None
    interrupt(own)
    own.close_if_unusable_or_obsolete()
    assert send(own, "SELECT 1") == (1,)


def test_after_an_interruption_a_pool_gets_no_session_back(own: Any) -> None:
    """A pool with ``close_returns`` takes what is closed for its own, and Django returns it once
    more."""
    pools = pytest.importorskip("psycopg_pool")
    if "close_returns" not in signature(pools.ConnectionPool).parameters:
        pytest.skip("psycopg_pool before 3.3")
    own.close()
    usual = own.settings_dict["OPTIONS"]
    own.settings_dict["OPTIONS"] = usual | {
        "pool": {"close_returns": True, "min_size": 1, "max_size": 1}
    }
    try:
        send(own, "SELECT 1")
        interrupt(own)
        own.close()
        assert send(own, "SELECT 1") == (1,)
    finally:
        own.close()
        own.close_pool()
        own.settings_dict["OPTIONS"] = usual


def test_wrappers_and_the_query_log_see_the_statement_alone(own: Any) -> None:
    seen: list[Any] = []

    def wrapper(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        seen.append((sql, params))
        return execute(sql, params, many, context)

    own.force_debug_cursor = True
    begin(own)
    with own.execute_wrapper(wrapper):
        send(own, "SELECT %s::text", "it's", commits=True)
    assert seen == [("SELECT %s::text", ("it's",))]
    assert own.queries_log[-1]["sql"] == "SELECT 'it''s'::text"
    own.set_autocommit(True)


def test_an_open_pipeline_of_the_project_is_left_alone(own: Any) -> None:
    with own.connection.pipeline():
        assert session(own) is None
    assert session(own) is not None


def test_a_tracer_in_the_driver_s_place_goes_on_seeing_everything(own: Any) -> None:
    class Tracer:
        def __init__(self, traced: Any) -> None:
            self._traced = traced

        __class__ = property(lambda self: type(self._traced))  # type: ignore[assignment]

        def __getattr__(self, name: str) -> Any:
            return getattr(self._traced, name)

    own.connection = Tracer(own.connection)
    assert isinstance(own.connection, psycopg.Connection)
    assert session(own) is None
    own.connection = own.connection._traced


@pytest.mark.parametrize("place", ["the class", "the connection"])
def test_a_backend_s_own_cursor_is_called_first(own: Any, place: str, monkeypatch: Any) -> None:
    """django-tenants sets the ``search_path`` there, debugging tools replace it."""
    called: list[str] = []

    def cursor(*args: Any) -> Any:
        called.append("cursor")
        return usual(*args)

    if place == "the class":
        usual = type(own)._cursor
        monkeypatch.setattr(type(own), "_cursor", cursor)
    else:
        usual = own.cursor
        own.cursor = cursor
    begin(own)
    send(own, "UPDATE thing SET name = 'other' RETURNING id", commits=True)
    assert called == ["cursor"]
    assert status(own) == "IDLE"
    own.set_autocommit(True)
    assert send(own, "SELECT name FROM thing") == ("other",)
