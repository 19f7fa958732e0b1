"""Whether a response shows its caller's CSRF secret, plain or masked."""

import re
import string
from collections.abc import Mapping
from typing import Any

_ALPHABET = (string.ascii_letters + string.digits).encode()
_SECRET, _TOKEN = 32, 64
"""Characters of a secret and of a token (``django.middleware.csrf``)."""

_RUNS = re.compile(rb"[A-Za-z0-9]{%d,}" % _TOKEN)
_NUMBERS = bytes.maketrans(_ALPHABET, bytes(range(len(_ALPHABET))))


def secret_of(meta: Mapping[str, Any]) -> bytes:
    """Return the request's CSRF secret if a token may have been made of it; else nothing.

    :param meta: the request's ``META``; ``get_token()`` notes there that it was called
    """
    secret = meta.get("CSRF_COOKIE") if meta.get("CSRF_COOKIE_NEEDS_UPDATE") else None
    return secret.encode() if isinstance(secret, str) and len(secret) == _SECRET else b""


def shows(text: bytes, secret: bytes) -> bool:
    """Whether a text holds a secret or a token that was made of it.

    A token is a mask and the secret, shifted by the mask letter by letter. So wherever a token
    stands, the differences between letters that are 32 apart spell the secret. This finds it also
    where an escape such as ``%3D`` leads into it.

    :param secret: empty for none
    """
    if not secret:
        return False
    spelled = secret.translate(_NUMBERS)
    return secret in text or any(
        spelled in _differences(run[0].translate(_NUMBERS)) for run in _RUNS.finditer(text)
    )


def _differences(numbers: bytes) -> bytes:
    size = len(_ALPHABET)
    pairs = zip(numbers[_SECRET:], numbers, strict=False)
    return bytes([(shifted - mask) % size for shifted, mask in pairs])
