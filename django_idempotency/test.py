"""Helpers for the tests of guarded views, in ``TestCase``, ``TransactionTestCase`` and pytest.

Only tests import this module. A failed assertion is an ``AssertionError`` with an explanation.
"""

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from inspect import iscoroutine
from typing import Any
from unittest.mock import patch
from uuid import uuid4

from django.apps import apps
from django.core.handlers.base import BaseHandler
from django.db.models import F, QuerySet

from .conf.policy import Policy, StoreKind
from .conf.settings import configuration
from .guard.guard import Guard
from .guard.status import Status
from .invalidation import forget_copies
from .models import IdempotencyRecord
from .protocol.keys import short_digest
from .protocol.problems import Code
from .protocol.record import State
from .signals import SIGNALS, Event, Outcome
from .stores.cache.store import backend_of
from .stores.database.dialects import StoreTime

__all__ = ["advance", "assert_idempotent", "crash", "expire", "lost_response"]

NOT_STORED = (
    "The response was not stored: its status is in NOT_STORED, or its view called not_done()."
)

_MOMENT = timedelta(seconds=1)


def assert_idempotent(
    client: Any,
    path: str,
    data: Any = None,
    *,
    method: str = "post",
    other: Any = None,
    creates: QuerySet[Any] | None = None,
    status: int | None = None,
    policy: Mapping[str, object] | None = None,
    key: str | None = None,
    **extra: Any,
) -> Any:
    """Send a request, its retry, and another body under the same key.

    The first must succeed and be stored. The retry must get the same status and bytes, marked
    as a replay (with ``redacted_fields`` other bytes; with ``store_body=False`` the error
    ``idempotency_response_unavailable``). The other body must be refused as
    ``idempotency_key_reused``. The assertions use the guard's own signals, so a response that only
    looks like a replay does not pass.

    :param client: Django's test client, or DRF's; its requests must run in this process
    :param data: the body, as the client's methods take it
    :param method: ``post``, ``put``, ``patch`` or ``delete``
    :param other: another body, which must be refused; by default ``data`` with one more field
    :param creates: the query set to which one execution adds one object
    :param status: the status of the first request; by default any status below 400
    :param policy: options of this view's ``@idempotent`` about headers, the fingerprint, or the
        stored response
    :param key: the key to send; by default a new one. Where the policy's function finds keys, it is
        the one that is in ``data``
    :param extra: further arguments of the client's method, such as ``content_type``, ``headers``
    :return: the response to the first request
    """
    promised = configuration().policy_for(path.partition("?")[0]).override(**(policy or {}))
    key = key or str(uuid4())
    send = _sender(client, method, path, promised, key, extra)
    before = None if creates is None else creates.all().count()

    def check_creates(when: str) -> None:
        if creates is not None and before is not None:
            grown = creates.all().count() - before
            _check(grown == 1, f"One execution must add one object. {when} there are {grown} more.")

    first = send(data)
    _check_first(first, status, key)
    check_creates("After the first request")
    _check_retry(first.response, send(data), promised)
    check_creates("After the retry")
    if promised.compares_body:
        _check_mismatch(send(_other(data, other)), promised)
        check_creates("After another body under the same key")
    return first.response


@contextmanager
def crash() -> Iterator[None]:
    """Let the worker die in the next guarded requests: the view has run, nothing is stored.

    The record stays claimed, and the client gets no answer. In atomic mode the view's writes are
    rolled back. With ``atomic=False`` the view had committed them itself, so they remain, and the
    outcome of the operation is unknown: the policy's ``on_interrupted`` decides about its retry::

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
    """Lose the answers to guarded requests: they commit, but the client gets no response::

    with lost_response():
        self.client.post("/orders/", order, headers={"idempotency-key": "k"})
    self.client.post("/orders/", order, headers={"idempotency-key": "k"})  # replays
    """
    store = Guard._store
    with _interrupted() as seen:

        def note(guard: Guard, *args: Any) -> Status:
            status = store(guard, *args)
            seen.append(status not in {Status.NOT_STORED, Status.NOT_DONE})
            return status

        with patch.object(Guard, "_store", note), _no_response_after(seen):
            yield
    _check(all(seen), NOT_STORED)


def expire(key: str, *, ago: timedelta = _MOMENT, using: str | None = None) -> None:
    """End the retention of a key, for each caller who sent it.

    It works for records in a database: those in a cache alone (``store="cache"``) cannot be found
    by their key. Use :func:`advance` for them.

    :param key: as the client sent it, without quotes
    :param ago: how long ago the retention ended, for policies with a ``tombstone``
    :param using: alias of the database; by default the one of the settings
    """
    ended = StoreTime(-ago)
    changed = _change(_records(using).filter(key=key), expires_at=ended, purge_at=ended)
    _check(
        changed > 0,
        f"There is no record of the key {key!r} in the database. (Records in a cache alone cannot "
        "be found by their key: use advance().)",
    )


def advance(by: timedelta, *, using: str | None = None) -> None:
    """Let time pass for every record, including those in ``IDEMPOTENCY["CACHE"]``, and for effects.

    The store's clock decides expiry; libraries that freeze Python's clock do not change it.

    :param using: alias of the database; by default the one of the settings
    """
    if by < timedelta(0):
        raise ValueError(f"Time passes forward: by must not be negative, it is {by!r}")
    settings = configuration()
    if settings.cache is not None:
        backend_of(settings.cache).let_time_pass(by)
    if settings.policy.store is not StoreKind.CACHE or using is not None:
        times = ("created_at", "completed_at", "expires_at", "purge_at")
        _change(_records(using), **{name: F(name) - by for name in times})
    if apps.is_installed("django_idempotency.effects"):
        effects = apps.get_model("idempotency_effects", "IdempotencyEffect")
        times = ("due_at", "staged_at", "finished_at", "purge_at")
        alias = IdempotencyRecord.alias(using or settings.policy.using)
        effects.rows(alias).update(**{name: F(name) - by for name in times})


@dataclass(frozen=True, slots=True)
class _Answer:
    """A response, and the events of its request."""

    response: Any
    events: list[Event]

    def ended(self, outcome: Outcome, reason: str = "") -> bool:
        """Whether there was exactly one event, with this outcome."""
        seen = [event.outcome for event in self.events]
        return seen == [outcome] and (not reason or self.events[0].reason == reason)

    @property
    def what(self) -> str:
        """The status and the outcomes, for messages."""
        said = ", ".join(
            f"{event.outcome} ({event.reason})" if event.reason else str(event.outcome)
            for event in self.events
        )
        return f"{self.response.status_code} ({said or 'no guard took part'})"


@contextmanager
def _events(key: str) -> Iterator[list[Event]]:
    """Collect the events of a key in this process."""
    seen: list[Event] = []
    digest = short_digest(key)

    def note(event: Event, **kwargs: Any) -> None:
        if event.key_digest == digest:
            seen.append(event)

    for signal in SIGNALS.values():
        signal.connect(note, weak=False)
    try:
        yield seen
    finally:
        for signal in SIGNALS.values():
            signal.disconnect(note)


class _Interrupted(BaseException):
    """Passes through handlers of ``Exception``, as the end of a process does."""


@contextmanager
def _interrupted() -> Iterator[list[bool]]:
    seen: list[bool] = []
    try:
        yield seen
    except _Interrupted:
        return
    _check(
        bool(seen),
        "No guarded request completed: is the view guarded, the caller authenticated, and the "
        "key new?",
    )


@contextmanager
def _no_response_after(seen: list[bool]) -> Iterator[None]:
    """Interrupt a request after Django has handled it, and ``ATOMIC_REQUESTS`` has committed."""
    whole, whole_async = BaseHandler.get_response, BaseHandler.get_response_async

    def handle(handler: Any, request: Any) -> Any:
        response = whole(handler, request)
        if seen:
            raise _Interrupted
        return response

    async def handle_async(handler: Any, request: Any) -> Any:
        response = await whole_async(handler, request)
        if seen:
            raise _Interrupted
        return response

    with (
        patch.object(BaseHandler, "get_response", handle),
        patch.object(BaseHandler, "get_response_async", handle_async),
    ):
        yield


def _sender(
    client: Any, method: str, path: str, policy: Policy, key: str, extra: dict[str, Any]
) -> Callable[[Any], _Answer]:
    if method.upper() not in policy.methods:
        raise ValueError(f"{method!r} is not guarded; {', '.join(sorted(policy.methods))} are")
    headers = dict(extra.pop("headers", {}))
    if policy.header is not None:
        headers[policy.header] = key
    call = getattr(client, method.lower())

    def send(data: Any) -> _Answer:
        given = {} if data is None else {"data": data}
        with _events(key) as events:
            response = call(path, **given, headers=headers, **extra)
        if iscoroutine(response):
            response.close()
            raise TypeError("Pass a client that answers at once: Django's Client, not AsyncClient")
        return _Answer(response, events)

    return send


def _check_first(first: _Answer, status: int | None, key: str) -> None:
    _check(not first.ended(Outcome.REPLAYED), f"The key {key!r} was used before: send a new one.")
    got = f"The first request got {first.what}."
    _check(
        bool(first.events),
        f"{got} No record was made: the view is not guarded, or the caller is anonymous (log in, "
        "or see ANONYMOUS).",
    )
    _check(
        not first.ended(Outcome.INTERRUPTED),
        f"{got} It was not stored: its status is in NOT_STORED.",
    )
    _check(not first.ended(Outcome.NOT_DONE), f"{got} Its view says that nothing was done.")
    _check(first.ended(Outcome.EXECUTED), f"{got} The request must run once and be stored.")
    code = first.response.status_code
    if status is None:
        _check(code < 400, f"{got} It must succeed (or say which error is meant: status={code}).")
    else:
        _check(code == status, f"{got} It must get {status}.")
    _check(_is_recorded(first.events[0].policy, key), f"{got} Its record no longer exists.")


def _is_recorded(policy: Policy, key: str) -> bool:
    """Whether there is a completed record. In a cache it can only be found by its caller."""
    if policy.store is StoreKind.CACHE:
        return True
    return _records(policy.using).filter(key=key, state=State.COMPLETED).exists()


def _check_retry(first: Any, retry: _Answer, policy: Policy) -> None:
    response = retry.response
    got = f"The first request got {first.status_code}, its retry {retry.what}."
    if not policy.store_body:
        refused = retry.ended(Outcome.REFUSED, Code.RESPONSE_UNAVAILABLE)
        _check(
            refused and response.status_code == 409,
            f"The retry must get 409 {Code.RESPONSE_UNAVAILABLE}: no body was stored. {got}",
        )
        return
    why = f"The retry was not answered with a replay. {got}"
    if retry.ended(Outcome.REFUSED, Code.RESPONSE_UNAVAILABLE):
        why = f"{why} The body of the first response was not stored."
    _check(retry.ended(Outcome.REPLAYED), why)
    marked = policy.replay_header is None or policy.replay_header in response
    _check(marked, f"The replay is not marked with {policy.replay_header}. {got}")
    _check(response.status_code == first.status_code, got)
    same = response.content == first.content or bool(policy.redacted_fields)
    _check(same, "The retry got other bytes than the first request.")


def _check_mismatch(answer: _Answer, policy: Policy) -> None:
    response = answer.response
    replayed = policy.replay_header is not None and policy.replay_header in response
    refused = answer.ended(Outcome.MISMATCH, Code.KEY_REUSED)
    _check(
        refused and not replayed and 400 <= response.status_code < 500,
        f"Another body under the same key must be refused as {Code.KEY_REUSED}; it got "
        f"{answer.what}. Pass a body that differs in what the view compares as other=...",
    )


def _other(data: Any, other: Any) -> Any:
    if other is not None:
        return other
    if data is None or isinstance(data, Mapping):
        return {**(data or {}), "another-field": "another value"}
    raise TypeError("Pass another body as other=...: only one that is a dict can be made up")


def _records(using: str | None) -> QuerySet[IdempotencyRecord]:
    return IdempotencyRecord.rows(IdempotencyRecord.alias(using or configuration().policy.using))


def _change(records: QuerySet[IdempotencyRecord], **values: Any) -> int:
    for record in records:
        forget_copies(records.db, record.scope, record.key)
    return records.update(**values)


def _check(holds: bool, message: str) -> None:
    # Not an assert statement: Python leaves those out under -O.
    if not holds:
        raise AssertionError(message)
