"""Keys for other systems, derived from the caller's."""

from uuid import UUID

from .record import Claim
from .scope import keyed_digest


def derived_uuid(claim: Claim, parts: tuple[str, ...]) -> str:
    """Return a UUID that depends on the caller, its key, and each part.

    Without the secret it cannot be linked to the caller's key. It says that it is random
    (version 4), which is what other systems ask for; RFC 9562, section 5.4, allows pseudorandom
    numbers, and an HMAC is one to whoever lacks the secret.
    """
    seed = keyed_digest(b"django_idempotency.derived:" + claim.secret, (claim.scope, claim.key))
    return str(UUID(bytes=keyed_digest(seed, parts)[:16], version=4))
