"""Digests of requests: every part is length-delimited, so no byte can move between parts."""

from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Protocol

from .canonical import canonical_json

Path = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of a body make up its payload.

    :param by_bytes: compare bytes, whatever they mean
    :param fields: only these fields of a form, or of a JSON document, if given: names, or paths
        from the top (``card.number``), on which lists are looked through
    :param ignored: and none of these
    """

    by_bytes: bool = False
    fields: frozenset[str] | None = None
    ignored: frozenset[str] = frozenset()

    def wants(self, name: str) -> bool:
        """Whether a field of a form counts. Forms are flat: a name is taken as it is."""
        return (self.fields is None or name in self.fields) and name not in self.ignored

    @property
    def wants_all(self) -> bool:
        return self.fields is None and not self.ignored

    def part_of(self, document: Any) -> Any:
        """Return what counts of a JSON document, which stays as it is."""
        if self.fields is not None:
            document = _only(document, _paths(self.fields))
        return _without(document, _paths(self.ignored)) if self.ignored else document


EVERYTHING = Selection()


def _paths(names: Iterable[str]) -> list[Path]:
    return [tuple(name.split(".")) for name in names]


def _below(paths: list[Path], name: str) -> list[Path]:
    """Return the rests of the paths that begin with a name; an empty one ends at it."""
    return [path[1:] for path in paths if path[0] == name]


def _only(value: Any, paths: list[Path]) -> Any:
    if isinstance(value, list):
        return [_only(item, paths) for item in value]
    if not isinstance(value, dict):
        return value  # no path leads on, and what is no object counts
    kept = {}
    for name, content in value.items():
        rests = _below(paths, name)
        if rests:
            kept[name] = content if () in rests else _only(content, rests)
    return kept


def _without(value: Any, paths: list[Path]) -> Any:
    if isinstance(value, list):
        return [_without(item, paths) for item in value]
    if not isinstance(value, dict):
        return value
    kept = {}
    for name, content in value.items():
        rests = _below(paths, name)
        if () not in rests:
            kept[name] = _without(content, rests) if rests else content
    return kept


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
