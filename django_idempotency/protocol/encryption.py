"""Fernet with several keys. Imported only when a response is encrypted or decrypted."""

from functools import cache

from cryptography.fernet import Fernet, InvalidToken, MultiFernet


@cache
def fernet(keys: tuple[str, ...]) -> MultiFernet:
    """Return what encrypts with the first key and decrypts with all."""
    return MultiFernet([Fernet(key) for key in keys])


def decrypt(token: bytes, keys: tuple[str, ...]) -> bytes:
    """Return the plain text.

    :raises ValueError: if the text is damaged, or of another key
    """
    try:
        return fernet(keys).decrypt(token)
    except InvalidToken as error:
        raise ValueError("damaged, or of another key") from error
