"""How responses and results of steps are stored: plain, compressed, encrypted, or both.

An encoded response has a body only, which holds its headers and attributes, too. The codec stands
beside it (``zlib``, ``fernet:1a2b3c4d``, ``zlib+fernet:1a2b3c4d``), so reading needs no policy. The
digits name the encryption key: they tell which records still need it.

Encrypted data is bound to its place: the token holds a digest of the record, or the step, that it
belongs to, so a copy opens nowhere else (decision 0081).
"""

import hmac
import zlib
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from hashlib import sha256
from typing import Any, NamedTuple

from .record import StoredResponse, head_of, parse_head

LARGEST = 32 * 1024 * 1024
"""Bytes that a compressed response may have, unless policy lets responses be larger. A writer of
the table must not be able to exhaust the memory of its readers."""


class Codec(StrEnum):
    """How a response is stored."""

    PLAIN = "plain"
    ZLIB = "zlib"
    FERNET = "fernet"
    ZLIB_FERNET = "zlib+fernet"

    encrypts: bool

    def __init__(self, value: str) -> None:
        self.encrypts = value.endswith("fernet")


LOCKED = f"{Codec.FERNET}:"
"""Prefix of the encrypted result of a step."""


class Unreadable(ValueError):
    """An encoded response cannot be opened. The text is for clients, and names no key.

    :ivar codec: of the response, as stored
    """

    def __init__(self, reason: str, codec: str) -> None:
        self.codec = codec
        super().__init__(reason)


class NoKeys(RuntimeError):
    """A response is to be encrypted, and no key is configured, or ``cryptography`` is missing."""


class Locked(ValueError):
    """A key is not in the keyring."""


@cache
def _fernet(keys: tuple[str, ...]) -> Any:
    # Optional, so it is imported only when a response is encrypted or decrypted.
    from cryptography.fernet import Fernet, MultiFernet

    return MultiFernet([Fernet(key) for key in keys])


@dataclass(frozen=True, slots=True)
class Keyring:
    """Encryption keys, newest first: the first one encrypts, all of them decrypt.

    :param keys: Fernet keys
    """

    keys: tuple[str, ...] = field(default=(), repr=False)

    @property
    def newest(self) -> str:
        """The name of the key that encrypts."""
        return name_of(self.keys[0])

    def check(self) -> None:
        """Make sure that responses can be encrypted.

        :raises NoKeys: if they cannot
        """
        if not self.keys:
            raise NoKeys(
                'A response is to be encrypted, but IDEMPOTENCY["ENCRYPTION_KEYS"] is empty.'
            )
        try:
            import cryptography.fernet  # noqa: F401
        except ImportError as error:
            raise NoKeys(
                "A response is to be encrypted, but the package cryptography is not installed: "
                "pip install 'django-idempotency[crypto]'."
            ) from error

    def encrypt(self, payload: bytes) -> bytes:
        """Encrypt with the newest key.

        :raises NoKeys: if that cannot be done
        """
        self.check()
        token: bytes = _fernet(self.keys).encrypt(payload)
        return token

    def decrypt(self, token: bytes, key: str) -> bytes:
        """Return the plain text.

        :param key: the name of the key
        :raises Locked: if there is no such key
        :raises ValueError: if the text is damaged, or of another key
        """
        if key not in {name_of(each) for each in self.keys}:
            raise Locked(key)
        from cryptography.fernet import InvalidToken

        try:
            plain: bytes = _fernet(self.keys).decrypt(token)
        except InvalidToken as error:
            raise ValueError("damaged, or of another key") from error
        return plain


def name_of(key: str) -> str:
    """Return eight hexadecimal digits that stand for a key."""
    return sha256(b"django_idempotency.key:" + key.encode()).hexdigest()[:8]


def _seal(*place: str) -> bytes:
    """Return the digest of a place, which is encrypted in front of the data that belongs there."""
    digest = sha256(b"django_idempotency.place:")
    for part in place:
        raw = part.encode()
        digest.update(len(raw).to_bytes(8, "big") + raw)
    return digest.digest()


def _unsealed(payload: bytes, seal: bytes) -> bytes:
    if not hmac.compare_digest(payload[: len(seal)], seal):
        raise ValueError("it belongs somewhere else")
    return payload[len(seal) :]


def _unreadable(error: Exception, codec: str) -> Unreadable:
    locked = isinstance(error, Locked)
    return Unreadable("its encryption key is not available" if locked else "it is damaged", codec)


class Owner(NamedTuple):
    """Whose record it is: an encrypted response opens for this scope and key only."""

    scope: str
    key: str

    def seal(self, status: int) -> bytes:
        """Return the digest that is encrypted in front of a response with this status."""
        return _seal("response", self.scope, self.key, str(status))


def encode(
    response: StoredResponse, codec: Codec, keyring: Keyring, owner: Owner
) -> StoredResponse:
    """Return a response as it is stored.

    :param owner: of the record that it is stored in
    :raises NoKeys: if it cannot be encrypted
    """
    if codec is Codec.PLAIN or response.omitted:
        return response
    # JSON holds no line break, so the first one ends the head.
    payload = head_of(response).encode() + b"\n" + response.body
    for step in codec.split("+"):
        if step == Codec.ZLIB:
            payload = zlib.compress(payload)
        else:
            payload = keyring.encrypt(owner.seal(response.status) + payload)
    label = f"{codec}:{keyring.newest}" if codec.encrypts else str(codec)
    return response._replace(headers=(), attributes={}, body=payload, codec=label)


def decode(
    response: StoredResponse, keyring: Keyring, owner: Owner, largest: int = 0
) -> StoredResponse:
    """Return a response as the view gave it.

    :param owner: of the record that it was found in
    :param largest: bytes that policy allows a body to have
    :raises Unreadable: if its key is lost, it was changed, it is another record's, another version
        wrote it, or it is larger than ``LARGEST`` and policy allow
    """
    if not response.codec:
        return response
    codec, _, key = response.codec.partition(":")
    payload = response.body
    try:
        for step in reversed(Codec(codec).split("+")):
            if step == Codec.ZLIB:
                stream = zlib.decompressobj()
                payload = stream.decompress(payload, max(LARGEST, 2 * largest))
                if not stream.eof:
                    raise ValueError("cut off, or larger than any response")
            else:
                payload = _unsealed(keyring.decrypt(payload, key), owner.seal(response.status))
        head, _, body = payload.partition(b"\n")
        headers, attributes = parse_head(head)
        return response._replace(headers=headers, attributes=attributes, body=body, codec="")
    except (TypeError, ValueError, RecursionError, zlib.error) as error:
        raise _unreadable(error, response.codec) from error


def reencrypt(response: StoredResponse, keyring: Keyring, owner: Owner) -> StoredResponse:
    """Return a response encrypted under the newest key, compressed if it was.

    :param owner: of the record that it is stored in
    :raises Unreadable: if its key is lost, it was changed, or it is another record's
    """
    if response.omitted:
        raise Unreadable("it was written by another version, or damaged", response.codec)
    compressed = response.codec.startswith(Codec.ZLIB)
    codec = Codec.ZLIB_FERNET if compressed else Codec.FERNET
    return encode(decode(response, keyring, owner), codec, keyring, owner)


def up_to_date(keyring: Keyring) -> frozenset[str]:
    """Return the stored codecs of responses that are encrypted under the newest key."""
    return frozenset(f"{codec}:{keyring.newest}" for codec in (Codec.FERNET, Codec.ZLIB_FERNET))


@dataclass(frozen=True, slots=True)
class Cipher:
    """Encrypts the results of steps, if responses are encrypted. They are short: no compression.

    An encrypted result is text, ``fernet:1a2b3c4d:...``, which no JSON begins with.
    """

    codec: Codec = Codec.PLAIN
    keyring: Keyring = field(default=Keyring(), repr=False)

    def lock(self, text: str, record_id: int, position: int) -> str:
        """Return a result as it is stored.

        :param record_id: of the operation
        :param position: of the step in it
        :raises NoKeys: if it is to be encrypted and cannot be
        """
        return self.lock_at(text, "step", str(record_id), str(position))

    def open(self, stored: str, record_id: int, position: int) -> str:
        """Return a result as the step gave it.

        :param record_id: of the operation in which it was found
        :param position: of the step in it
        :raises Unreadable: if its key is lost, it was changed, or it is another step's
        """
        return self.open_at(stored, "step", str(record_id), str(position))

    def lock_at(self, text: str, *place: str) -> str:
        """Return a text as it is stored in any place.

        :param place: what it is, and where it belongs: it opens nowhere else
        :raises NoKeys: if it is to be encrypted and cannot be
        """
        if not self.codec.encrypts:
            return text
        payload = _seal(*place) + text.encode()
        return f"{LOCKED}{self.keyring.newest}:{self.keyring.encrypt(payload).decode()}"

    def open_at(self, stored: str, *place: str) -> str:
        """Return a text as it was before :meth:`lock_at`.

        :raises Unreadable: if its key is lost, it was changed, or it belongs somewhere else
        """
        if not stored.startswith(LOCKED):
            return stored
        name, _, token = stored.removeprefix(LOCKED).partition(":")
        try:
            payload = self.keyring.decrypt(token.encode(), name)
            return _unsealed(payload, _seal(*place)).decode()
        except ValueError as error:
            raise _unreadable(error, f"{LOCKED}{name}") from error
