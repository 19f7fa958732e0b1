"""Sign text that is stored and acted on later: nobody can write it without our secret."""

import hmac

from .keys import keyed_digest


def signed(text: str, secret: bytes, place: tuple[str, ...]) -> str:
    """Return a text with its signature in front.

    :param place: what it is, and where it belongs: elsewhere the signature is not valid
    """
    return f"{_signature(text, secret, place)}:{text}"


def verified(stored: str, secret: bytes, place: tuple[str, ...]) -> str | None:
    """Return a text that :func:`signed` has signed; ``None`` if it was changed, if it belongs
    somewhere else, or if the secret is another one."""
    signature, _, text = stored.partition(":")
    expected = _signature(text, secret, place)
    return text if hmac.compare_digest(signature.encode(), expected.encode()) else None


def _signature(text: str, secret: bytes, place: tuple[str, ...]) -> str:
    return keyed_digest(b"django_idempotency.signature:" + secret, (*place, text)).hex()
