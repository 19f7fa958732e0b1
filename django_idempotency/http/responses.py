"""Responses as plain data, and back."""

from collections.abc import Iterator
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any, cast

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date
from django.utils.translation import get_language

from ..codecs import Owner, decode, encode
from ..conf import configuration
from ..policy import Policy
from ..protocol.record import Omitted, StoredResponse
from ..remember import Memory
from . import csrf
from .attributes import attributes_of, restore
from .redaction import BODY_HEADERS, Opaque, redacted

LOCALE_MIDDLEWARE = "django.middleware.locale.LocaleMiddleware"

NEVER_STORED = frozenset(
    {
        # RFC 9110, section 7.6.1, and what else is about one connection.
        *("connection", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "proxy-authenticate", "proxy-authorization"),
        # About one answer, not about the result.
        *("date", "server"),
        # Credentials, and what proves them: RFC 6265, RFC 9110 (sections 11.6.2 and 11.6.3), and
        # names without a registration that APIs hand tokens out in. Not WWW-Authenticate: it asks
        # for a credential, and a 401 must have it.
        *("set-cookie", "set-cookie2", "authorization", "authentication-info"),
        *("proxy-authentication-info", "x-auth-token", "x-access-token", "x-refresh-token"),
        *("x-api-key", "x-csrftoken", "x-csrf-token", "x-xsrf-token"),
    }
)
"""Header fields that are left out of every stored response (lower case)."""


def is_stored(response: HttpResponseBase, policy: Policy, memory: Memory) -> bool:
    """Whether a response is remembered: the view's word comes before policy's."""
    return stores_status(response.status_code, policy, memory)


def stores_status(status: int, policy: Policy, memory: Memory) -> bool:
    """The same for a response that is not made yet."""
    if memory.stored is not None:
        return memory.stored
    return status not in policy.not_stored


def keeps_writes(status: int, memory: Memory) -> bool:
    """Whether a response that is not stored keeps what the view has written: a refusal does, unless
    the view said otherwise, because a lockout, a quota or an audit row that could be undone by
    sending a key would be none (I2)."""
    return 400 <= status < 500 and memory.stored is None


def says_not_now(response: HttpResponseBase, memory: Memory) -> bool:
    """Whether a response that is not stored says that nothing was done, rather than that
    something broke: the view's word, a refusal, or 503 (RFC 9110, section 15.6.4)."""
    status = response.status_code
    return memory.stored is False or status < 500 or status == 503


def _date(response: HttpResponseBase, policy: Policy, retention: timedelta | None) -> None:
    """Say when the response was made and until when it replays, where policy wants that.

    :param retention: ``None`` for a response that does not replay
    """
    now = time()
    if policy.completed_header is not None:
        response[policy.completed_header] = http_date(now)
    if policy.expires_header is not None and retention is not None:
        response[policy.expires_header] = http_date(now + retention.total_seconds())


def freeze(
    response: HttpResponseBase,
    policy: Policy,
    memory: Memory,
    owner: Owner,
    retention: timedelta | None = None,
    csrf_secret: bytes = b"",
) -> StoredResponse:
    """Return what to remember; a response that cannot be stored is remembered without body.

    :param owner: of the record
    :param retention: how long it replays, which is written on the response where policy wants that
    :param csrf_secret: of the request, if a token was made of it
    :raises NoKeys: if it is to be encrypted and cannot be
    """
    body = _body_to_store(response, policy, memory, csrf_secret)
    if retention is not None:
        _date(response, policy, None if isinstance(body, Omitted) else retention)
    if isinstance(body, Omitted):
        return StoredResponse(response.status_code, omitted=body)
    is_changed = body is not cast(HttpResponse, response).content
    dropped = _dropped(policy.excluded_headers, is_changed)
    headers = [
        (name, value)
        for name, value in response.items()
        if name.lower() not in dropped and not csrf.shows(value.encode(), csrf_secret)
    ]
    headers += _language(response)
    plain = StoredResponse(
        response.status_code, tuple(headers), body, attributes=attributes_of(response)
    )
    return encode(plain, policy.codec, configuration().keyring, owner)


@lru_cache(maxsize=64)
def _dropped(excluded: frozenset[str], is_changed: bool) -> frozenset[str]:
    return NEVER_STORED | excluded | (BODY_HEADERS if is_changed else frozenset())


def _body_to_store(
    response: HttpResponseBase, policy: Policy, memory: Memory, csrf_secret: bytes
) -> bytes | Omitted:
    """Return the body, without what is redacted; or why it is not kept."""
    if not (memory.body and policy.store_body):
        return Omitted.SECRET
    if response.streaming:
        return Omitted.STREAMING
    body = cast(HttpResponse, response).content
    if len(body) > policy.max_response_size:
        return Omitted.TOO_LARGE
    if csrf.shows(body, csrf_secret) or (csrf_secret and _is_coded(response)):
        return Omitted.CSRF_TOKEN
    try:
        return redacted(body, policy.redacted_fields)
    except Opaque:
        return Omitted.SECRET


def _is_coded(response: HttpResponseBase) -> bool:
    """Whether something inside of the guard has compressed the body, so that nobody can look."""
    return response.get("Content-Encoding", "identity").lower() != "identity"


def _language(response: HttpResponseBase) -> Iterator[tuple[str, str]]:
    """What ``LocaleMiddleware``, above the guard, would say of the first answer. On a replay the
    language of the request may be another one."""
    names = "Content-Language" not in response and LOCALE_MIDDLEWARE in settings.MIDDLEWARE
    language = get_language() if names else None
    if language is not None:
        yield ("Content-Language", language)


def thaw(stored: StoredResponse, policy: Policy, owner: Owner) -> HttpResponse:
    """Return the response again, with the replay marker.

    :param owner: of the record that it was found in
    :raises Unreadable: if it is encrypted and its key is lost, or it is damaged or another
        record's
    """
    stored = decode(stored, configuration().keyring, owner, policy.max_response_size)
    response = HttpResponse(stored.body, status=stored.status)
    del response["Content-Type"]
    for name, value in stored.headers:
        response[name] = value
    if "Location" in response:
        response.url = response["Location"]  # type: ignore[attr-defined]  # as on a redirect
    restore(response, stored.attributes)
    if policy.replay_header is not None:
        response[policy.replay_header] = policy.replay_value
    return response


def rendered(response: Any) -> Any:
    """Render a template or DRF response, if nobody has."""
    if callable(getattr(response, "render", None)) and not getattr(response, "is_rendered", True):
        return response.render()
    return response
