"""One guarded request: from its key to its stored response."""

import logging
from collections.abc import Callable
from typing import Any, assert_never
from urllib.parse import quote

from django.core.exceptions import ImproperlyConfigured
from django.db import router
from django.http import HttpRequest, HttpResponse
from django.http.response import HttpResponseBase

from ..conf import configuration
from ..lifecycle.operation import InFlight, Operation, Started, Unavailable
from ..models import IdempotencyRecord
from ..policy import Anonymous, Fingerprint, Policy
from ..protocol import problems
from ..protocol.decision import Mismatch, Replay
from ..protocol.fingerprint import NO_PAYLOAD, Payload, fingerprint
from ..protocol.keys import InvalidKey, parse_key
from ..protocol.problems import Problem
from ..protocol.record import Claim, StoredResponse
from ..protocol.scope import scope_digest, short_digest
from ..stores.db import DatabaseStore
from .body import payload
from .principal import Parts, principal
from .responses import freeze, thaw

logger = logging.getLogger("django_idempotency")

Answer = HttpResponse | Problem
"""What the guard says instead of the view: a replay, or an error."""

DURABLE = (
    "django_idempotency: a guarded view runs in one transaction with its record, so nothing in it "
    "can commit on its own (atomic mode; there is no non-atomic mode yet). Use atomic() without "
    "durable=True, or @idempotency_exempt."
)
"""Added to Django's error when a view asks for a durable block."""

ANONYMOUS: Parts = ("anonymous",)


def read_key(request: HttpRequest, policy: Policy) -> str | Problem | None:
    """Return the request's key; ``None`` if it has none and needs none. Costs no query."""
    value = request.META.get(policy.meta_key)
    if value is None:
        return problems.key_missing(policy.header) if policy.required else None
    try:
        return parse_key(value, policy.key_format, policy.key_max_length)
    except InvalidKey as error:
        return problems.key_invalid(policy.header, str(error))


class Guard:
    """Guards one request. A door starts it, and says how the view ended.

    :param request: Django's request
    :param policy: the view's policy
    """

    def __init__(self, request: HttpRequest, policy: Policy, key: str) -> None:
        self._request = request
        self._policy = policy
        self._key = key
        self._operation: Operation | None = None

    def start(self, caller: Any, parsed: Callable[[], Payload | None]) -> Answer | None:
        """Claim the key. ``None``: run the view; otherwise this is the answer.

        :param caller: the request that knows who sent it; in a DRF view, DRF's own
        :param parsed: digests what a framework has parsed, if it consumed the body
        """
        scope = principal(caller, self._policy)
        if scope is None:
            if self._policy.anonymous is Anonymous.IGNORE:
                logger.warning("Key %s of an anonymous caller ignored", self._name)
                return None
            if self._policy.anonymous is Anonymous.REFUSE:
                return problems.anonymous_refused(self._policy.header)
            scope = ANONYMOUS
        using = self._policy.using or router.db_for_write(IdempotencyRecord)
        operation = Operation(DatabaseStore(using), self._claim(scope, parsed), using)
        answer = self._begin(operation)
        if answer is None:
            self._operation = operation
            self._request.idempotency = operation  # type: ignore[attr-defined]
        return answer

    def fail(self, error: BaseException) -> None:
        """The view raised."""
        if self._operation is not None:
            self._operation.fail(error)
            if isinstance(error, RuntimeError) and "durable" in str(error):
                error.add_note(DURABLE)

    def finish(self, response: HttpResponseBase) -> None:
        """The response is rendered: store it and commit, or undo the view's writes."""
        operation, self._operation = self._operation, None
        if operation is None:
            return
        try:
            stored = operation.finish(freeze(response, self._policy))
        except BaseException as error:
            operation.fail(error)
            raise
        if not stored:
            logger.info("Key %s: status %d not stored", self._name, response.status_code)

    @property
    def _name(self) -> str:
        return short_digest(self._key)

    def _begin(self, operation: Operation) -> Answer | None:
        policy = self._policy
        begun = operation.begin()
        logger.debug("Key %s: %s", self._name, type(begun).__name__)
        match begun:
            case Started():
                return None
            case Replay(response):
                return self._replay(response)
            case Mismatch():
                return problems.key_reused(policy.header, policy.mismatch_status)
            case InFlight():
                return problems.in_flight(policy.in_flight_status, policy.retry_after)
            case Unavailable():
                return problems.store_busy(policy.retry_after)
        assert_never(begun)

    def _replay(self, response: StoredResponse) -> Answer:
        if response.omitted:
            reason = response.omitted.replace("_", " ")
            return problems.response_unavailable(response.status, reason)
        return thaw(response, self._policy)

    def _claim(self, scope: Parts, parsed: Callable[[], Payload | None]) -> Claim:
        request = self._request
        return Claim(
            scope=scope_digest(configuration().secret, scope),
            key=self._key,
            fingerprint=self._fingerprint(parsed),
            method=request.method or "",
            # For people only: short, and free of characters that a column might refuse.
            path=quote(request.path)[:255],
            retention=self._policy.retention,
        )

    def _fingerprint(self, parsed: Callable[[], Payload | None]) -> str:
        request, method = self._request, self._request.method or ""
        if self._policy.fingerprint is Fingerprint.NONE:
            return fingerprint(method, request.path, "", NO_PAYLOAD)
        content = payload(request) or parsed()
        if content is None:
            raise ImproperlyConfigured(
                "The request's body was read before the idempotency guard could digest it. "
                "List IdempotencyMiddleware in MIDDLEWARE, or read request.body, which stays "
                "available, instead of request.read()."
            )
        return fingerprint(method, request.path, request.META.get("QUERY_STRING", ""), content)
