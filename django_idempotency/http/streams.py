"""An input stream that two can read."""

import weakref
from io import BytesIO
from tempfile import SpooledTemporaryFile
from typing import IO, cast

from django.conf import settings

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
