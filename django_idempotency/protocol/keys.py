"""Keys: read from the ``Idempotency-Key`` header field, scoped to their caller, named in logs, and
derived for other systems."""

import hmac
import re
from enum import StrEnum
from hashlib import sha256
from uuid import UUID

from .record import Claim

MAX_KEY_LENGTH = 255
"""Longest key the record can hold, in characters."""

# RFC 9651, section 3.3.3: printable ASCII; the quote and the backslash are escaped.
_QUOTED = r'(?:[\x20\x21\x23-\x5b\x5d-\x7e]|\\["\\])'
# Clients send visible ASCII without quotes. A comma would be a list (or two field
# lines joined by the server), a semicolon a parameter, brackets an inner list, a leading
# colon a byte sequence, "?", "@" and "%" other structured types.
_BARE_FIRST = r"[A-Za-z0-9_.~+\/=|!#$&'*^`-]"
_BARE_NEXT = r"[A-Za-z0-9_.~+\/=|!#$&'*^`:@%?-]"
_ANY = r"[\x20-\x7e]"
_UUIDS = r"[0-9a-fA-F]{8}(?:-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"

_STRING = re.compile(rf'"({_QUOTED}*)"')
_BARE = re.compile(rf"{_BARE_FIRST}{_BARE_NEXT}*")
_PRINTABLE = re.compile(rf"{_ANY}+")
_UUID = re.compile(_UUIDS)
_ESCAPED = re.compile(r'\\(["\\])')


class KeyFormat(StrEnum):
    """Which spellings of a key are accepted."""

    LENIENT = "lenient"
    STRUCTURED = "structured"
    BARE = "bare"
    PRINTABLE = "printable"
    UUID = "uuid"


class InvalidKey(ValueError):
    """The header's value is not a key. The message says why."""


def parse_key(
    value: str,
    key_format: KeyFormat = KeyFormat.LENIENT,
    max_length: int = MAX_KEY_LENGTH,
    pattern: re.Pattern[str] | None = None,
) -> str:
    """Return the key that a header value carries.

    A Structured Fields String (draft-ietf-httpapi-idempotency-key-header-07, section 2.1;
    RFC 9651, section 3.3.3) and the same characters without quotes are one key.

    :param value: the field value as the server handed it over
    :param key_format: which spellings are accepted: ``lenient`` takes both, ``printable`` takes
        the value as it is, quotes and all, ``uuid`` takes both spellings of a UUID
    :param max_length: longest accepted key, in characters
    :param pattern: what the whole key must match, too
    :raises InvalidKey: for anything else
    """
    text = value.strip(" \t")
    if key_format is KeyFormat.LENIENT and _BARE.fullmatch(text) is not None:
        key = text  # what almost every client sends
    else:
        key = _spelled(text, key_format)
    if not key:
        raise InvalidKey("The key is empty.")
    if key_format is KeyFormat.UUID:
        if _UUID.fullmatch(key) is None:
            raise InvalidKey("The key must be a UUID (RFC 9562).")
        key = key.lower()
    if pattern is not None and pattern.fullmatch(key) is None:
        raise InvalidKey("The key does not have the form that this operation documents.")
    if len(key) > max_length:
        raise InvalidKey(f"The key has {len(key)} characters; at most {max_length} are allowed.")
    return key


def key_of(
    value: object,
    key_format: KeyFormat = KeyFormat.LENIENT,
    max_length: int = MAX_KEY_LENGTH,
    pattern: re.Pattern[str] | None = None,
) -> str:
    """Return the key that a function of the project has found in a request.

    No header field's syntax applies: quotes and commas are part of the key. The other parameters
    are those of :func:`parse_key`.

    :param value: text, a whole number, or a UUID; a client may have sent anything else
    :raises InvalidKey: for anything else
    """
    try:
        text = str(value) if isinstance(value, (str, int, UUID)) else None
    except ValueError as error:  # Python writes no numbers of thousands of digits
        raise InvalidKey("The key is a number with too many digits.") from error
    if text is None or isinstance(value, bool):
        raise InvalidKey("The key must be text, a whole number or a UUID.")
    if text != text.strip(" \t"):  # a header field's value has none: two keys would become one
        raise InvalidKey("The key begins or ends with white space.")
    is_uuid = key_format is KeyFormat.UUID
    return parse_key(text, key_format if is_uuid else KeyFormat.PRINTABLE, max_length, pattern)


def _spelled(text: str, key_format: KeyFormat) -> str:
    """Return the key that a text spells, which may be empty."""
    if not text:
        return ""
    if key_format is KeyFormat.PRINTABLE:
        if _PRINTABLE.fullmatch(text) is None:
            raise InvalidKey("The key must be printable ASCII.")
        return text
    if text.startswith('"'):
        if key_format is KeyFormat.BARE:
            raise InvalidKey("The key must be sent without quotes.")
        match = _STRING.fullmatch(text)
        if match is None:
            raise InvalidKey(
                "The value starts with a quote but is not one Structured Fields String: "
                "printable ASCII between two quotes, in a single field line."
            )
        return _ESCAPED.sub(r"\1", match[1])
    if key_format is KeyFormat.STRUCTURED:
        raise InvalidKey('The key must be a Structured Fields String, in quotes: "8e03978e-40d5".')
    if "," in text:
        raise InvalidKey(
            "The value holds a comma: send the header once, and a key with a comma in quotes."
        )
    if _BARE.fullmatch(text) is None:
        raise InvalidKey(
            "The key holds a character that is not allowed without quotes: use letters, digits "
            "and -_.~+/=:, or send printable ASCII between quotes."
        )
    return text


def value_pattern(key_format: KeyFormat, max_length: int) -> str:
    """Return a regular expression of the field values that :func:`parse_key` accepts.

    Written so that Python and ECMA-262 (JSON Schema, OpenAPI) understand the same by it.
    """
    bare = f"{_BARE_FIRST}{_BARE_NEXT}{{0,{max_length - 1}}}"
    quoted = f'"{_QUOTED}{{1,{max_length}}}"'
    patterns = {
        KeyFormat.LENIENT: f"(?:{quoted}|{bare})",
        KeyFormat.STRUCTURED: quoted,
        KeyFormat.BARE: bare,
        # White space around a field value is not part of it (RFC 9110, section 5.5).
        KeyFormat.PRINTABLE: rf"(?=.{{1,{max_length}}}$)[\x21-\x7e](?:{_ANY}*[\x21-\x7e])?",
        KeyFormat.UUID: f'(?:"{_UUIDS}"|{_UUIDS})',
    }
    return f"^{patterns[key_format]}$"


SCOPE = b"django_idempotency.scope:"
"""Prefix of the secret for the digest that is the scope of a caller's keys."""


def keyed_digest(secret: bytes, parts: tuple[str, ...]) -> bytes:
    """Return the HMAC-SHA256 of text parts; every part is length-delimited.

    :param secret: a guess cannot be tested against the digest without it
    :param parts: for a scope, what identifies the caller: ``("user", "auth.user:7")``
    """
    delimited = b""
    for text in parts:
        part = text.encode("utf-8", "surrogatepass")
        delimited += len(part).to_bytes(8, "big") + part
    # In one call: faster than an object that is fed part by part.
    return hmac.digest(secret, delimited, "sha256")


SHORT = 12
"""Hexadecimal digits that stand for a key, or for a scope, in logs."""


def key_digest(key: str) -> str:
    """Return the SHA-256 of a key, in hexadecimal digits."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def short_digest(key: str) -> str:
    """Return the digits that stand for a key in logs: the first ones of its digest."""
    return sha256(key.encode("utf-8", "surrogatepass")).hexdigest()[:SHORT]


def short_scope(scope: str) -> str:
    """Return the digits that stand for a scope in logs: the first ones of the digest that it is."""
    return scope[:SHORT]


def named(key_digest: str, scope_digest: str) -> str:
    """Return how log lines begin that are about one operation. Missing digests are dashes."""
    return f"Key {key_digest or '-'}, scope {scope_digest or '-'}"


def name_in_logs(key: str, scope: str) -> str:
    """Return how log lines name the operation of a key in a scope."""
    return named(short_digest(key), short_scope(scope))


def derived_uuid(claim: Claim, parts: tuple[str, ...]) -> str:
    """Return a UUID that depends on the caller, its key, and each part.

    Without the secret it cannot be linked to the caller's key. It says that it is random
    (version 4), which is what other systems ask for; RFC 9562, section 5.4, allows pseudorandom
    numbers, and an HMAC is one for everybody without the secret.
    """
    seed = keyed_digest(b"django_idempotency.derived:" + claim.secret, (claim.scope, claim.key))
    return str(UUID(bytes=keyed_digest(seed, parts)[:16], version=4))
