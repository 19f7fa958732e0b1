"""An attempt's lock is held on a connection beside the view's."""

import os
from datetime import timedelta
from time import monotonic
from typing import Any

import pytest
from django.core.exceptions import ImproperlyConfigured
from django.db import connection, connections, transaction
from django.db.backends.signals import connection_created

from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.operations.base import Started, Unavailable
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database import connections as own_connections
from django_idempotency.stores.database.connections import OwnConnections
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.holding import CREATED, a_claim, an_operation, terminate
from tests.support.problems import code_of


@row_locks
@pytest.mark.django_db(transaction=True)
class TestConnections:
    def test_a_request_uses_one_connection_more(self, caller: Caller, after_charge: Any) -> None:
        sessions = []
        after_charge(lambda: sessions.append(sessions_in_use()))
        before = sessions_in_use()
        caller.post("/effects/function/")
        assert sessions[0] - before == 1
        while sessions_in_use() > before:
            """The server may need a moment."""

    def test_more_than_the_limit_are_told_to_come_again(
        self, caller: Caller, after_charge: Any, charges: list[str]
    ) -> None:
        seen = []
        path = "/effects/limited/"
        after_charge(lambda: seen.append(in_thread(lambda: caller.post(path, key="k-2")).result()))
        assert caller.post(path).status_code == 201
        assert (seen[0].status_code, code_of(seen[0])) == (503, "idempotency_store_busy")
        assert seen[0]["Retry-After"] == "1"
        assert charges == ["server"]
        assert caller.post(path, key="k-2").status_code == 201

    def test_a_server_that_takes_no_more_is_busy(self, monkeypatch: Any) -> None:
        connection.ensure_connection()
        monkeypatch.setitem(connections.settings["default"], "PORT", "1")
        assert an_operation()[0].begin() == Unavailable()
        monkeypatch.undo()
        operation, _ = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_a_transaction_that_cannot_begin_gives_its_connection_back(
        self, monkeypatch: Any
    ) -> None:
        def busy(*args: Any, **kwargs: Any) -> None:
            raise Busy

        with monkeypatch.context() as patch:
            patch.setattr(dialect_of(connection), "enter", busy)
            assert an_operation(limit=1)[0].begin() == Unavailable()
        operation, _ = an_operation(limit=1)
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    @pytest.mark.skipif(connection.vendor != "postgresql", reason="others end no transaction")
    @pytest.mark.parametrize("wait", [timedelta(0), timedelta(seconds=5)])
    def test_the_server_does_not_end_what_stays_idle(
        self, wait: timedelta, monkeypatch: Any
    ) -> None:
        """I3: a timeout is no crash. Only in this transaction: the session may be a pooler's."""
        settings = connections.settings["default"]
        options = {"options": "-c idle_in_transaction_session_timeout=5min"}
        monkeypatch.setitem(settings, "OPTIONS", {**settings["OPTIONS"], **options})
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        _, lock = an_operation()
        assert lock.take(claimed, wait) is not None
        with lock._session.entered():
            assert idle_timeout() == "0"
            lock._session.commit()
            assert idle_timeout() == "5min"
        lock.release()

    def test_they_do_not_come_from_djangos_pool(
        self, monkeypatch: Any, kept_claim_connections: None
    ) -> None:
        settings = connections.settings["default"]
        monkeypatch.setitem(settings, "OPTIONS", {**settings["OPTIONS"], "pool": True})
        own = OwnConnections("default")._create().settings_dict
        assert "pool" not in own["OPTIONS"]
        assert own["CONN_MAX_AGE"] == 60

    @pytest.mark.parametrize("age", [0, 60])
    def test_an_idle_one_serves_the_next_request(
        self, age: int, monkeypatch: Any, kept_claim_connections: None
    ) -> None:
        """As long as CONN_MAX_AGE says, or a minute; one that died meanwhile is replaced."""
        monkeypatch.setitem(connections.settings["default"], "CONN_MAX_AGE", age)
        pool = own_connections.own_connections("default")
        first = pool.lend(1)
        pool.take_back(first)
        assert pool.lend(1) is first
        pool.take_back(first)
        terminate(first)
        again = pool.lend(1)
        with again.cursor() as cursor:
            cursor.execute("SELECT 1")
        again.close()
        pool.take_back(again)

    @pytest.mark.parametrize(("idle", "asked"), [(0, False), (2, True)])
    def test_one_that_has_rested_is_asked_whether_it_works(
        self, idle: float, asked: bool, monkeypatch: Any, kept_claim_connections: None
    ) -> None:
        """Between two requests of a busy process nothing is asked: that would be a round trip."""
        pool = own_connections.own_connections("default")
        questions = []
        lent = pool.lend(1)
        monkeypatch.setattr(lent, "is_usable", lambda: questions.append(None) or True)
        pool.take_back(lent)
        monkeypatch.setattr(own_connections, "monotonic", lambda: monotonic() + idle)
        assert pool.lend(1) is lent
        assert bool(questions) == asked
        pool.take_back(lent)

    def test_a_few_are_kept_where_django_keeps_none(self, kept_claim_connections: None) -> None:
        pool = own_connections.own_connections("default")
        lent = [pool.lend(6) for _ in range(6)]
        for each in lent:
            pool.take_back(each)
        assert [each.connection is None for each in lent] == [False] * 4 + [True] * 2
        again = pool.lend(6)
        assert again in lent[:4]
        pool.take_back(again)

    def test_an_idle_one_is_closed_at_its_age(
        self, caller: Caller, kept_claim_connections: None
    ) -> None:
        """By any request, as Django closes its own."""
        pool = own_connections.own_connections("default")
        old, young = pool.lend(2), pool.lend(2)
        pool.take_back(old)
        pool.take_back(young)
        old.close_at = 0
        caller.get("/plain/")
        assert (old.connection, young.connection is None) == (None, False)
        assert pool.lend(2) is young
        young.close()
        pool.take_back(young)

    @pytest.mark.parametrize("surprise", [RuntimeError, ImproperlyConfigured, KeyboardInterrupt])
    def test_whatever_goes_wrong_their_place_is_given_back(
        self, surprise: type[BaseException]
    ) -> None:
        """Or the process would refuse every request after so many."""

        def fail(**kwargs: Any) -> None:
            raise surprise

        pool = OwnConnections("default")
        connection_created.connect(fail)
        try:
            with pytest.raises(surprise):
                pool.lend(1)
        finally:
            connection_created.disconnect(fail)
        lent = pool.lend(1)
        lent.close()
        pool.take_back(lent)

    def test_one_that_cannot_be_taken_back_gives_its_place_back(self, monkeypatch: Any) -> None:
        def fail() -> None:
            raise RuntimeError

        pool = OwnConnections("default")
        lent = pool.lend(1)
        with monkeypatch.context() as patch:
            patch.setattr(lent, "close_if_unusable_or_obsolete", fail)
            with pytest.raises(RuntimeError):
                pool.take_back(lent)
        assert lent.connection is None
        pool.take_back(pool.lend(1))

    def test_each_database_of_an_alias_has_its_own(self, monkeypatch: Any) -> None:
        """Some projects send an alias to another database while they run."""
        monkeypatch.setattr(own_connections, "_pools", {})
        usual = own_connections.own_connections("default")
        monkeypatch.setitem(connections.settings["default"], "NAME", "another")
        assert own_connections.own_connections("default") is not usual

    def test_a_forked_process_leaves_them_alone(self, kept_claim_connections: None) -> None:
        pool = own_connections.own_connections("default")
        idle = pool.lend(1)
        pool.take_back(idle)
        child = os.fork()
        if child == 0:  # pragma: no cover  (coverage does not follow)
            os._exit(own_connections.own_connections("default") is pool)
        assert os.waitpid(child, 0)[1] == 0
        assert pool.lend(1) is idle
        with idle.cursor() as cursor:
            cursor.execute("SELECT 1")
        idle.close()
        pool.take_back(idle)

    def test_the_lock_stands_in_nobodys_way(self, caller: Caller, after_charge: Any) -> None:
        """The view's own statements, other keys, the purge and the reading of records go on."""
        seen = []

        def others() -> None:
            seen.append(in_thread(lambda: caller.post("/effects/function/", key="k-2")).result())
            seen.append(in_thread(lambda: caller.post("/rest/", key="k-3")).result())
            seen.append(list(DatabaseStore("default").purge(10)))
            seen.append(IdempotencyRecord.objects.filter(key="k-1").values("state").get())
            with transaction.atomic():
                Order.objects.create(item="more")

        after_charge(others)
        assert caller.post("/effects/function/").status_code == 201
        assert [each.status_code for each in seen[:2]] == [201, 201]
        assert seen[2:] == [[], {"state": "claimed"}]

    def test_steps_are_removed_with_their_record(self, caller: Caller) -> None:
        caller.post("/effects/function/")
        caller.post("/effects/function/", key="k-2")
        past = "2000-01-01T00:00Z"
        IdempotencyRecord.objects.filter(key="k-1").update(expires_at=past, purge_at=past)
        kept = IdempotencyRecord.objects.get(key="k-2")
        assert list(DatabaseStore("default").purge(10)) == [1]
        assert [step.record_id for step in IdempotencyStep.objects.all()] == [kept.pk]


def idle_timeout() -> Any:
    with connection.cursor() as cursor:
        cursor.execute("SHOW idle_in_transaction_session_timeout")
        return cursor.fetchone()[0]


def sessions_in_use() -> int:
    sql = {
        "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database()",
        "mysql": "SELECT COUNT(*) FROM information_schema.processlist WHERE db = DATABASE()",
    }
    with connection.cursor() as cursor:
        cursor.execute(sql[connection.vendor])
        return int(cursor.fetchone()[0])
