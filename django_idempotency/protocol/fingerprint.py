"""Digests of requests: every part is length-delimited, so no byte can move between parts."""

import json
import marshal
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, NamedTuple, NoReturn

VERSION = "1"
"""Prefix of every fingerprint. It changes when equal requests would get another digest."""


class Target(NamedTuple):
    """The target of a request, which must be equal besides the body.

    :param query: as :func:`query_values` says, or as it was sent
    :param host: empty if it does not count
    :param version: of the API, if it is not in the path; empty if it does not count
    """

    method: str
    path: str
    query: str = ""
    host: str = ""
    version: str = ""


class Payload(NamedTuple):
    """A request body, reduced to its kind (``json``, ``form``, ``raw``) and a digest."""

    kind: str
    digest: bytes


NO_PAYLOAD = Payload("none", b"")


def fingerprint(target: Target, payload: Payload) -> str:
    """Return the digest of a request, as text that fits the record's column."""
    method, path, query, host, version = target
    kind = payload.kind
    # All lengths come first, and what they leave is the payload's digest.
    lengths = f"{len(method)},{len(path)},{len(query)},{len(host)},{len(version)},{len(kind)}"
    texts = f"{lengths}:{method}{path}{query}{host}{version}{kind}"
    delimited = texts.encode("utf-8", "surrogatepass") + payload.digest
    return f"{VERSION}:{sha256(delimited).hexdigest()}"


def custom_fingerprint(text: str) -> str:
    """Return the fingerprint of a text that a policy's own function returns for a request."""
    return f"{VERSION}c:{sha256(text.encode('utf-8', 'surrogatepass')).hexdigest()}"


@dataclass(frozen=True, slots=True)
class Selection:
    """Which parts of a body make up its payload.

    :param by_bytes: compare bytes, not values
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

    def part_of(self, document: Any) -> Any:
        """Return what counts of a JSON document, which stays as it is."""
        if self.fields is not None:
            document = _members(document, [name.split(".") for name in self.fields], True)
        if self.ignored:
            document = _members(document, [name.split(".") for name in self.ignored], False)
        return document


EVERYTHING = Selection()


def _members(value: Any, paths: list[list[str]], wanted: bool) -> Any:
    """Return an object with those members only that paths lead to, or without them."""
    if isinstance(value, list):
        return [_members(item, paths, wanted) for item in value]
    if not isinstance(value, dict):
        return value  # no path leads into it, so it counts
    kept = {}
    for name, content in value.items():
        rests = [path[1:] for path in paths if path[0] == name]
        if rests and [] not in rests:
            kept[name] = _members(content, rests, wanted)
        elif bool(rests) is wanted:
            kept[name] = content
    return kept


def raw_payload(media_type: str, content: bytes) -> Payload:
    """Digest a body byte for byte. ``content`` is the SHA-256 of the bytes."""
    return Payload("raw", _digest([media_type.encode(), content]))


Fields = Iterable[tuple[str, tuple[str, ...]]]
"""Pairs of a name and the parts of its value."""


def query_values(fields: Fields) -> str:
    """Return the values of a query string as text that differs from every query string sent."""
    return f"values {form_payload(fields).digest.hex()}"


def form_payload(fields: Fields, charset: str = "") -> Payload:
    """Digest a form by its fields.

    Fields of one name keep their order; the order of different names does not matter.

    :param charset: where the same bytes would be other text
    """
    texts = [charset]
    for name, value in sorted(fields, key=lambda field: field[0]):
        texts += (name, str(len(value)), *value)
    return Payload("form", _digest([text.encode("utf-8", "surrogatepass") for text in texts]))


def _digest(parts: Iterable[bytes]) -> bytes:
    digest = sha256()
    for part in parts:
        digest.update(len(part).to_bytes(8, "big"))
        digest.update(part)
    return digest.digest()


def json_payload(
    raw: bytes, selection: Selection = EVERYTHING, media_type: str = "application/json"
) -> Payload | None:
    """Digest a JSON document by value: neither the order of keys nor white space counts.

    Types and values are never confused: ``1``, ``1.0``, ``"1"`` and ``true`` differ, integers
    and decimals of any size are exact. ``None`` means that the text has no canonical form
    (not UTF-8, not JSON, duplicate names, ``NaN``, nested too deeply): compare its bytes.

    It costs one to three times what :func:`json.loads` does; more only where a document consists of
    numbers with exponents beyond a float's usual range.
    """
    try:
        document = _DECODER.decode(raw.decode())
        if selection.fields is not None or selection.ignored:
            document = selection.part_of(document)
        # marshal can load what it dumps, so it confuses no two values. Version 2 is the newest in
        # which equal objects are equal bytes: later ones note which objects are identical.
        canonical = marshal.dumps(document, 2)
    except (ValueError, TypeError, RecursionError):
        return None
    return Payload(f"json {media_type}", sha256(canonical).digest())


def _object(pairs: list[tuple[str, object]]) -> dict[str, object]:
    # Equal names compare their values, which may be a TypeError: refused in any case.
    members = dict(sorted(pairs))
    if len(members) != len(pairs):
        raise ValueError("duplicate names")
    return members


_EXACT = 17
"""Characters of a number with an exponent that has 15 digits at most, which a float keeps all
(DBL_DIG of IEEE 754): the quick way for what almost every such number is."""

_FAR = 400
"""Places by which a point is moved; no float goes further."""


def _real(token: str) -> bytes:
    """Return a real number as bytes, a type that nothing else in a document has: "1.50" and "15e-1"
    are b"1.5", "100.0" is b"100.". A float would lose digits."""
    if "e" not in token and "E" not in token:
        return token.rstrip("0").encode()
    if len(token) <= _EXACT:
        value = float(token)
        if 1e-4 <= abs(value) < 1e16:  # Python writes others with an exponent
            return repr(value).rstrip("0").encode()
    # Move the point by the exponent; far beyond, keep an exponent.
    mantissa, _, power = token.lower().partition("e")
    whole, _, fraction = mantissa.lstrip("-").partition(".")
    sign = "-" if mantissa[0] == "-" else ""
    significant = (whole + fraction).lstrip("0")
    if not significant:
        return f"{sign}0.".encode()
    # The value is 0.<significant> times ten to the power of <point>.
    point = len(whole) + int(power) - (len(whole + fraction) - len(significant))
    significant = significant.rstrip("0")
    if not -_FAR <= point <= _FAR:
        return f"{sign}{significant}e{point}".encode()
    digits = significant.rjust(len(significant) - point, "0") if point < 0 else significant
    digits = digits.ljust(point, "0")
    at = max(point, 0)
    return f"{sign}{digits[:at] or '0'}.{digits[at:]}".encode()


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is not JSON")


# Made once: :func:`json.loads` would make one for every document.
_DECODER = json.JSONDecoder(parse_float=_real, parse_constant=_refuse, object_pairs_hook=_object)
