"""The claim of a request: its caller, its key, and the fingerprint of its target and body.

JSON documents and forms are compared by value, other bodies byte by byte. The view still reads the
body from its start: the guard keeps the bytes that it has read, in memory or in a temporary file.
"""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import lru_cache
from hashlib import file_digest
from io import BytesIO
from typing import IO, Any, cast
from urllib.parse import quote, unquote

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    ImproperlyConfigured,
    SuspiciousOperation,
)
from django.http import HttpRequest, QueryDict
from django.http.request import UnreadablePostError, split_domain_port

from ..conf.policy import CountHost, Fingerprint, Policy
from ..conf.settings import configuration
from ..protocol.fingerprint import (
    NO_PAYLOAD,
    Payload,
    Target,
    custom_fingerprint,
    fingerprint,
    json_payload,
    query_values,
    raw_payload,
)
from ..protocol.keys import SCOPE, keyed_digest
from ..protocol.record import Claim
from .body import MULTIPART, InMemory, RereadableStream, charset_of, form, form_in, uploaded
from .principal import Parts

LARGEST_JSON = 1024 * 1024
"""Bytes up to which JSON is compared by value; a larger document is compared byte by byte."""

LONGEST_PATH = 255
"""Characters of a path that a record keeps."""

LONGEST_REQUEST_ID = 64
"""Characters of a request's id that a record keeps."""

_LOCAL = frozenset({"localhost", ".localhost", "127.0.0.1", "[::1]", "testserver"})
"""Entries of ``ALLOWED_HOSTS`` for health checks, development and tests, not for clients."""

_DEFAULT = Policy()

_OURS = (RereadableStream, InMemory)


class BodyTooLarge(Exception):
    """A body is larger than policy lets the guard keep."""


def claim_of(
    request: HttpRequest,
    policy: Policy,
    key: str,
    scope: Parts,
    view_request: Any,
    parsed: Callable[[], Payload | None],
) -> Claim:
    """Return the claim of a request under a key.

    :param scope: the parts that identify the caller
    :param view_request: the request that the view gets, and so do the policy's functions
    :param parsed: digests the data that a framework has parsed, if it consumed the body
    :raises BodyTooLarge: if policy does not want such a body kept
    :raises ImproperlyConfigured: if the body was consumed, or policy's function returns no text
    """
    if isinstance(policy.fingerprint, Fingerprint):
        target = target_of(request, policy, view_request)
        compares_body = policy.fingerprint is not Fingerprint.NONE
        content = (payload(request, policy) or parsed()) if compares_body else NO_PAYLOAD
        if content is None:
            raise ImproperlyConfigured(
                "The request's body was read before the idempotency guard could digest it. "
                "List IdempotencyMiddleware in MIDDLEWARE, or read request.body, which stays "
                "available, instead of request.read()."
            )
        digest = fingerprint(target, content)
    else:
        text = policy.fingerprint(view_request)
        if not isinstance(text, str):
            # An object's default text would be another one for each retry.
            raise ImproperlyConfigured(
                f"FINGERPRINT returned an instance of {type(text).__qualname__}. It must return "
                "text that is equal in two requests if they are the same operation."
            )
        digest = custom_fingerprint(text)
    secret = configuration().secret
    return Claim(
        scope=keyed_digest(SCOPE + secret, scope).hex(),
        key=key,
        fingerprint=digest,
        method=request.method or "",
        # For people only: short, and free of characters that a column might refuse.
        path=quote(request.path)[:LONGEST_PATH],
        retention=policy.retention,
        tombstone=policy.tombstone,
        codec=str(policy.codec),
        secret=secret,
        request_id=""
        if policy.request_id is None
        else _request_id(policy.request_id, view_request),
    )


def _request_id(source: Callable[[Any], Any] | str, request: Any) -> str:
    """Return the id of a request, short, and free of characters that a column might refuse: where a
    header has it, a client may have written it.

    :param source: a header, or a function of the project
    """
    found = request.headers.get(source) if isinstance(source, str) else source(request)
    return "" if found is None else request_id_as_kept(str(found))


def path_as_kept(text: str) -> str:
    """Return a path, or its beginning, as records have it.

    :param text: as people have it: with or without percent-encoding
    """
    return quote(unquote(text))[:LONGEST_PATH]


def request_id_as_kept(text: str) -> str:
    """Return the id of a request as records have it."""
    return quote(text, safe=":/=+@")[:LONGEST_REQUEST_ID]


def target_of(request: HttpRequest, policy: Policy, view_request: Any) -> Target:
    """Return the target of a request: the parts that policy compares.

    :param view_request: the request that the view gets: DRF's knows the version of the API
    """
    query = host = version = ""
    if policy.fingerprint is not Fingerprint.NONE:
        query = request.META.get("QUERY_STRING", "")
        if query:
            query = _query(query, policy)
        # A versioning scheme of DRF may read a header, which is not compared otherwise.
        if hasattr(view_request, "_request") and isinstance(
            getattr(view_request, "version", None), str
        ):
            version = view_request.version
    counts = policy.fingerprint_host
    if counts is CountHost.ALWAYS or (
        counts is CountHost.AUTO and _are_many(tuple(settings.ALLOWED_HOSTS))
    ):
        # As get_host() does, but any: the code that asks Django for the host refuses a wrong one.
        sent = cast(Any, request)._get_raw_host()
        host = _split(sent)[0] or sent
    return Target(request.method or "", request.path, query, host, version)


_split = lru_cache(maxsize=64)(split_domain_port)


def _query(sent: str, policy: Policy) -> str:
    """Return the query string by value: neither order nor spelling counts."""
    ignored = policy.fingerprint_ignored_parameters
    if policy.fingerprint is Fingerprint.BYTES and not ignored:
        return f"bytes {sent}"
    try:
        # One character per byte, so that bytes that are no text stay different.
        values = QueryDict(sent, encoding="latin-1")
    except (SuspiciousOperation, ValueError):  # more parameters than the project accepts
        return f"bytes {sent}"
    wanted = [
        (name, (str(value),))
        for name, items in values.lists()
        if name not in ignored
        for value in items
    ]
    return query_values(wanted) if wanted else ""


@lru_cache(maxsize=8)
def _are_many(allowed: tuple[str, ...]) -> bool:
    """Whether a project answers under more than one name, as far as ``ALLOWED_HOSTS`` says."""
    names = {name.lower() for name in allowed} - _LOCAL
    return len(names) > 1 or any(name == "*" or name.startswith(".") for name in names)


def payload(request: HttpRequest, policy: Policy = _DEFAULT) -> Payload | None:
    """Digest the body; ``None`` if it was consumed and no copy is left.

    :raises BodyTooLarge: above ``policy.max_request_size``; unread, if its length was announced
    :raises UnreadablePostError: if the client stops sending
    :raises BadRequest: if the body is shorter than announced
    """
    length = request.META.get("CONTENT_LENGTH") or "0"
    announced = int(length) if str(length).isdecimal() else _announced(request)
    if policy.max_request_size is not None and announced > policy.max_request_size:
        raise BodyTooLarge
    bare = (request.content_type or "").lower()
    selection = policy.selection
    if bare == MULTIPART and hasattr(request, "_files") and not _chunked(request):
        return form(request.POST, uploaded(request), selection)
    try:
        body = _read(request, announced, policy.max_request_size)
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    if body is None:
        return None
    source, size = body
    if size < announced:
        # Remembering half a body would refuse the whole one.
        raise BadRequest("The request's body ended before its Content-Length.")
    if size == 0:
        return NO_PAYLOAD
    media_type = media_type_of(request) if request.content_params else bare
    found = None
    if bare.endswith("json") and size <= LARGEST_JSON and not selection.by_bytes:
        found = json_payload(source.read(), selection, media_type)
    elif not selection.by_bytes and (announced or bare != MULTIPART):
        # Without a length Django's parser of multipart finds nothing.
        found = form_in(request, source, size, selection)
    if found is None:
        source.seek(0)
        found = raw_payload(media_type, file_digest(cast(Any, source), "sha256").digest())
    return found


def parsed_payload(request: HttpRequest, data: Any, policy: Policy) -> Payload | None:
    """Digest data that a framework has parsed; ``None`` if that is not all of the body.

    :param data: a form, or a JSON document
    """
    selection = policy.selection
    if isinstance(data, QueryDict):
        is_text = all(isinstance(each, str) for _, items in data.lists() for each in items)
        return form(data, [], selection, charset_of(request)) if is_text else None
    try:
        document = json.dumps(data).encode()
    except (TypeError, ValueError):
        return None
    return json_payload(document, selection, media_type_of(request))


def media_type_of(request: HttpRequest) -> str:
    """Return the media type, with the charset where the same bytes would be other text."""
    bare, charset = (request.content_type or "").lower(), charset_of(request)
    return f"{bare}; charset={charset}" if charset else bare


def keep_body(request: Any) -> RereadableStream | InMemory | None:
    """Replace the request's stream by one that can be read twice, and return it; ``None`` if the
    view or a middleware has begun to read the body."""
    stream = _chunked(request) or getattr(request, "_stream", None)
    if isinstance(stream, _OURS):
        return stream
    if stream is None or hasattr(request, "_body") or request._read_started:
        return None
    request._stream = kept = RereadableStream(stream)
    if _announced(request) and "wsgi.input" in request.META:
        request.META["wsgi.input"] = kept
    return kept


@contextmanager
def read_ahead(request: Any) -> Iterator[None]:
    """Let code read the body, as it likes, before the view reads it from where it stands now."""
    stream, has_begun = keep_body(request), request._read_started
    position = 0 if stream is None else stream.tell()
    yield
    if stream is not None and not hasattr(request, "_body"):
        stream.go_back(position)
        request._read_started = has_begun


def whole_body(request: HttpRequest, largest: int) -> bytes | None:
    """Return the body from its start; ``None`` if it was consumed and no copy is left.

    :param largest: number of bytes
    :raises BodyTooLarge: for more
    """
    found = _read(request, _announced(request), largest)
    return None if found is None else found[0].read()


def _read(request: Any, announced: int, largest: int | None) -> tuple[IO[bytes], int] | None:
    """Return the body from its start and its size in bytes; ``None`` if no copy is left.

    :raises BodyTooLarge: for more bytes than ``largest``
    """
    unread = getattr(request, "_stream", None)
    kept = unread if isinstance(unread, RereadableStream) and not unread.filled else None
    if kept is not None:
        unread = kept.source
    stream: RereadableStream | InMemory | None
    if hasattr(request, "_body") and not _chunked(request):
        stream = InMemory(request.body)
    elif (
        not 0 < announced <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        or unread is None
        or isinstance(unread, _OURS)
        or request._read_started
    ):
        stream = keep_body(request)
    else:
        # The common case. One byte more than announced shows whether the length is right.
        data = unread.read(announced + 1)
        if kept is not None:  # a view may have taken it from the request already
            kept.fill(data)
        is_whole = len(data) == announced
        stream = InMemory(data) if is_whole else kept or RereadableStream(unread, data)
        request._stream = stream
        if "wsgi.input" in request.META:
            request.META["wsgi.input"] = stream
    if stream is None:
        return None
    size = len(stream.getvalue()) if isinstance(stream, InMemory) else stream.load(largest)
    if largest is not None and size > largest:
        raise BodyTooLarge
    return BytesIO(stream.getvalue()) if isinstance(stream, InMemory) else stream.whole(), size


def _chunked(request: HttpRequest) -> RereadableStream | None:
    """Return the stream of a body without an announced length, which Django takes for none: a view
    may read it from ``wsgi.input``, where the server says that the input ends."""
    meta = request.META
    if not meta.get("HTTP_TRANSFER_ENCODING") or not meta.get("wsgi.input_terminated"):
        return None
    if _announced(request):
        return None
    stream = meta["wsgi.input"]
    if not isinstance(stream, RereadableStream):
        stream = meta["wsgi.input"] = RereadableStream(stream)
    return stream


def _announced(request: HttpRequest) -> int:
    """Return the announced length of the body in bytes; 0 if there is none."""
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0
