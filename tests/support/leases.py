"""Operations whose records are in a cache alone."""

from datetime import timedelta
from typing import Any

from django_idempotency.operations.base import Operation
from django_idempotency.operations.lease import Lease
from django_idempotency.operations.non_atomic import NonAtomicOperation, run_again
from django_idempotency.protocol.record import Claim
from django_idempotency.stores.cache.store import CacheStore

SECRET = b"secret"
LEASE = timedelta(minutes=1)


def leased(
    cache: str, claim: Claim, lease: timedelta = LEASE, resolve: Any = run_again
) -> tuple[Operation, Lease]:
    store = CacheStore(cache, SECRET, lease)
    hold = Lease(store)
    return NonAtomicOperation(store, claim, hold, resolve), hold
