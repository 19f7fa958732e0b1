"""Reading a request's body for its fingerprint, and leaving it for the view."""

import codecs
import json
import weakref
from collections.abc import Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import BadRequest, RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError
from django.http.request import UnreadablePostError

from ..protocol.fingerprint import (
    EVERYTHING,
    NO_PAYLOAD,
    Payload,
    Selection,
    form_payload,
    json_payload,
    raw_payload,
)

CHUNK = 64 * 1024
"""Bytes read at a time."""


class RereadableStream:
    """A request's input stream that can be read by us and then, from the start, by the view.

    What is read is kept in memory up to ``FILE_UPLOAD_MAX_MEMORY_SIZE`` bytes, and in a
    temporary file beyond. Nothing is read before somebody asks.

    :param announced: the body's length in bytes; 0 if nobody knows
    """

    def __init__(self, source: IO[bytes], announced: int = 0) -> None:
        self._source = source
        self._position = 0
        self._filled = 0
        self._has_ended = False
        limit = settings.FILE_UPLOAD_MAX_MEMORY_SIZE
        self._copy: BytesIO | SpooledTemporaryFile[bytes]
        if 0 < announced <= limit:
            self._copy = BytesIO()
        else:
            self._copy = SpooledTemporaryFile(  # noqa: SIM115  (closed when nobody can read it)
                max_size=max(1, limit), dir=settings.FILE_UPLOAD_TEMP_DIR
            )
            weakref.finalize(self, self._copy.close)

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
        """Read what has not been read yet; return the body's length in bytes.

        :param largest: stop when there are more bytes; what is returned is more, too
        """
        self._fill(None if largest is None else largest + 1)
        return self._filled

    def whole(self) -> IO[bytes]:
        """Return the body from its start. The view's position does not move."""
        self.load()
        self._copy.seek(0)
        return cast(IO[bytes], self._copy)

    def _fill(self, end: int | None) -> None:
        while not self._has_ended and (end is None or self._filled < end):
            wanted = CHUNK if end is None else min(CHUNK, end - self._filled)
            chunk = self._source.read(wanted)
            if not chunk:
                self._has_ended = True
                return
            self._copy.seek(self._filled)
            self._copy.write(chunk)
            self._filled += len(chunk)


LARGEST_JSON = 1024 * 1024
"""Bytes up to which JSON is compared by value; a larger document is compared byte by byte."""

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
CSRF_FIELD = "csrfmiddlewaretoken"
"""Changes with every rendering of a form, so it is no part of the payload."""


def keep_body(request: HttpRequest) -> None:
    """See to it that the body can be read twice, unless somebody has begun to read it."""
    _chunked(request)
    stream = getattr(request, "_stream", None)
    if stream is None or isinstance(stream, RereadableStream):
        return
    if hasattr(request, "_body") or cast(Any, request)._read_started:
        return
    announced = _announced(request)
    copy = RereadableStream(stream, announced)
    cast(Any, request)._stream = copy
    if announced and "wsgi.input" in request.META:
        request.META["wsgi.input"] = copy


def _chunked(request: HttpRequest) -> RereadableStream | None:
    """Return what Django does not take for a body, because nobody has announced its length: a view
    may read it from ``wsgi.input``, where the server says that reading it comes to an end."""
    encoding = request.META.get("HTTP_TRANSFER_ENCODING", "")
    if not encoding or _announced(request) or not request.META.get("wsgi.input_terminated"):
        return None
    stream = request.META["wsgi.input"]
    if not isinstance(stream, RereadableStream):
        stream = request.META["wsgi.input"] = RereadableStream(stream)
    return stream


class BodyTooLarge(Exception):
    """A body is larger than policy lets the guard keep."""


def payload(
    request: HttpRequest, selection: Selection = EVERYTHING, largest: int | None = None
) -> Payload | None:
    """Digest the body; ``None`` if somebody has consumed it and left no copy.

    :param largest: bytes above which a body is not kept; ``None`` for any
    :raises BodyTooLarge: before it is read, if its length was announced
    :raises UnreadablePostError: if the client stops sending
    :raises BadRequest: if the body is shorter than announced
    """
    if largest is not None and _announced(request) > largest:
        raise BodyTooLarge
    if _bare_type(request) == MULTIPART and hasattr(request, "_files") and not _chunked(request):
        return _form(request.POST, _uploaded(request), selection)
    body = _body(request)
    if body is None:
        return None
    try:
        size = body.load(largest)
    except OSError as error:
        raise UnreadablePostError(*error.args) from error
    if largest is not None and size > largest:
        raise BodyTooLarge
    if size < _announced(request):
        # Remembering half a body would refuse the whole one.
        raise BadRequest("The request's body ended before its Content-Length.")
    if size == 0:
        return NO_PAYLOAD
    found = None if selection.by_bytes else _typed(request, body, size, selection)
    return found or _raw(media_type_of(request), body)


def parsed_payload(request: HttpRequest, data: Any, selection: Selection) -> Payload | None:
    """Digest what a framework has parsed; ``None`` if that is not all of the body.

    :param data: a form, or a JSON document
    """
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
    bare, charset = _bare_type(request), _charset(request)
    return f"{bare}; charset={charset}" if charset else bare


def _charset(request: HttpRequest) -> str:
    """Return the charset that a body is said to have; empty for UTF-8."""
    given = (request.content_params or {}).get("charset", "")
    try:
        name = codecs.lookup(given).name if given else "utf-8"
    except (LookupError, ValueError):  # unknown, or not even a name
        name = given.lower()
    return "" if name == "utf-8" else name


def _bare_type(request: HttpRequest) -> str:
    return (request.content_type or "").lower()


def _typed(
    request: HttpRequest, body: RereadableStream, size: int, selection: Selection
) -> Payload | None:
    """Digest a body by what it means; ``None`` if only its bytes can be compared."""
    bare = _bare_type(request)
    if bare == MULTIPART:
        # Without a length Django's parser would find nothing.
        return _multipart(request, body, selection) if _announced(request) else None
    if bare == FORM:
        return _urlencoded(request, body, size, selection)
    if bare.endswith("json") and size <= LARGEST_JSON:
        return json_payload(body.whole().read(), selection, media_type_of(request))
    return None


def _announced(request: HttpRequest) -> int:
    try:
        return int(request.META.get("CONTENT_LENGTH") or 0)
    except ValueError:
        return 0


def _body(request: HttpRequest) -> RereadableStream | None:
    chunked = _chunked(request)
    if chunked is not None:
        return chunked
    if hasattr(request, "_body"):
        return RereadableStream(BytesIO(request.body))
    keep_body(request)
    stream = getattr(request, "_stream", None)
    return stream if isinstance(stream, RereadableStream) else None


def _raw(media_type: str, body: RereadableStream) -> Payload:
    digest = sha256()
    stream = body.whole()
    while chunk := stream.read(CHUNK):
        digest.update(chunk)
    return raw_payload(media_type, digest.digest())


def _urlencoded(
    request: HttpRequest, body: RereadableStream, size: int, selection: Selection
) -> Payload | None:
    limit = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    if limit is not None and size > limit:
        return None
    try:
        # One character per byte, so that bytes that are no text stay different.
        fields = QueryDict(body.whole().read(), encoding="latin-1")
    except (SuspiciousOperation, ValueError):
        return None
    return _form(fields, [], selection, _charset(request))


def _multipart(
    request: HttpRequest, body: RereadableStream, selection: Selection
) -> Payload | None:
    """Parse a copy: boundaries change between retries, fields and files do not."""
    digests = _DigestHandler(request)
    try:
        parser = MultiPartParser(request.META, cast(Any, body.whole()), [digests], request.encoding)
        fields, _ = parser.parse()
    except (MultiPartParserError, SuspiciousOperation, RequestDataTooBig, ValueError):
        return None
    return _form(fields, digests.files, selection)


Upload = tuple[str, tuple[str, ...]]


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
