from typing import Any

import pytest
from django.db import connection, transaction

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.operations.base import Operation, Started
from django_idempotency.protocol.record import Claim, Replay, State
from django_idempotency.stores.cache.cached_database import CachedDatabaseStore
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.stores.contract import CREATED, StoreContract, a_claim
from tests.support.redis_server import RedisServer


@pytest.mark.django_db(transaction=True)
class TestDatabaseStore(StoreContract):
    one_writer = connection.vendor == "sqlite"

    def store(self) -> DatabaseStore:
        return DatabaseStore("default")

    def operation(self, claim: Claim) -> Operation:
        return AtomicOperation(self.store(), claim, connection)

    def dying(self, claim: Claim) -> Operation:
        """The database ends its transaction."""
        operation = self.operation(claim)
        assert operation.begin() == Started()
        operation.fail(ConnectionError())
        return operation

    def expire(self, claim: Claim) -> None:
        past = "2020-01-01T00:00Z"
        IdempotencyRecord.objects.filter(key=claim.key).update(expires_at=past, purge_at=past)

    def purged(self) -> int:
        return sum(self.store().purge(10))

    # What an operator removes

    @pytest.mark.parametrize(
        "since", [{"attempt": 2}, {"state": State.CLAIMED}, {"state": State.CLAIMED, "attempt": 2}]
    )
    def test_what_has_changed_since_it_was_looked_at_stays(self, since: dict[str, Any]) -> None:
        """Somebody decided about another attempt, or about another state."""
        self.complete()
        seen = IdempotencyRecord.objects.get()
        IdempotencyRecord.objects.update(**since)
        assert self.store().remove(seen.pk, State(seen.state), seen.attempt) is False
        assert IdempotencyRecord.objects.exists()

    def test_what_a_retry_completed_meanwhile_stays(self) -> None:
        self.dying(a_claim())
        seen = IdempotencyRecord.objects.get()
        self.complete()
        assert self.store().remove(seen.pk, State(seen.state), seen.attempt) is False
        assert self.answer() == Replay(CREATED)

    def test_what_is_as_it_was_seen_goes(self) -> None:
        self.complete()
        seen = IdempotencyRecord.objects.get()
        assert self.store().remove(seen.pk, State(seen.state), seen.attempt) is True
        assert not IdempotencyRecord.objects.exists()


class TestCachedDatabaseStore(TestDatabaseStore):
    """Whatever is in the cache by now."""

    @pytest.fixture(autouse=True)
    def _redis(self, redis: RedisServer) -> None:
        """Behind the alias that the store names."""

    def store(self) -> DatabaseStore:
        writer_of("redis").flush()
        return CachedDatabaseStore("default", cache="redis", secret=b"secret")


@pytest.mark.usefixtures("waiting_commits")
@pytest.mark.skipif(connection.vendor != "postgresql", reason="PostgreSQL's setting")
@pytest.mark.parametrize(
    ("waits_for_disk", "known", "setting"),
    [(False, False, "off"), (False, True, "on"), (True, False, "on")],
)
def test_only_the_commit_of_a_new_claim_does_not_wait_for_the_disk(
    waits_for_disk: bool, known: bool, setting: str
) -> None:
    """Decision 0001. As the claim commits at once, it is run here in a longer transaction."""
    claim = a_claim()
    if known:
        DatabaseStore("default").claim(claim)
    with transaction.atomic(), connection.cursor() as cursor:
        dialect_of(connection).claim(connection, claim, waits_for_disk)
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == (setting,)
    with connection.cursor() as cursor:
        cursor.execute("SHOW synchronous_commit")
        assert cursor.fetchone() == ("on",)
