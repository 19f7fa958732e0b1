"""One signal per outcome of a guarded request, and the log line that goes with it.

A request with a key has exactly one outcome::

    @receiver(mismatch)
    def count(sender, event, request, **kwargs): ...

``sender`` is the view: the class of a class-based one, otherwise the function in the URLconf.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from time import perf_counter
from typing import Any

from django.dispatch import Signal
from django.http import HttpRequest

from .conf.policy import Policy
from .protocol.keys import named, short_digest, short_scope

__all__ = [
    "SIGNALS",
    "Event",
    "Outcome",
    "conflict",
    "connect",
    "executed",
    "failed_open",
    "interrupted",
    "mismatch",
    "not_done",
    "recovered",
    "refused",
    "replayed",
    "unprotected",
    "without_key",
]

logger = logging.getLogger("django_idempotency")


class Outcome(StrEnum):
    """How a guarded request ended."""

    EXECUTED = "executed"
    RECOVERED = "recovered"
    NOT_DONE = "not_done"
    INTERRUPTED = "interrupted"
    REPLAYED = "replayed"
    CONFLICT = "conflict"
    MISMATCH = "mismatch"
    REFUSED = "refused"
    FAILED_OPEN = "failed_open"


executed = Signal()
"""The view ran, and its response is committed."""
recovered = Signal()
"""The same, for a record that an earlier attempt had left interrupted."""
not_done = Signal()
"""The view ran, and says that nothing was done: its key is free again, for any request."""
interrupted = Signal()
"""The view or its resolver ran, and nothing is stored: a retry runs or asks again."""
replayed = Signal()
"""The stored response is the answer."""
conflict = Signal()
"""Another attempt under this key is in flight."""
mismatch = Signal()
"""The key belongs to another request."""
refused = Signal()
"""Any other error answer; ``event.reason`` is its code."""
failed_open = Signal()
"""The store does not answer, and the policy lets the view run. Sent before it runs."""

unprotected = Signal()
"""No outcome: a key was sent that nothing looks up, because the caller is anonymous or the view is
not guarded. Sent with the request alone, as is the next one."""
without_key = Signal()
"""No outcome: the middleware has seen a write without a key, after its view. It does not ask
whether the view is guarded."""

SIGNALS: dict[Outcome, Signal] = {outcome: globals()[outcome] for outcome in Outcome}
"""The signal of each outcome has the outcome's name."""


def connect(receiver: Callable[..., Any]) -> None:
    """Let a function receive every outcome."""
    for signal in SIGNALS.values():
        signal.connect(receiver)


def tell(signal: Signal, request: HttpRequest) -> None:
    """Send :data:`unprotected` or :data:`without_key`, if anybody listens."""
    if signal.receivers:
        signal.send_robust(sender=None, request=request)


LEVELS = dict.fromkeys(Outcome, logging.INFO) | {
    Outcome.EXECUTED: logging.DEBUG,
    Outcome.NOT_DONE: logging.DEBUG,
    Outcome.REPLAYED: logging.DEBUG,
    Outcome.FAILED_OPEN: logging.WARNING,
}
"""Levels of the log lines."""


@dataclass(frozen=True, slots=True)
class Event:
    """An outcome and its facts, without the key, the caller, or any part of a body.

    :ivar method: of the request
    :ivar view: the view's name in the URLconf, with namespaces; otherwise its dotted path
    :ivar route: the URL pattern, never the path; both are empty without a URLconf
    :ivar status: HTTP status of the answer; ``None`` if the view raised or has not run yet
    :ivar attempt: number of the execution under the record; 0 if the view did not run
    :ivar duration: seconds since the guard first saw the request
    :ivar guard_duration: seconds of these that the guard itself has taken: those that are left
        without the view, the rendering of its response, and the handling of its exception
    :ivar reason: code of the error response, if any; name of the exception, if the guard itself
        (a resolver, for example) raised one
    :ivar cause: what has led to the outcome, for people: "connection refused"; mostly empty. It
        may name hosts and tables, but no key, no password, and nothing that a request contains
    :ivar key_digest: first digits of the key's SHA-256, as in the logs; empty without a valid key
    :ivar scope_digest: first digits of the record's scope, which is a keyed digest of the caller;
        empty if the guard has not come to know the caller
    :ivar policy: of the view
    """

    outcome: Outcome
    method: str
    view: str
    route: str
    status: int | None
    attempt: int
    duration: float
    guard_duration: float
    reason: str
    cause: str
    key_digest: str
    scope_digest: str
    policy: Policy = field(repr=False)


FACTS = tuple(name for name in Event.__slots__ if name != "policy")
"""Fields of an event that are also attributes of the log record."""


@dataclass(slots=True)
class Subject:
    """What outcomes are about: one guarded request, or one run of a function. The guard completes
    it as it goes on.

    :ivar request: for receivers
    :ivar key: empty if there is no valid one
    :ivar started: when the guard saw the request, by ``perf_counter()``
    :ivar scope: of the record; empty as long as it is unknown
    :ivar away: seconds since :attr:`started` in which others than the guard were at work
    """

    request: HttpRequest
    policy: Policy
    key: str
    started: float
    scope: str = ""
    away: float = 0.0


def report(
    subject: Subject,
    outcome: Outcome,
    status: int | None = None,
    attempt: int = 0,
    reason: str = "",
    cause: str = "",
) -> None:
    """Tell receivers and the log how a request ended. Costs next to nothing if nothing listens.

    A receiver that raises changes nothing; Django logs it (logger ``django.dispatch``).

    :param status: HTTP status of the answer, if there is one
    :param attempt: number of the execution under the record; 0 if the view did not run
    :param reason: code of an error answer, or name of an exception
    :param cause: what has led to it, for people
    """
    signal, level = SIGNALS[outcome], LEVELS[outcome]
    is_logged = logger.isEnabledFor(level)
    if not is_logged and not signal.receivers:
        return
    request = subject.request
    match = request.resolver_match
    duration = perf_counter() - subject.started
    event = Event(
        outcome=outcome,
        method=request.method or "",
        view="" if match is None else match.view_name,
        route="" if match is None else match.route,
        status=status,
        attempt=attempt,
        duration=duration,
        guard_duration=duration - subject.away,
        reason=reason,
        cause=cause,
        key_digest=short_digest(subject.key) if subject.key else "",
        scope_digest=short_scope(subject.scope),
        policy=subject.policy,
    )
    if is_logged:
        facts = {name: getattr(event, name) for name in FACTS} | {"outcome": str(outcome)}
        logger.log(level, "%s", line_of(event), extra=facts)
    # Receivers name a view by its class; Django resolves a path to a function.
    view: Any = None if match is None else match.func
    sender = getattr(view, "cls", None) or getattr(view, "view_class", None) or view
    signal.send_robust(sender=sender, event=event, request=request)


def line_of(event: Event) -> str:
    """Return the log line of an outcome::

    Key 6f1ed002ab55, scope 0a1b9c3d4e5f: interrupted (503) in orders:create, attempt 2, guard 3 ms
    """
    line = named(event.key_digest, event.scope_digest) + f": {event.outcome}"
    if event.status is not None:
        line += f" ({event.status})"
    if event.view:
        line += f" in {event.view}"
    if event.attempt:
        line += f", attempt {event.attempt}"
    line += f", guard {event.guard_duration * 1000:.1f} ms"
    why = ": ".join(filter(None, (event.reason, event.cause)))
    return f"{line}, {why}" if why else line
