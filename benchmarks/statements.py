"""The floor: claim, lock and store as they are sent, without anything of ours around them."""

import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse

from django_idempotency.protocol.record import Claim, StoredResponse
from django_idempotency.stores.database.dialects import dialect_of
from django_idempotency.stores.database.store import DatabaseStore

BODY = b'{"id": 1, "item": "a small server"}'
RETENTION = timedelta(hours=24)


class Statements:
    """The texts and parameters of one first request, to be sent again under other keys."""

    def __init__(self) -> None:
        self._key = str(uuid.uuid4())
        sent: list[Any] = []

        def keep(execute: Any, text: str, params: Any, many: Any, context: Any) -> Any:
            sent.append((text, params))
            return execute(text, params, many, context)

        claim = Claim("s", self._key, "1:a", "POST", "/", RETENTION)
        store = DatabaseStore(connection.alias)
        with connection.execute_wrapper(keep):
            record = store.claim(claim)
            assert record is not None
            with transaction.atomic():
                store.lock(record.id)
                store.complete(record, StoredResponse(201, (), BODY), RETENTION)
        self._claim, self._lock, self._store = sent

    @contextmanager
    def around(self) -> Iterator[None]:
        """Claim, begin, lock; store and commit at the end."""
        with dialect_of(connection).cursor(connection) as wrapped:
            cursor = wrapped.cursor  # the driver's
            text, parameters = self._claim
            key = str(uuid.uuid4())
            cursor.execute(text, [key if each == self._key else each for each in parameters])
            record = cursor.fetchone()[0]
            with transaction.atomic():
                text, parameters = self._lock
                cursor.execute(text, [*parameters[:-1], record])
                cursor.fetchone()
                yield
                text, parameters = self._store
                attempt_and_state = parameters[-2:]
                cursor.execute(text, [*parameters[:-3], record, *attempt_and_state])
                assert cursor.rowcount == 1


class Around:
    """A middleware that knows no keys: every request is a first one."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response
        self._statements: Statements | None = None

    def __call__(self, request: HttpRequest) -> HttpResponse:
        statements = self._statements = self._statements or Statements()
        with statements.around():
            return self._get_response(request)
