"""Compute the fingerprint of a request from its target and its body.

JSON documents and forms are compared by value, other bodies byte by byte. The view still reads the
body from its start: the guard keeps the bytes that it has read, in memory or in a temporary file.
"""

import codecs
import json
import weakref
from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from hashlib import file_digest, sha256
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import (
    BadRequest,
    DisallowedHost,
    ImproperlyConfigured,
    RequestDataTooBig,
    SuspiciousOperation,
)
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import UnreadablePostError, split_domain_port

from ..conf.policy import CountHost, Fingerprint, Policy
from ..protocol.fingerprint import (
    NO_PAYLOAD,
    Payload,
    Selection,
    Target,
    custom_fingerprint,
    fingerprint,
    form_payload,
    json_payload,
    query_values,
    raw_payload,
)

CHUNK = 64 * 1024
"""Bytes read at a time."""

LARGEST_JSON = 1024 * 1024
"""Bytes up to which JSON is compared by value; a larger document is compared byte by byte."""

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
CSRF_FIELD = "csrfmiddlewaretoken"
"""Changes with every rendering of a form, so it is no part of the payload."""

_LOCAL = frozenset({"localhost", ".localhost", "127.0.0.1", "[::1]", "testserver"})
"""Entries of ``ALLOWED_HOSTS`` for health checks, development and tests, not for clients."""

_DEFAULT = Policy()


class BodyTooLarge(Exception):
    """A body is larger than policy lets the guard keep."""


def fingerprint_of(
    request: HttpRequest, policy: Policy, caller: Any, parsed: Callable[[], Payload | None]
) -> str:
    """Return the fingerprint of a request, as policy compares requests.

    :param caller: the request that policy's own function gets; in a DRF view, DRF's
    :param parsed: digests the data that a framework has parsed, if it consumed the body
    :raises BodyTooLarge: if policy does not want such a body kept
    :raises ImproperlyConfigured: if the body was consumed, or the function returns no text
    """
    if not isinstance(policy.fingerprint, Fingerprint):
        text = policy.fingerprint(caller)
        if not isinstance(text, str):
            # An object's default text would be another one for each retry.
            raise ImproperlyConfigured(
                f"FINGERPRINT returned an instance of {type(text).__qualname__}. It must return "
                "text that is equal in two requests if they are the same operation."
            )
        return custom_fingerprint(text)
    target = target_of(request, policy, caller)
    if policy.fingerprint is Fingerprint.NONE:
        return fingerprint(target, NO_PAYLOAD)
    content = payload(request, policy) or parsed()
    if content is None:
        raise ImproperlyConfigured(
            "The request's body was read before the idempotency guard could digest it. "
            "List IdempotencyMiddleware in MIDDLEWARE, or read request.body, which stays "
            "available, instead of request.read()."
        )
    return fingerprint(target, content)


def target_of(request: HttpRequest, policy: Policy, caller: Any) -> Target:
    """Return the target of a request: the parts that policy compares.

    :param caller: the request that knows the version of the API: in a DRF view, DRF's
    """
    query = host = version = ""
    if policy.fingerprint is not Fingerprint.NONE:
        query = request.META.get("QUERY_STRING", "")
        if query:
            query = _query(query, policy)
        # A versioning scheme of DRF may read a header, which is not compared otherwise.
        if hasattr(caller, "_request") and isinstance(getattr(caller, "version", None), str):
            version = caller.version
    counts = policy.fingerprint_host
    if counts is CountHost.ALWAYS or (
        counts is CountHost.AUTO and _are_many(tuple(settings.ALLOWED_HOSTS))
    ):
        try:
            host = _split(request.get_host())[0]
        except DisallowedHost:
            # Compared as it was sent. The code that asks Django for the host refuses it.
            host = str(request.META.get("HTTP_HOST", ""))
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
    announced = _announced(request)
    if policy.max_request_size is not None and announced > policy.max_request_size:
        raise BodyTooLarge
    bare = (request.content_type or "").lower()
    selection = policy.selection
    if bare == MULTIPART and hasattr(request, "_files") and not _chunked(request):
        return _form(request.POST, _uploaded(request), selection)
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
    elif not selection.by_bytes:
        found = _form_in(request, bare, source, size, selection)
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
        return _form(data, [], selection, _charset(request)) if is_text else None
    try:
        document = json.dumps(data).encode()
    except (TypeError, ValueError):
        return None
    return json_payload(document, selection, media_type_of(request))


def media_type_of(request: HttpRequest) -> str:
    """Return the media type, with the charset where the same bytes would be other text."""
    bare, charset = (request.content_type or "").lower(), _charset(request)
    return f"{bare}; charset={charset}" if charset else bare


def _charset(request: HttpRequest) -> str:
    """Return the charset that the request declares; empty for UTF-8."""
    given = (request.content_params or {}).get("charset", "")
    try:
        name = codecs.lookup(given).name if given else "utf-8"
    except (LookupError, ValueError):  # unknown, or not a name
        name = given.lower()
    return "" if name == "utf-8" else name


def _form_in(
    request: HttpRequest, bare: str, source: IO[bytes], size: int, selection: Selection
) -> Payload | None:
    """Digest a form by its fields; ``None`` for another body, or one that Django cannot parse."""
    files: list[Upload] = []
    charset = ""
    fields: QueryDict
    try:
        if bare == FORM:
            limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
            if limit is not None and size > limit:
                return None
            # One character per byte, so that bytes that are no text stay different.
            fields = QueryDict(source.read(), encoding="latin-1")
            charset = _charset(request)
        elif bare == MULTIPART and _announced(request):  # else Django's parser finds nothing
            # Boundaries change between retries, fields and files do not.
            digests = _DigestHandler(request)
            files = digests.files
            parser = MultiPartParser(request.META, cast(Any, source), [digests], request.encoding)
            fields, _ = parser.parse()
        else:
            return None
    except (MultiPartParserError, SuspiciousOperation, RequestDataTooBig, ValueError):
        return None
    return _form(fields, files, selection, charset)


Upload = tuple[str, tuple[str, ...]]
"""The field of an uploaded file, and the parts of its value."""


class _DigestHandler(FileUploadHandler):
    """Hashes uploaded files and keeps nothing of them."""

    def __init__(self, request: HttpRequest) -> None:
        super().__init__(request)
        self.files: list[Upload] = []

    def new_file(self, *args: Any, **kwargs: Any) -> None:
        super().new_file(*args, **kwargs)
        self._digest = sha256()

    def receive_data_chunk(self, raw_data: bytes, start: int) -> bytes | None:
        self._digest.update(raw_data)
        return None

    def file_complete(self, file_size: int) -> Any:
        self.files.append(
            _file(self.field_name, self.file_name, self.content_type, self._digest.hexdigest())
        )


def _uploaded(request: HttpRequest) -> Iterator[Upload]:
    """Files that Django has parsed already (the CSRF check reads the form, for example)."""
    for name, files in request.FILES.lists():
        for file in cast(Any, files):
            digest = sha256()
            for chunk in file.chunks():
                digest.update(chunk)
            file.seek(0)
            yield _file(name, file.name, file.content_type, digest.hexdigest())


def _file(field: str | None, name: str | None, media_type: str | None, digest: str) -> Upload:
    return (field or "", ("file", name or "", media_type or "", digest))


def _form(
    fields: QueryDict, files: Iterable[Upload], selection: Selection, charset: str = ""
) -> Payload:
    values = [
        (name, ("text", str(value)))
        for name, items in fields.lists()
        if name != CSRF_FIELD
        for value in items
    ]
    wanted = (field for field in (*values, *files) if selection.wants(field[0]))
    return form_payload(wanted, charset)


class RereadableStream:
    """A request's input stream that the guard reads, and then the view, from the start.

    The bytes read are kept in memory up to ``FILE_UPLOAD_MAX_MEMORY_SIZE``, and in a temporary
    file beyond. Nothing is read before the guard or the view asks.

    :param begun: bytes that have been read from the source already
    :ivar filled: the number of bytes that have been read from it
    """

    def __init__(self, source: IO[bytes], begun: bytes = b"") -> None:
        self.source = source
        self._position = 0
        self.filled = len(begun)
        self._has_ended = False
        self._copy = SpooledTemporaryFile(  # noqa: SIM115  (closed when no reader is left)
            max_size=max(1, settings.FILE_UPLOAD_MAX_MEMORY_SIZE),
            dir=settings.FILE_UPLOAD_TEMP_DIR,
        )
        weakref.finalize(self, self._copy.close)
        self._copy.write(begun)

    def read(self, size: int | None = -1) -> bytes:
        limit = -1 if size is None else size
        self._fill(None if limit < 0 else self._position + limit)
        self._copy.seek(self._position)
        data = self._copy.read(limit)
        self._position += len(data)
        return data

    def readline(self, size: int | None = -1) -> bytes:
        self._fill(None)
        self._copy.seek(self._position)
        line = self._copy.readline(-1 if size is None else size)
        self._position += len(line)
        return line

    def seekable(self) -> bool:
        """Say no: ``HttpRequest.body`` of newer Django versions would seek to the end."""
        return False

    def close(self) -> None:
        self._copy.close()

    def load(self, largest: int | None = None) -> int:
        """Read the rest of the body; return its length in bytes.

        :param largest: stop reading after one byte more; the returned length is greater then
        """
        self._fill(None if largest is None else largest + 1)
        return self.filled

    def whole(self) -> IO[bytes]:
        """Return the body from its start. The view's position does not move."""
        self.load()
        self._copy.seek(0)
        return cast(IO[bytes], self._copy)

    def _fill(self, end: int | None) -> None:
        while not self._has_ended and (end is None or self.filled < end):
            wanted = CHUNK if end is None else min(CHUNK, end - self.filled)
            chunk = self.source.read(wanted)
            if not chunk:
                self._has_ended = True
                return
            self._copy.seek(self.filled)
            self._copy.write(chunk)
            self.filled += len(chunk)


class _InMemory(BytesIO):
    """A request's input stream whose body was short enough to be read at once."""

    def close(self) -> None:
        """Stay open: Django closes its stream after reading the body, but not the server's."""


def keep_body(request: Any) -> RereadableStream | _InMemory | None:
    """Replace the request's stream by one that can be read twice, and return it; ``None`` if the
    view or a middleware has begun to read the body."""
    stream = _chunked(request) or getattr(request, "_stream", None)
    if isinstance(stream, RereadableStream | _InMemory):
        return stream
    if stream is None or hasattr(request, "_body") or request._read_started:
        return None
    request._stream = kept = RereadableStream(stream)
    if _announced(request) and "wsgi.input" in request.META:
        request.META["wsgi.input"] = kept
    return kept


def _read(request: Any, announced: int, largest: int | None) -> tuple[IO[bytes], int] | None:
    """Return the body from its start and its size in bytes; ``None`` if no copy is left.

    :raises BodyTooLarge: for more bytes than ``largest``
    """
    unread = getattr(request, "_stream", None)
    if isinstance(unread, RereadableStream) and not unread.filled:
        unread = unread.source
    stream: RereadableStream | _InMemory | None
    if hasattr(request, "_body") and not _chunked(request):
        stream = _InMemory(request.body)
    elif (
        not 0 < announced <= settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        or isinstance(unread, RereadableStream | _InMemory | None)
        or request._read_started
    ):
        stream = keep_body(request)
    else:
        # The common case. One byte more than announced shows whether the length is right.
        data = unread.read(announced + 1)
        is_whole = len(data) == announced
        request._stream = stream = _InMemory(data) if is_whole else RereadableStream(unread, data)
        if "wsgi.input" in request.META:
            request.META["wsgi.input"] = stream
    if stream is None:
        return None
    size = len(stream.getvalue()) if isinstance(stream, _InMemory) else stream.load(largest)
    if largest is not None and size > largest:
        raise BodyTooLarge
    return BytesIO(stream.getvalue()) if isinstance(stream, _InMemory) else stream.whole(), size


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
