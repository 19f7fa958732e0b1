"""Completed records in a cache: plain data, sealed.

Whoever can write to the cache cannot make up a response, nor move one to another caller's key or
another tenant's: the seal needs the secret and covers the name. Nothing is ever unpickled.
"""

import hmac
import json
from dataclasses import dataclass
from hashlib import sha256

from .keys import keyed_digest
from .record import RESPONSE_VERSION, Omitted, StoredResponse

_SEAL = sha256().digest_size
_LENGTH = 4
"""Bytes that say how long the head is."""


@dataclass(frozen=True, slots=True)
class Remembered:
    """What a completed record says."""

    fingerprint: str
    response: StoredResponse


RESPONSE = f"response.{RESPONSE_VERSION}"
"""Kind of the things that are sealed here; another layout has other names."""


def record_name(
    secret: bytes, place: tuple[str, ...], scope: str, key: str, kind: str = RESPONSE
) -> str:
    """Return the name of a record in a cache: no key appears there in clear.

    :param secret: without it nobody can test a guess against the names
    :param place: what tells the database, and the tenant in it, from others: each of them may have
        a record of this scope and key
    :param scope: the digest of the caller
    :param key: the caller's key
    :param kind: what lies there
    """
    digest = keyed_digest(b"django_idempotency.name:" + secret, (*place, scope, key))
    return f"{prefix_of(kind)}{digest.hex()}"


def prefix_of(kind: str) -> str:
    """Return what the names of a kind begin with."""
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
    """Return what was sealed; ``None`` for anything that this version did not seal for the name."""
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
