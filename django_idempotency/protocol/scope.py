"""Keys for other systems, derived from the caller's."""

import hmac
from hashlib import sha256
from uuid import UUID

from .record import Claim


def scope_digest(secret: bytes, parts: tuple[str, ...]) -> str:
    """Return the HMAC-SHA256 of a caller's identity as 64 hexadecimal digits.

    :param secret: without it nobody can test a guess against the stored scope
    :param parts: what identifies the caller, for example ``("user", "auth.user", "7")``
    """
    return keyed_digest(b"django_idempotency.scope:" + secret, parts).hex()


def keyed_digest(secret: bytes, parts: tuple[str, ...]) -> bytes:
    """Return the HMAC-SHA256 of text parts; every part is length-delimited."""
    encoded = [part.encode("utf-8", "surrogatepass") for part in parts]
    delimited = b"".join(len(part).to_bytes(8, "big") + part for part in encoded)
    # In one call: faster than an object that is fed part by part.
    return hmac.digest(secret, delimited, "sha256")


def short_digest(text: str) -> str:
    """Return twelve hexadecimal digits that stand for a key in logs."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]


def derived_uuid(claim: Claim, parts: tuple[str, ...]) -> str:
    """Return a UUID that depends on the caller, its key, and each part.

    Without the secret it cannot be linked to the caller's key. It says that it is random
    (version 4), which is what other systems ask for; RFC 9562, section 5.4, allows pseudorandom
    numbers, and an HMAC is one to whoever lacks the secret.
    """
    seed = keyed_digest(b"django_idempotency.derived:" + claim.secret, (claim.scope, claim.key))
    return str(UUID(bytes=keyed_digest(seed, parts)[:16], version=4))
