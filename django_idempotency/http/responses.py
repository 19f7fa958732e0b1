"""Serialize responses for the record, without credentials, and deserialize them for a replay."""

import json
import re
import string
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from functools import lru_cache
from time import time
from typing import Any, cast

from django.conf import settings
from django.http import HttpResponse
from django.http.response import HttpResponseBase
from django.utils.http import http_date
from django.utils.translation import get_language

from ..compat.django import header_fields
from ..conf.policy import Policy
from ..conf.settings import configuration
from ..protocol.codecs import Codec, Owner, decode, encode
from ..protocol.record import Omitted, StoredResponse, plain_text

NEVER_STORED = frozenset(
    {
        # About one connection: RFC 9110, section 7.6.1, among others.
        *("connection", "keep-alive", "proxy-connection", "te", "trailer"),
        *("transfer-encoding", "upgrade", "proxy-authenticate", "proxy-authorization"),
        # About one answer, not about the result.
        *("date", "server"),
        # Credentials and their proofs: RFC 6265, RFC 9110 (sections 11.6.2 and 11.6.3), and
        # unregistered names in which APIs hand out tokens. Not WWW-Authenticate: it asks for a
        # credential, and a 401 must have it.
        *("set-cookie", "set-cookie2", "authorization", "authentication-info"),
        *("proxy-authentication-info", "x-auth-token", "x-access-token", "x-refresh-token"),
        *("x-api-key", "x-csrftoken", "x-csrf-token", "x-xsrf-token"),
    }
)
"""Header fields that are left out of every stored response (lower case)."""

BODY_HEADERS = frozenset(
    {"content-length", "content-md5", "content-digest", "repr-digest", "digest", "etag"}
)
"""Header fields that would say something untrue of a changed body (lower case)."""

LOCALE_MIDDLEWARE = "django.middleware.locale.LocaleMiddleware"

REASON = "reason_phrase"
"""The attribute under which a reason phrase is stored that is not the status's usual one."""

DATA = "idempotency_data"
"""The data that a response of Django REST framework was rendered from, if its body differs."""

MESSAGES = "idempotency_messages"
"""The messages that the view has left for the next page, if they are kept in cookies."""

_STRUCTURED = {
    f"{name}{suffix}"
    for name in ("_csp_config", "_csp_update", "_csp_replace", "_csp_exempt")
    for suffix in ("", "_ro")
} | {"_csp_ro_config", "_csp_ro_update", DATA, MESSAGES}
"""Attributes that are more than a flag: ``DATA``, ``MESSAGES``, and the marks that Django's and
django-csp's decorators leave for a view's policy."""

_OWN = {"closed", "exception", "_is_rendered", "_has_been_logged"}
"""Flags that Django and Django REST framework keep about one object, not about the answer."""

_IDENTIFIER = re.compile(r"[A-Za-z_]\w*", re.ASCII).fullmatch

REDACTED = "[redacted]"
"""Replaces the value of a redacted field."""


@dataclass(frozen=True, slots=True)
class StorageChoices:
    """The view's wishes about storing one response (:mod:`django_idempotency.remember`).

    :ivar stored: whether it is stored; ``None`` leaves that to policy
    :ivar body: whether its body may be stored
    :ivar retention: how long it replays; ``None`` leaves that to policy
    """

    stored: bool | None = None
    body: bool = True
    retention: timedelta | None = None


NO_CHOICES = StorageChoices()

CHOICES = "_idempotency_choices"
"""Attribute of a response or an exception that has a :class:`StorageChoices`."""


def storage_choices(thing: object, default: StorageChoices = NO_CHOICES) -> StorageChoices:
    """Return the view's wishes about a response or an exception."""
    return getattr(thing, CHOICES, default)


def stores_status(status: int, policy: Policy, choices: StorageChoices) -> bool:
    """Whether a response with this status is stored: the view's wish overrides policy."""
    return status not in policy.not_stored if choices.stored is None else choices.stored


def keeps_writes(status: int, choices: StorageChoices) -> bool:
    """Whether the view's writes are kept although its response is not stored: those of a refusal
    are, unless the view wishes otherwise. Else a caller could undo a lockout, a quota or an audit
    row by sending a key (I2)."""
    return 400 <= status < 500 and choices.stored is None


def did_nothing(status: int, choices: StorageChoices) -> bool:
    """Whether a response that is not stored says that nothing was done, rather than that
    something broke: by the view's wish, as a refusal, or as 503 (RFC 9110, section 15.6.4)."""
    return choices.stored is False or status < 500 or status == 503


Render = Callable[[Any], Any]
"""Makes the response of what a function of the project returns, as its view's handler would."""


def rendered(response: Any) -> Any:
    """Render a template or DRF response, if Django has not done so."""
    if callable(getattr(response, "render", None)) and not getattr(response, "is_rendered", True):
        return response.render()
    return response


def serialize(
    response: HttpResponseBase,
    policy: Policy,
    choices: StorageChoices,
    owner: Owner,
    retention: timedelta | None = None,
    meta: Mapping[str, Any] | None = None,
) -> StoredResponse:
    """Return a response as stored data; one that cannot be stored is remembered without body.

    :param owner: of the record
    :param retention: how long it replays, which is written on the response where policy wants that
    :param meta: the request's ``META``, whose CSRF secret must not be stored
    :raises NoKeys: if it is to be encrypted and cannot be
    """
    # ``get_token()`` notes in META that a token has been made of the secret.
    secret = _csrf_secret(meta) if meta and "CSRF_COOKIE_NEEDS_UPDATE" in meta else b""
    body = _body(response, policy, choices, secret)
    if retention is not None:
        now = time()
        if policy.completed_header is not None:
            response[policy.completed_header] = http_date(now)
        if policy.expires_header is not None and not isinstance(body, Omitted):
            response[policy.expires_header] = http_date(now + retention.total_seconds())
    if isinstance(body, Omitted):
        return StoredResponse(response.status_code, omitted=body)
    is_changed = bool(policy.redacted_fields) and body != cast(HttpResponse, response).content
    dropped = _dropped(policy.excluded_headers, is_changed)
    headers = []
    for field in header_fields(response).values():
        if field[0].lower() not in dropped and not (secret and _shows(field[1].encode(), secret)):
            headers.append(field)
    if LOCALE_MIDDLEWARE in settings.MIDDLEWARE and "Content-Language" not in response:
        # The middleware, above the guard, sets this on the first response only after it is stored.
        # The request of a replay may have another language.
        language = get_language()
        if language is not None:
            headers.append(("Content-Language", language))
    plain = StoredResponse(
        response.status_code, tuple(headers), body, attributes=attributes_of(response)
    )
    if policy.codec is Codec.PLAIN:
        return plain
    return encode(plain, policy.codec, configuration().keyring, owner)


@lru_cache(maxsize=64)
def _dropped(excluded: frozenset[str], is_changed: bool) -> frozenset[str]:
    return NEVER_STORED | excluded | (BODY_HEADERS if is_changed else frozenset())


def _body(
    response: HttpResponseBase, policy: Policy, choices: StorageChoices, csrf_secret: bytes
) -> bytes | Omitted:
    """Return the body, redacted; or the reason why it is not stored."""
    if not (choices.body and policy.store_body):
        return Omitted.SECRET
    if response.streaming:
        return Omitted.STREAMING
    body: bytes = response.content  # type: ignore[attr-defined]  # it is no streaming one
    if len(body) > policy.max_response_size:
        return Omitted.TOO_LARGE
    if csrf_secret:
        # Compressed below the guard, the body cannot be searched.
        is_coded = response.get("Content-Encoding", "identity").lower() != "identity"
        if is_coded or _shows(body, csrf_secret):
            return Omitted.CSRF_TOKEN
    if not policy.redacted_fields:
        return body
    try:
        return redacted(body, policy.redacted_fields)
    except NotJson:
        return Omitted.SECRET


def deserialize(stored: StoredResponse, policy: Policy, owner: Owner) -> HttpResponse:
    """Return the response again, with the replay marker.

    :param owner: of the record that it was found in
    :raises Unreadable: if it is encrypted and its key is lost, or it is damaged or another
        record's
    """
    if stored.codec:
        stored = decode(stored, configuration().keyring, owner, policy.max_response_size)
    response = HttpResponse(stored.body, status=stored.status)
    del response["Content-Type"]
    for name, value in stored.headers:
        response[name] = value
    if "Location" in response:
        response.url = response["Location"]  # type: ignore[attr-defined]  # as on a redirect
    if stored.attributes:
        _restore(response, stored.attributes)
    if policy.replay_header is not None:
        response[policy.replay_header] = policy.replay_value
    return response


def attributes_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return the attributes that a replay needs, too: reason phrase, flags, and notes for CSP.

    Flags are true or false, so none can be a credential. Other values are stored under known names
    only, and only if they are plain data.
    """
    known = vars(response)
    found: dict[str, Any] = {}
    for name, value in known.items():
        if (value is True or value is False) and name not in _OWN and _is_storable(name, value):
            found[name] = value
    for name in _STRUCTURED.intersection(known):
        if _is_storable(name, known[name]):
            found[name] = known[name]
    reason = getattr(response, "_reason_phrase", None)
    if reason is not None:
        found[REASON] = str(reason)
    return found


def _restore(response: HttpResponseBase, attributes: Mapping[str, Any]) -> None:
    """Set attributes of a replay, except those that :func:`attributes_of` does not store."""
    for name, value in attributes.items():
        if name == REASON:
            if isinstance(value, str) and not re.search(r"[\r\n\0]", value):
                response.reason_phrase = value
        elif _IDENTIFIER(name) and _is_storable(name, value):
            setattr(response, name, value)


def _is_storable(name: str, value: Any) -> bool:
    if name in _STRUCTURED:
        return plain_text(value) is not None
    if not isinstance(value, bool) or name in _OWN or name.startswith("_idempotency"):
        return False
    return not hasattr(HttpResponse, name)


class NotJson(ValueError):
    """A body that is not JSON cannot be searched for secrets."""


def redacted(body: bytes, fields: Collection[str]) -> bytes:
    """Return the body with the values of some fields replaced; the same object if it has none.

    :param fields: names, which are found at any depth, or paths from the top (``card.number``);
        lists on the way are looked through
    :raises NotJson: if the body is not JSON, or an object in it has a name twice
    """
    if not body or not fields:
        return body
    try:
        document = json.loads(body, object_pairs_hook=_object)
        paths = [tuple(each.split(".")) for each in fields]
        found = [_redact(document, path, anywhere=len(path) == 1) for path in paths]
        return json.dumps(document).encode() if any(found) else body
    except (ValueError, RecursionError) as error:
        raise NotJson from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) < len(pairs):
        raise ValueError("a name stands twice in one object")
    return members


def _redact(value: Any, path: tuple[str, ...], anywhere: bool) -> bool:
    """Replace the values at a path, in place; return whether there are any."""
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
_NUMBERS = bytes.maketrans(_ALPHABET, bytes(range(len(_ALPHABET))))
_SECRET, _TOKEN = 32, 64
"""Characters of a secret and of a token (``django.middleware.csrf``)."""

_RUNS = re.compile(rb"[A-Za-z0-9]{%d,}" % _TOKEN)


def _csrf_secret(meta: Mapping[str, Any]) -> bytes:
    secret = meta.get("CSRF_COOKIE") if meta.get("CSRF_COOKIE_NEEDS_UPDATE") else None
    return secret.encode() if isinstance(secret, str) and len(secret) == _SECRET else b""


def _shows(text: bytes, secret: bytes) -> bool:
    """Whether a text holds a CSRF secret or a token that was made of it.

    A token is a mask and the secret, shifted by the mask letter by letter. So wherever a token
    stands, the differences between letters that are 32 apart spell the secret. This finds it also
    where an escape such as ``%3D`` leads into it.
    """
    if secret in text:
        return True
    spelled = secret.translate(_NUMBERS)
    for run in _RUNS.finditer(text):
        numbers = run[0].translate(_NUMBERS)
        pairs = zip(numbers[_SECRET:], numbers, strict=False)
        if spelled in bytes([(shifted - mask) % len(_ALPHABET) for shifted, mask in pairs]):
            return True
    return False
