"""Who a key belongs to, stored only as a keyed digest."""

from functools import lru_cache
from hashlib import sha256
from typing import Any


def scope_digest(secret: bytes, parts: tuple[str, ...]) -> str:
    """Return the HMAC-SHA256 of a caller's identity as 64 hexadecimal digits.

    :param secret: without it nobody can test a guess against the stored scope
    :param parts: what identifies the caller, for example ``("user", "auth.user", "7")``
    """
    return keyed_digest(b"django_idempotency.scope:" + secret, parts).hex()


def keyed_digest(secret: bytes, parts: tuple[str, ...]) -> bytes:
    """Return the HMAC-SHA256 of text parts; every part is length-delimited."""
    inner, outer = (each.copy() for each in _keyed(secret))
    for part in parts:
        encoded = part.encode("utf-8", "surrogatepass")
        inner.update(len(encoded).to_bytes(8, "big") + encoded)
    outer.update(inner.digest())
    digest: bytes = outer.digest()
    return digest


@lru_cache(maxsize=64)
def _keyed(secret: bytes) -> tuple[Any, Any]:
    """The two hashes of HMAC (RFC 2104, section 2), which have read the key and nothing else.

    A secret is the same in every request, and :mod:`hmac` would begin with it each time.
    """
    block = (sha256(secret).digest() if len(secret) > 64 else secret).ljust(64, b"\0")
    return sha256(bytes(byte ^ 0x36 for byte in block)), sha256(
        bytes(byte ^ 0x5C for byte in block)
    )


def short_digest(text: str) -> str:
    """Return twelve hexadecimal digits that stand for a key in logs."""
    return sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:12]
