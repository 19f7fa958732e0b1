"""Keys for other systems, derived from the caller's."""

from uuid import UUID

from .scope import keyed_digest


def seed(secret: bytes, scope: str, key: str) -> bytes:
    """Return what the derived keys of one caller's key come from.

    :param secret: without it derived keys cannot be linked to the caller's
    """
    return keyed_digest(b"django_idempotency.derived:" + secret, (scope, key))


def derived_uuid(seed: bytes, parts: tuple[str, ...]) -> str:
    """Return a UUID that depends on the seed and on each part.

    It says that it is random (version 4), which is what other systems ask for; RFC 9562, section
    5.4, allows pseudorandom numbers, and an HMAC is one to whoever lacks the secret.
    """
    return str(UUID(bytes=keyed_digest(seed, parts)[:16], version=4))
