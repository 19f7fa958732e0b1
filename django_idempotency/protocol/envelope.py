"""Seal completed records for a cache, as plain data.

A writer of the cache can neither make up a response, nor move one to the key of another caller or
tenant: the seal needs the secret and covers the name. Nothing is ever unpickled.
"""

import hmac
import json
from dataclasses import dataclass
from hashlib import sha256

from .keys import keyed_digest
from .record import RESPONSE_VERSION, Omitted, StoredResponse

_SEAL = sha256().digest_size
_LENGTH = 4
"""Bytes that hold the length of the head."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """A completed record, as far as a cache keeps it."""

    fingerprint: str
    response: StoredResponse


RESPONSE = f"response.{RESPONSE_VERSION}"
"""Kind of the sealed entries; another layout has other names."""


def record_name(
    secret: bytes, place: tuple[str, ...], scope: str, key: str, kind: str = RESPONSE
) -> str:
    """Return the name of a record's entry in a cache, which does not show the key.

    :param secret: a guess cannot be tested against the names without it
    :param place: the alias of the database, and the tenant in it: each of them may have a record of
        this scope and key
    :param scope: the digest of the caller
    :param key: the caller's key
    :param kind: of the entry
    """
    digest = keyed_digest(b"django_idempotency.name:" + secret, (*place, scope, key))
    return f"{prefix_of(kind)}{digest.hex()}"


def prefix_of(kind: str) -> str:
    """Return the prefix of the names of a kind."""
    return f"idempotency:{kind}:"


def seal(secret: bytes, name: str, remembered: Remembered) -> bytes:
    """Return a completed record as bytes: the seal, the head as JSON, the body."""
    response = remembered.response
    head = json.dumps(
        {
            "fingerprint": remembered.fingerprint,
            "status": response.status,
            "headers": response.headers,
            "attributes": response.attributes,
            "omitted": str(response.omitted),
            "codec": response.codec,
        }
    ).encode()
    content = len(head).to_bytes(_LENGTH, "big") + head + response.body
    return _mac(secret, name, content) + content


def unseal(secret: bytes, name: str, sealed: bytes) -> Remembered | None:
    """Return the sealed record; ``None`` if this version did not seal the bytes for the name."""
    mac, content = sealed[:_SEAL], sealed[_SEAL:]
    if not hmac.compare_digest(mac, _mac(secret, name, content)):
        return None
    start = _LENGTH + int.from_bytes(content[:_LENGTH], "big")
    head = json.loads(content[_LENGTH:start])
    headers = tuple((name, value) for name, value in head["headers"])
    response = StoredResponse(
        head["status"],
        headers,
        content[start:],
        Omitted(head["omitted"]),
        head["codec"],
        head["attributes"],
    )
    return Remembered(head["fingerprint"], response)


def _mac(secret: bytes, name: str, content: bytes) -> bytes:
    mac = hmac.new(b"django_idempotency.seal:" + secret, digestmod=sha256)
    mac.update(name.encode() + b"\0")
    mac.update(content)
    return mac.digest()
