"""An operation and its claim, without a request."""

from datetime import timedelta

from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.protocol.record import Claim, StoredResponse
from django_idempotency.stores.database.store import DatabaseStore

CREATED = StoredResponse(201, (("X-Id", "1"),), b"made")


def a_claim(fingerprint: str = "1:a", key: str = "k") -> Claim:
    return Claim("scope", key, fingerprint, "POST", "/", timedelta(hours=1))


def an_operation(store: DatabaseStore | None = None, **changes: str) -> AtomicOperation:
    return AtomicOperation(store or DatabaseStore("default"), a_claim(**changes), "default")
