"""Helpers for the tests of guarded views, in ``TestCase``, ``TransactionTestCase`` and pytest.

Only tests import this module. What does not hold is an ``AssertionError`` that says why.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import timedelta
from inspect import iscoroutine
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from django.db import router
from django.db.models import F, QuerySet

from .conf import configuration
from .http.guard import Guard, Status
from .invalidation import forget_in_cache
from .models import IdempotencyRecord
from .policy import Fingerprint, Policy
from .protocol.record import State
from .stores.clock import StoreTime

_MOMENT = timedelta(seconds=1)


def assert_idempotent(
    client: Any,
    path: str,
    data: Any = None,
    *,
    method: str = "post",
    other: Any = None,
    creates: QuerySet[Any] | None = None,
    policy: Mapping[str, object] | None = None,
    key: str | None = None,
    **extra: Any,
) -> Any:
    """Send a request, its retry, and another body under the same key.

    The retry must get the same status and bytes, marked as a replay (with ``redacted_fields`` other
    bytes; with ``store_body=False`` 409); the other body must be refused.

    :param client: Django's test client, or DRF's
    :param data: the body, as the client's methods take it
    :param method: ``post``, ``put``, ``patch`` or ``delete``
    :param other: another body, which must be refused; left out: ``data`` with a field more
    :param creates: the query set that one execution makes longer by one
    :param policy: what ``@idempotent`` of this view changes, if that is a header, the
        fingerprint, or what is stored
    :param key: the key to send, if not a new one
    :param extra: what else the client's method takes: ``content_type``, ``format``, ``headers``
    :return: the response to the first request
    """
    promised = configuration().policy_for(path.partition("?")[0]).override(**(policy or {}))
    key = key or str(uuid4())
    send = _sender(client, method, path, promised, key, extra)
    before = None if creates is None else creates.all().count()
    first = send(data)
    used = _is_marked(first, promised)
    _check(not used, f"The key {key!r} was used before: send a new one.")
    retry = send(data)
    _check_replay(first, retry, promised, key)
    if promised.fingerprint is not Fingerprint.NONE:
        _check_mismatch(send(_other(data, other)), promised)
    if creates is not None and before is not None:
        grown = creates.all().count() - before
        _check(grown == 1, f"One execution makes one object more. There are {grown} more.")
    return first


@contextmanager
def crash() -> Iterator[None]:
    """Let the worker die in the next guarded requests: the view has run, nothing is committed.

    What the view wrote is rolled back, the record stays claimed, and the client gets no answer::

        with crash():
            self.client.post("/orders/", order, headers={"idempotency-key": "k"})
        self.client.post("/orders/", order, headers={"idempotency-key": "k"})  # runs
    """
    with _interrupted() as seen:

        def die(guard: Guard, *args: Any) -> Status:
            seen.append(True)
            raise _Interrupted

        with patch.object(Guard, "_store", die):
            yield


@contextmanager
def lost_response() -> Iterator[None]:
    """Let the answers to guarded requests get lost: all is committed, the client knows nothing::

    with lost_response():
        self.client.post("/orders/", order, headers={"idempotency-key": "k"})
    self.client.post("/orders/", order, headers={"idempotency-key": "k"})  # replays
    """
    store = Guard._store
    with _interrupted() as seen:

        def disconnect(guard: Guard, *args: Any) -> Status:
            seen.append(store(guard, *args) is not Status.NOT_STORED)
            raise _Interrupted

        with patch.object(Guard, "_store", disconnect):
            yield
    _check(all(seen), "The response was not stored: its status is one that is not remembered.")


def expire(key: str, *, ago: timedelta = _MOMENT, using: str | None = None) -> None:
    """Let the retention of a key be over, for each caller who sent it.

    :param key: as it was sent, without quotes
    :param ago: for how long, for policies with a ``tombstone``
    :param using: alias of the database, if not the one that guarded views use by default
    """
    changed = _change(_records(using).filter(key=key), expires_at=StoreTime(-ago))
    _check(changed > 0, f"There is no record of the key {key!r}.")


def advance(by: timedelta, *, using: str | None = None) -> None:
    """Let time pass for every record, as if all had been made and answered earlier.

    Libraries that freeze Python's clock do not move the one that decides about expiry, which is
    the database's.

    :param using: alias of the database, if not the one that guarded views use by default
    """
    if by < timedelta(0):
        raise ValueError(f"Time passes forward: by must not be negative, it is {by!r}")
    times = ("created_at", "completed_at", "expires_at")
    _change(_records(using), **{name: F(name) - by for name in times})


class _Interrupted(BaseException):
    """Passes through what catches exceptions, as the end of a process does."""


@contextmanager
def _interrupted() -> Iterator[list[bool]]:
    seen: list[bool] = []
    try:
        yield seen
    except _Interrupted:
        return
    _check(
        bool(seen),
        "No guarded request ran to its end: is the view guarded, the caller known to it, and the "
        "key a new one?",
    )


def _sender(
    client: Any, method: str, path: str, policy: Policy, key: str, extra: dict[str, Any]
) -> Callable[[Any], Any]:
    if method.upper() not in policy.methods:
        raise ValueError(f"{method!r} is not guarded; {', '.join(sorted(policy.methods))} are")
    headers = {**extra.pop("headers", {}), policy.header: key}
    call = getattr(client, method.lower())

    def send(data: Any) -> Any:
        given = {} if data is None else {"data": data}
        response = call(path, **given, headers=headers, **extra)
        if iscoroutine(response):
            response.close()
            raise TypeError("Pass a client that answers at once: Django's Client, not AsyncClient")
        return response

    return send


def _check_replay(first: Any, retry: Any, policy: Policy, key: str) -> None:
    got = f"The first request got {first.status_code}, its retry {retry.status_code}."
    if not policy.store_body:
        _check(retry.status_code == 409, f"The retry must get 409: no body was stored. {got}")
        return
    if policy.replay_header is not None and not _is_marked(retry, policy):
        raise AssertionError(
            f"The retry was not answered with a replay. {got} {_reason(policy, key)}"
        )
    _check(retry.status_code == first.status_code, got)
    same = retry.content == first.content or bool(policy.redacted_fields)
    _check(same, "The retry got other bytes than the first request.")


def _is_marked(response: Any, policy: Policy) -> bool:
    """Whether a response carries the replay marker, if there is one."""
    return policy.replay_header is not None and policy.replay_header in response


def _reason(policy: Policy, key: str) -> str:
    """Say what most likely stood in the way."""
    states = set(_records(policy.using).filter(key=key).values_list("state", flat=True))
    if not states:
        return (
            "No record was made: the view is not guarded, or the caller is anonymous (log in, or "
            "see ANONYMOUS)."
        )
    if State.CLAIMED in states:
        return "The first response was not stored: its status is one that is not remembered."
    return "The first response is remembered, but not its body."


def _check_mismatch(response: Any, policy: Policy) -> None:
    replayed = _is_marked(response, policy)
    _check(
        not replayed and 400 <= response.status_code < 500,
        f"Another body under the same key must be refused; it got {response.status_code}"
        f"{', a replay' if replayed else ''}. Pass a body that differs in what the view compares "
        "as other=...",
    )


def _other(data: Any, other: Any) -> Any:
    if other is not None:
        return other
    if data is None or isinstance(data, Mapping):
        return {**(data or {}), "another-field": "another value"}
    raise TypeError("Pass another body as other=...: only one that is a dict can be made up")


def _records(using: str | None) -> QuerySet[IdempotencyRecord]:
    alias = using or configuration().policy.using or router.db_for_write(IdempotencyRecord)
    return IdempotencyRecord._base_manager.using(alias)


def _change(records: QuerySet[IdempotencyRecord], **values: Any) -> int:
    for record in records:
        forget_in_cache(record, records.db)  # whose copies would live on
    return records.update(**values)


def _check(holds: bool, message: str) -> None:
    # Not an assert statement: Python leaves those out under -O.
    if not holds:
        raise AssertionError(message)
