"""Responses as plain data, and back."""

import json
import re
import string
from collections.abc import Collection, Iterator, Mapping
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any, cast

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date
from django.utils.translation import get_language

from ..conf.policy import Policy
from ..conf.settings import configuration
from ..protocol.canonical import plain_text
from ..protocol.codecs import Owner, decode, encode
from ..protocol.record import Omitted, StoredResponse
from ..remember import Memory

REASON = "reason_phrase"
"""The attribute under which a reason phrase is stored that is not the status's usual one."""

_STRUCTURED = {
    f"{name}{suffix}"
    for name in ("_csp_config", "_csp_update", "_csp_replace", "_csp_exempt")
    for suffix in ("", "_ro")
} | {"_csp_ro_config", "_csp_ro_update"}
"""Notes that are more than a flag: Django's and django-csp's decorators for a view's policy."""

DATA = "idempotency_data"
"""What a response of Django REST framework was rendered from, where its body does not say so."""

_OWN = {"closed", "exception", "_is_rendered", "_has_been_logged"}
"""Flags that Django and Django REST framework keep about one object, not about the answer."""

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII).fullmatch


def attributes_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return the notes on a response: its reason phrase and flags, and what CSP is told.

    Flags are true or false, so none can be a credential. Other values are stored under known names
    only, and only if they are plain data.
    """
    found = {name: value for name, value in vars(response).items() if _is_note(name, value)}
    reason = getattr(response, "_reason_phrase", None)
    if reason is not None:
        found[REASON] = str(reason)
    return found


def _is_note(name: str, value: Any) -> bool:
    if name in _STRUCTURED or name == DATA:
        return plain_text(value) is not None
    if not isinstance(value, bool) or name in _OWN or name.startswith("_idempotency"):
        return False
    return not hasattr(HttpResponse, name)


def restore(response: HttpResponseBase, attributes: Mapping[str, Any]) -> None:
    """Put the notes on a replay. What :func:`attributes_of` cannot have stored is left out."""
    for name, value in _known(attributes):
        setattr(response, name, value)


def _known(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if name == REASON:
            if isinstance(value, str) and not re.search(r"[\r\n\0]", value):
                yield name, value
        elif _NAME(name) and _is_note(name, value):
            yield name, value


REDACTED = "[redacted]"
"""What stands in place of a value."""

BODY_HEADERS = frozenset(
    {"content-length", "content-md5", "content-digest", "repr-digest", "digest", "etag"}
)
"""Header fields that would say something untrue of a changed body (lower case)."""


class Opaque(ValueError):
    """A body cannot be looked into, so nobody can say that nothing secret is in it."""


def redacted(body: bytes, fields: Collection[str]) -> bytes:
    """Return the body with the values of some fields replaced; the same object if it has none.

    :param fields: names, which are found at any depth, or paths from the top (``card.number``);
        lists on the way are looked through
    :raises Opaque: if the body is not JSON, or an object in it has a name twice
    """
    if not body or not fields:
        return body
    try:
        document = json.loads(body, object_pairs_hook=_object)
        paths = [tuple(each.split(".")) for each in fields]
        found = [_redact(document, path, anywhere=len(path) == 1) for path in paths]
        return json.dumps(document).encode() if any(found) else body
    except (ValueError, RecursionError) as error:
        raise Opaque from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _redact(value: Any, path: tuple[str, ...], anywhere: bool) -> bool:
    """Replace what the path leads to, in place; return whether there was anything."""
    if isinstance(value, list):
        return sum(_redact(item, path, anywhere) for item in value) > 0
    if not isinstance(value, dict):
        return False
    name, *rest = path
    found = False
    for member, content in value.items():
        if member == name and not rest:
            value[member], found = REDACTED, True
        elif member == name or anywhere:
            found |= _redact(content, tuple(rest) or path, anywhere)
    return found


_ALPHABET = (string.ascii_letters + string.digits).encode()
_SECRET, _TOKEN = 32, 64
"""Characters of a secret and of a token (``django.middleware.csrf``)."""

_RUNS = re.compile(rb"[A-Za-z0-9]{%d,}" % _TOKEN)
_NUMBERS = bytes.maketrans(_ALPHABET, bytes(range(len(_ALPHABET))))


def secret_of(meta: Mapping[str, Any]) -> bytes:
    """Return the request's CSRF secret if a token may have been made of it; else nothing.

    :param meta: the request's ``META``; ``get_token()`` notes there that it was called
    """
    secret = meta.get("CSRF_COOKIE") if meta.get("CSRF_COOKIE_NEEDS_UPDATE") else None
    return secret.encode() if isinstance(secret, str) and len(secret) == _SECRET else b""


def shows(text: bytes, secret: bytes) -> bool:
    """Whether a text holds a secret or a token that was made of it.

    A token is a mask and the secret, shifted by the mask letter by letter. So wherever a token
    stands, the differences between letters that are 32 apart spell the secret. This finds it also
    where an escape such as ``%3D`` leads into it.

    :param secret: empty for none
    """
    if not secret:
        return False
    spelled = secret.translate(_NUMBERS)
    return secret in text or any(
        spelled in _differences(run[0].translate(_NUMBERS)) for run in _RUNS.finditer(text)
    )


def _differences(numbers: bytes) -> bytes:
    size = len(_ALPHABET)
    pairs = zip(numbers[_SECRET:], numbers, strict=False)
    return bytes([(shifted - mask) % size for shifted, mask in pairs])


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


def serialize(
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
        if name.lower() not in dropped and not shows(value.encode(), csrf_secret)
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
    if shows(body, csrf_secret) or (csrf_secret and _is_coded(response)):
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


def deserialize(stored: StoredResponse, policy: Policy, owner: Owner) -> HttpResponse:
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
