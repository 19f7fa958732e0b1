"""An operation and its claim, without a request."""

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import connections

from django_idempotency.operations.atomic import AtomicOperation
from django_idempotency.protocol.record import Claim, StoredResponse
from django_idempotency.stores.database.store import DatabaseStore
from django_idempotency.stores.database.transactions import write_transaction

CREATED = StoredResponse(201, (("X-Id", "1"),), b"made")


def a_claim(fingerprint: str = "1:a", key: str = "k") -> Claim:
    return Claim("scope", key, fingerprint, "POST", "/", timedelta(hours=1))


def an_operation(store: DatabaseStore | None = None, **changes: str) -> AtomicOperation:
    return AtomicOperation(
        store or DatabaseStore("default"), a_claim(**changes), connections["default"]
    )


@contextmanager
def rival() -> Iterator[DatabaseStore]:
    """A store on another connection, in a transaction that it has begun like an attempt does."""
    connections["rival"] = connections.create_connection("default")
    connections["rival"].ensure_connection()
    try:
        with write_transaction("rival"):
            yield DatabaseStore("rival")
    finally:
        connections["rival"].close()
        del connections["rival"]
