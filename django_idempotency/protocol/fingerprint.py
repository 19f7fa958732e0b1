"""Digests of requests: every part is length-delimited, so no byte can move between parts."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Protocol

from .canonical import canonical_json
from .selection import EVERYTHING, Selection

VERSION = "1"
"""Prefix of every fingerprint. It changes when equal requests would get another digest."""


class _Hash(Protocol):
    def update(self, data: bytes, /) -> None: ...


@dataclass(frozen=True, slots=True)
class Payload:
    """A request body, reduced to what it is (``json``, ``form``, ``raw``) and a digest."""

    kind: str
    digest: bytes


NO_PAYLOAD = Payload("none", b"")


@dataclass(frozen=True, slots=True)
class Target:
    """Where a request goes: what must be equal whatever its body says.

    :param query: as :func:`query_values` says, or as it was sent
    :param host: empty if it does not count
    :param version: of the API, if it is not in the path; empty if it does not count
    """

    method: str
    path: str
    query: str = ""
    host: str = ""
    version: str = ""


def fingerprint(target: Target, payload: Payload) -> str:
    """Return the digest of a request, as text that fits the record's column."""
    texts = (target.method, target.path, target.query, target.host, target.version, payload.kind)
    parts = [part.encode("utf-8", "surrogatepass") for part in texts]
    parts.append(payload.digest)
    delimited = b"".join([len(part).to_bytes(8, "big") + part for part in parts])
    return f"{VERSION}:{sha256(delimited).hexdigest()}"


def custom_fingerprint(text: str) -> str:
    """Return the fingerprint of what a policy's own function says about a request."""
    return f"{VERSION}c:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


def json_payload(
    raw: bytes,
    selection: Selection = EVERYTHING,
    media_type: str = "application/json",
) -> Payload | None:
    """Digest a JSON document by value; ``None`` if it has no canonical form."""
    canonical = canonical_json(raw, None if selection.wants_all else selection.part_of)
    return None if canonical is None else Payload(f"json {media_type}", sha256(canonical).digest())


def raw_payload(media_type: str, content: bytes) -> Payload:
    """Digest a body byte for byte. ``content`` is the SHA-256 of the bytes."""
    digest = sha256()
    _add(digest, media_type.encode())
    _add(digest, content)
    return Payload("raw", digest.digest())


Fields = Iterable[tuple[str, tuple[str, ...]]]
"""Pairs of a name and what makes up the value."""


def query_values(fields: Fields) -> str:
    """Return a query string by its values, as text that no query string sent is taken for."""
    return f"values {form_payload(fields).digest.hex()}"


def form_payload(fields: Fields, charset: str = "") -> Payload:
    """Digest a form by its fields.

    Fields of one name keep their order; the order of different names does not matter.

    :param charset: where the same bytes would be other text
    """
    digest = sha256()
    _add(digest, charset.encode())
    for name, value in sorted(fields, key=lambda field: field[0]):
        _add(digest, name.encode("utf-8", "surrogatepass"))
        _add(digest, str(len(value)).encode())
        for part in value:
            _add(digest, part.encode("utf-8", "surrogatepass"))
    return Payload("form", digest.digest())


def _add(digest: _Hash, part: bytes) -> None:
    digest.update(len(part).to_bytes(8, "big"))
    digest.update(part)
