"""Bodies of requests: streams that can be read twice, and the payloads of forms."""

import codecs
import weakref
from collections.abc import Iterable, Iterator
from hashlib import sha256
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, Any, cast

from django.conf import settings
from django.core.exceptions import RequestDataTooBig, SuspiciousOperation
from django.core.files.uploadhandler import FileUploadHandler
from django.http import HttpRequest, QueryDict
from django.http.multipartparser import MultiPartParser, MultiPartParserError

from ..protocol.fingerprint import Payload, Selection, form_payload

CHUNK = 64 * 1024
"""Bytes read at a time."""

FORM = "application/x-www-form-urlencoded"
MULTIPART = "multipart/form-data"
CSRF_FIELD = "csrfmiddlewaretoken"
"""Changes with every rendering of a form, so it is no part of the payload."""


class RereadableStream:
    """A request's input stream that the guard reads, and then the view, from the start.

    The bytes read are kept in memory up to ``FILE_UPLOAD_MAX_MEMORY_SIZE``, and in a temporary
    file beyond. Nothing is read before the guard or the view asks, and no file is made before:
    nearly every body is read at once, by others.

    :param begun: bytes that have been read from the source already
    :ivar filled: the number of bytes that have been read from it
    """

    def __init__(self, source: IO[bytes], begun: bytes = b"") -> None:
        self.source = source
        self._position = 0
        self._has_ended = False
        self.fill(begun)

    def fill(self, begun: bytes) -> None:
        """Take bytes that have been read from the source, before any other."""
        self._begun = begun
        self.filled = len(begun)
        self._made: IO[bytes] | None = None

    @property
    def _copy(self) -> IO[bytes]:
        """The file of the bytes that have been read."""
        if self._made is None:
            made = SpooledTemporaryFile(  # noqa: SIM115  (closed when no reader is left)
                max_size=max(1, settings.FILE_UPLOAD_MAX_MEMORY_SIZE),
                dir=settings.FILE_UPLOAD_TEMP_DIR,
            )
            weakref.finalize(self, made.close)
            made.write(self._begun)
            self._made, self._begun = cast(IO[bytes], made), b""
        return self._made

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

    def tell(self) -> int:
        """Return how far the view has read."""
        return self._position

    def go_back(self, position: int) -> None:
        """Have the view read on from there."""
        self._position = position

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
        return self._copy

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


class InMemory(BytesIO):
    """A request's input stream whose body was short enough to be read at once."""

    go_back = BytesIO.seek

    def close(self) -> None:
        """Stay open: Django closes its stream after reading the body, but not the server's."""


def charset_of(request: HttpRequest) -> str:
    """Return the charset that the request declares; empty for UTF-8."""
    given = (request.content_params or {}).get("charset", "")
    try:
        name = codecs.lookup(given).name if given else "utf-8"
    except (LookupError, ValueError):  # unknown, or not a name
        name = given.lower()
    return "" if name == "utf-8" else name


Upload = tuple[str, tuple[str, ...]]
"""The field of an uploaded file, and the parts of its value."""


def form_in(
    request: HttpRequest, source: IO[bytes], size: int, selection: Selection
) -> Payload | None:
    """Digest a form by its fields; ``None`` for another body, or one that Django cannot parse.

    :param source: the body, from its start
    :param size: of the body, in bytes
    """
    bare = (request.content_type or "").lower()
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
            charset = charset_of(request)
        elif bare == MULTIPART:
            # Boundaries change between retries, fields and files do not.
            digests = _DigestHandler(request)
            files = digests.files
            parser = MultiPartParser(request.META, cast(Any, source), [digests], request.encoding)
            fields, _ = parser.parse()
        else:
            return None
    except (MultiPartParserError, SuspiciousOperation, RequestDataTooBig, ValueError):
        return None
    return form(fields, files, selection, charset)


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


def uploaded(request: HttpRequest) -> Iterator[Upload]:
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


def form(
    fields: QueryDict, files: Iterable[Upload], selection: Selection, charset: str = ""
) -> Payload:
    """Digest the fields and files of a form that has been parsed."""
    values = [
        (name, ("text", str(value)))
        for name, items in fields.lists()
        if name != CSRF_FIELD
        for value in items
    ]
    wanted = (field for field in (*values, *files) if selection.wants(field[0]))
    return form_payload(wanted, charset)
