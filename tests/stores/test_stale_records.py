"""Records that expire, change version or lose their attempt at the worst moment."""

from datetime import timedelta
from types import SimpleNamespace
from typing import Any

import pytest
from django.db import OperationalError, connection
from django.db.models import F

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import InFlight, Started
from django_idempotency.protocol.record import Omitted, Snapshot
from django_idempotency.stores.base import Busy
from django_idempotency.stores.database.dialects import Dialect, dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import in_thread
from tests.support.operations import CREATED, a_claim, an_operation


@pytest.mark.django_db(transaction=True)
class TestStore:
    def test_a_response_of_another_version_is_not_guessed_at(self) -> None:
        """Stored payloads are plain, versioned data."""
        operation = an_operation()
        assert operation.begin() == Started()
        assert operation.finish(CREATED)
        intact = IdempotencyRecord.objects.values().get()
        for damage in (
            {"state": "paused"},
            {"response_version": 9},
            {"response_status": None},
            {"response_status": 999},
            {"response_headers": "{"},
            {"response_headers": "[" * 5000},
            {"response_headers": '[["X", "a\\r\\nSet-Cookie: b"]]'},
            {"response_body": None},
            {"response_omitted": "lost"},
        ):
            IdempotencyRecord.objects.update(**{**intact, **damage})
            found = DatabaseStore("default").claim(a_claim())
            assert found is not None
            assert found.response is not None
            assert found.response.omitted is Omitted.UNREADABLE

    def test_a_stale_attempt_completes_nothing(self) -> None:
        """I12: the number is the fence, and so is the state."""
        store = DatabaseStore("default")
        stale = store.claim(a_claim())
        assert stale is not None
        store.bump_fencing_token(stale)
        assert store.complete(stale, CREATED, timedelta(hours=1)) is False
        current = store.claim(a_claim())
        assert current is not None
        assert store.complete(current, CREATED, timedelta(hours=1)) is True
        assert store.complete(current, CREATED, timedelta(hours=1)) is False

    def test_mysqls_claim_reads_and_then_gives_way(self) -> None:
        """MySQL has no compound statements; its claim is tried on MariaDB."""
        if connection.vendor != "mysql":
            pytest.skip("in MySQL's dialect")
        mysql, claim = dialect_of(connection), a_claim()
        first, second = (Dialect.claim(mysql, connection, claim, False) for _ in range(2))
        assert first is not None
        assert second is not None
        assert (first.fresh, second.fresh, first.id) == (True, False, second.id)
        assert mysql.insert_claim(connection, claim) is None

    def test_other_databases_keep_no_records(self) -> None:
        """The check E006 says so before a request does."""
        oracle = dialect_of(SimpleNamespace(vendor="oracle"))
        assert not oracle.is_supported
        with pytest.raises(NotImplementedError, match="PostgreSQL, MySQL, MariaDB or SQLite"):
            oracle.claim(connection, a_claim(), False)

    def test_a_record_that_cannot_be_evicted_is_in_flight(self) -> None:
        class Stubborn(DatabaseStore):
            def evict(self, record_id: int) -> bool:
                raise Busy

        DatabaseStore("default").claim(a_claim())
        IdempotencyRecord.objects.update(expires_at=F("created_at") - timedelta(days=1))
        assert an_operation(Stubborn("default")).begin() == InFlight()

    def test_a_record_that_expires_between_claim_and_lock_is_claimed_anew(self) -> None:
        class Slow(DatabaseStore):
            def lock(self, record_id: int, *wait: Any) -> Snapshot | None:
                found = super().lock(record_id, *wait)
                if found is not None and not Slow.late:
                    Slow.late = True
                    self._records().filter(pk=record_id).update(expires_at="2000-01-01T00:00Z")
                    return super().lock(record_id, *wait)
                return found

            late = False

        operation = an_operation(Slow("default"))
        assert operation.begin() == Started()
        assert operation.finish(CREATED)

    def test_a_takeover_that_fails_leaves_no_transaction(self) -> None:
        class Broken(DatabaseStore):
            def bump_fencing_token(self, record: Snapshot, commits: bool = False) -> None:
                raise OperationalError("the server is gone")

        DatabaseStore("default").claim(a_claim())
        with pytest.raises(OperationalError):
            an_operation(Broken("default")).begin()
        assert not connection.in_atomic_block
        assert in_thread(lambda: an_operation(key="other").begin()).result() == Started()
