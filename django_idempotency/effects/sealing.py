"""Arguments of effects as they are stored: signed, and encrypted where responses are."""

import json
from typing import Any

from ..conf.settings import configuration
from ..protocol.codecs import Cipher, Codec
from ..protocol.record import PLAIN_DATA, plain_text
from ..protocol.signing import signed, verified
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
            f"The {' and '.join(bad) or 'arguments'} of {name} must be plain data: {PLAIN_DATA}; "
            "KEY only as an argument itself. Pass a primary key instead of an object, and text "
            "instead of a date."
        )
    return text


def sealed(key: str, name: str, text: str, codec: Codec) -> str:
    """Return what to store.

    :raises NoKeys: if it is to be encrypted and cannot be
    """
    found = configuration()
    arguments = signed(text, found.secret, (PLACE, key, name))
    return Cipher(codec, found.keyring).lock_at(arguments, PLACE, key)


def opened(key: str, name: str, stored: str) -> str:
    """Return the text of the arguments.

    :raises ChangedEffect: if they are not what was staged under this key and name
    :raises Unreadable: if they cannot be decrypted
    """
    found = configuration()
    arguments = Cipher(keyring=found.keyring).open_at(stored, PLACE, key)
    text = verified(arguments, found.secret, (PLACE, key, name))
    if text is None:
        raise ChangedEffect("its row was changed, or staged under another SECRET")
    return text


def arguments_of(text: str) -> tuple[list[Any], dict[str, Any]]:
    """Return arguments by position and by name."""
    args, kwargs = json.loads(text)
    return args, kwargs
