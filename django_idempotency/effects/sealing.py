"""Arguments of effects as they are stored: signed, and encrypted where responses are."""

import hmac
import json
from typing import Any

from ..conf.settings import configuration
from ..protocol.codecs import Cipher, Codec
from ..protocol.keys import keyed_digest
from ..protocol.record import plain_text
from .errors import ChangedEffect, EffectError

PLACE = "effect"


def text_of(name: str, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    """Return arguments as text.

    :raises EffectError: if they are not plain data
    """
    text = plain_text([list(args), kwargs])
    if text is None:
        given = {str(number): value for number, value in enumerate(args, 1)}
        given |= {repr(keyword): value for keyword, value in kwargs.items()}
        bad = [
            f"argument {place} ({type(value).__name__})"
            for place, value in given.items()
            if plain_text(value) is None
        ]
        raise EffectError(
            f"The {' and '.join(bad) or 'arguments'} of {name} must be plain data: None, bool, "
            "finite numbers, text, lists, and dicts with text as keys; KEY only as an argument "
            "itself. Pass a primary key instead of an object, and text instead of a date."
        )
    return text


def sealed(key: str, name: str, text: str, codec: Codec) -> str:
    """Return what to store.

    :raises NoKeys: if it is to be encrypted and cannot be
    """
    signed = f"{_signature(key, name, text)}:{text}"
    return Cipher(codec, configuration().keyring).lock_at(signed, PLACE, key)


def opened(key: str, name: str, stored: str) -> str:
    """Return the text of the arguments.

    :raises ChangedEffect: if they are not what was staged under this key and name
    :raises Unreadable: if they cannot be decrypted
    """
    signed = Cipher(keyring=configuration().keyring).open_at(stored, PLACE, key)
    signature, _, text = signed.partition(":")
    if not hmac.compare_digest(signature.encode(), _signature(key, name, text).encode()):
        raise ChangedEffect("its row was changed, or staged under another SECRET")
    return text


def arguments_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments by position and by name."""
    args, kwargs = json.loads(text)
    return args, kwargs


def _signature(key: str, name: str, text: str) -> str:
    """Without the secret nobody can write an effect that runs."""
    secret = b"django_idempotency.effect:" + configuration().secret
    return keyed_digest(secret, (key, name, text)).hex()
