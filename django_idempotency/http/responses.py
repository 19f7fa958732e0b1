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

from ..codecs import decode, encode
from ..conf import configuration
from ..policy import Policy
from ..protocol.record import Omitted, StoredResponse
from ..remember import Memory
from .redaction import BODY_HEADERS, Opaque, redacted

LOCALE_MIDDLEWARE = "django.middleware.locale.LocaleMiddleware"

NEVER_STORED = frozenset(
    {
        # RFC 9110, section 7.6.1, and what else is about one connection.
        *("connection", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "proxy-authenticate", "proxy-authorization"),
        # About one answer, not about the result.
        *("date", "server"),
        # A credential.
        "set-cookie",
    }
)
"""Header fields that are left out of every stored response (lower case)."""


def is_stored(response: HttpResponseBase, policy: Policy, memory: Memory) -> bool:
    """Whether a response is remembered: the view's word comes before policy's."""
    if memory.stored is not None:
        return memory.stored
    return response.status_code not in policy.not_stored


def says_not_now(response: HttpResponseBase, memory: Memory) -> bool:
    """Whether a response that is not stored says that nothing was done, rather than that
    something broke: the view's word, a refusal, or 503 (RFC 9110, section 15.6.4)."""
    status = response.status_code
    return memory.stored is False or status < 500 or status == 503


def date(response: HttpResponseBase, policy: Policy, retention: timedelta) -> None:
    """Say when the response was made and until when it replays, where policy wants that."""
    now = time()
    if policy.completed_header is not None:
        response[policy.completed_header] = http_date(now)
    if policy.expires_header is not None:
        response[policy.expires_header] = http_date(now + retention.total_seconds())


def freeze(response: HttpResponseBase, policy: Policy, memory: Memory) -> StoredResponse:
    """Return what to remember; a response that cannot be stored is remembered without body.

    :raises NoKeys: if it is to be encrypted and cannot be
    """
    omitted = _omitted(response, policy, memory)
    if omitted:
        return StoredResponse(response.status_code, omitted=omitted)
    body = cast(HttpResponse, response).content
    try:
        stored = redacted(body, policy.redacted_fields)
    except Opaque:
        return StoredResponse(response.status_code, omitted=Omitted.SECRET)
    dropped = _dropped(policy.excluded_headers, is_changed=stored is not body)
    headers = [pair for pair in response.items() if pair[0].lower() not in dropped]
    headers += _language(response)
    plain = StoredResponse(response.status_code, tuple(headers), stored)
    return encode(plain, policy.codec, configuration().keyring)


@lru_cache(maxsize=64)
def _dropped(excluded: frozenset[str], is_changed: bool) -> frozenset[str]:
    return NEVER_STORED | excluded | (BODY_HEADERS if is_changed else frozenset())


def _omitted(response: HttpResponseBase, policy: Policy, memory: Memory) -> Omitted:
    if not (memory.body and policy.store_body):
        return Omitted.SECRET
    if response.streaming:
        return Omitted.STREAMING
    if len(cast(HttpResponse, response).content) > policy.max_response_size:
        return Omitted.TOO_LARGE
    return Omitted.NOTHING


def _language(response: HttpResponseBase) -> Iterator[tuple[str, str]]:
    """What ``LocaleMiddleware``, above the guard, would say of the first answer. On a replay the
    language of the request may be another one."""
    names = "Content-Language" not in response and LOCALE_MIDDLEWARE in settings.MIDDLEWARE
    language = get_language() if names else None
    if language is not None:
        yield ("Content-Language", language)


def thaw(stored: StoredResponse, policy: Policy) -> HttpResponse:
    """Return the response again, with the replay marker.

    :raises Unreadable: if it is encrypted and its key is lost, or it is damaged
    """
    stored = decode(stored, configuration().keyring)
    response = HttpResponse(stored.body, status=stored.status)
    del response["Content-Type"]
    for name, value in stored.headers:
        response[name] = value
    if "Location" in response:
        response.url = response["Location"]  # type: ignore[attr-defined]  # as on a redirect
    if policy.replay_header is not None:
        response[policy.replay_header] = policy.replay_value
    return response


def rendered(response: Any) -> Any:
    """Render a template or DRF response, if nobody has."""
    if callable(getattr(response, "render", None)) and not getattr(response, "is_rendered", True):
        return response.render()
    return response
