"""Encoded responses: what goes in comes out, or a clear refusal."""

import sys
import tracemalloc
import zlib
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

from django_idempotency.protocol import codecs
from django_idempotency.protocol.codecs import (
    Cipher,
    Codec,
    Keyring,
    NoKeys,
    Owner,
    Unreadable,
    decode,
    encode,
    name_of,
    reencrypt,
    up_to_date,
)
from django_idempotency.protocol.record import Omitted, StoredResponse

pytestmark = pytest.mark.once

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
KEYRING = Keyring((NEW, OLD))
OWNER = Owner("a" * 64, "k-1")
RESPONSE = StoredResponse(201, (("X-Secret", "tok-1"), ("X-Line", "b")), b'{"token": "tok-2"}\n\n')

every_codec = pytest.mark.parametrize("codec", list(Codec), ids=str)
encoding = pytest.mark.parametrize("codec", list(Codec)[1:], ids=str)


@every_codec
@given(
    headers=st.lists(
        st.tuples(
            st.just("X-Any"), st.text(st.characters(exclude_characters="\r\n\0", codec="utf-8"))
        )
    ),
    body=st.binary(),
)
def test_what_goes_in_comes_out(codec: Codec, headers: list[Any], body: bytes) -> None:
    response = StoredResponse(200, tuple(headers), body)
    assert decode(encode(response, codec, KEYRING, OWNER), KEYRING, OWNER) == response


def test_plain_is_not_touched() -> None:
    assert encode(RESPONSE, Codec.PLAIN, Keyring(), OWNER) is RESPONSE
    assert decode(RESPONSE, Keyring(), OWNER) is RESPONSE


@encoding
def test_an_encoded_response_says_how_and_shows_nothing(codec: Codec) -> None:
    encoded = encode(RESPONSE, codec, KEYRING, OWNER)
    assert (encoded.status, encoded.headers) == (201, ())
    assert encoded.codec == (f"{codec}:{name_of(NEW)}" if codec.encrypts else "zlib")
    assert b"tok-" not in encoded.body
    assert len(encoded.codec) <= 32


@every_codec
def test_what_is_remembered_without_body_has_nothing_to_seal(codec: Codec) -> None:
    response = StoredResponse(200, omitted=Omitted.TOO_LARGE)
    assert encode(response, codec, Keyring(), OWNER) is response


def test_compression_saves_space() -> None:
    large = RESPONSE._replace(body=b"once more, " * 1000)
    assert len(encode(large, Codec.ZLIB, Keyring(), OWNER).body) < 200
    assert len(encode(large, Codec.ZLIB_FERNET, KEYRING, OWNER).body) < 400


class TestKeys:
    def test_the_first_encrypts_and_all_decrypt(self) -> None:
        old = encode(RESPONSE, Codec.FERNET, Keyring((OLD,)), OWNER)
        assert decode(old, KEYRING, OWNER) == RESPONSE
        new = encode(RESPONSE, Codec.FERNET, KEYRING, OWNER)
        with pytest.raises(Unreadable, match="its encryption key is not available") as caught:
            decode(new, Keyring((OLD,)), OWNER)
        assert caught.value.codec == new.codec

    def test_without_any_nothing_is_encrypted(self) -> None:
        with pytest.raises(NoKeys, match="ENCRYPTION_KEYS"):
            encode(RESPONSE, Codec.FERNET, Keyring(), OWNER)

    def test_without_the_package_nothing_is_encrypted(self, monkeypatch: Any) -> None:
        monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
        with pytest.raises(NoKeys, match=r"pip install 'django-idempotency\[crypto\]'"):
            encode(RESPONSE, Codec.FERNET, KEYRING, OWNER)

    def test_their_names_say_nothing_of_them(self) -> None:
        assert len(name_of(NEW)) == 8
        assert name_of(NEW) not in NEW
        assert NEW not in repr(KEYRING)


class TestDamage:
    @encoding
    @pytest.mark.parametrize("change", [b"", b"{}", b"\x80" * 40], ids=len)
    def test_another_body(self, codec: Codec, change: bytes) -> None:
        encoded = encode(RESPONSE, codec, KEYRING, OWNER)._replace(body=change)
        with pytest.raises(Unreadable, match="it is damaged"):
            decode(encoded, KEYRING, OWNER)

    @pytest.mark.parametrize("codec", ["pickle", "+", "fernet", "zlib:x+", "lz4:1", "fernet:"])
    def test_another_codec(self, codec: str) -> None:
        encoded = encode(RESPONSE, Codec.FERNET, KEYRING, OWNER)._replace(codec=codec)
        with pytest.raises(Unreadable):
            decode(encoded, KEYRING, OWNER)

    @pytest.mark.parametrize("headers", [b"null", b"[[1, 2]]", b"[" * 5000, b'[["a\\nb", "c"]]'])
    def test_other_headers(self, headers: bytes) -> None:
        encoded = StoredResponse(200, body=zlib.compress(headers + b"\nbody"), codec="zlib")
        with pytest.raises(Unreadable):
            decode(encoded, KEYRING, OWNER)


class TestBombs:
    """A few kilobytes in a row must not become gigabytes in a process that reads it."""

    BOMB = StoredResponse(200, body=zlib.compress(b"[]\n" + bytes(codecs.LARGEST)), codec="zlib")

    def test_more_than_any_response_is_unreadable(self) -> None:
        tracemalloc.start()
        with pytest.raises(Unreadable, match="damaged"):
            decode(self.BOMB, Keyring(), OWNER)
        assert tracemalloc.get_traced_memory()[1] < 3 * codecs.LARGEST
        tracemalloc.stop()

    def test_policy_may_allow_more(self) -> None:
        assert len(decode(self.BOMB, Keyring(), OWNER, codecs.LARGEST).body) == codecs.LARGEST


class TestReencryption:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (Codec.FERNET, Codec.FERNET),
            (Codec.ZLIB_FERNET, Codec.ZLIB_FERNET),
            (Codec.PLAIN, Codec.FERNET),
            (Codec.ZLIB, Codec.ZLIB_FERNET),
        ],
    )
    def test_it_keeps_the_compression(self, before: Codec, after: Codec) -> None:
        fresh = reencrypt(encode(RESPONSE, before, Keyring((OLD,)), OWNER), KEYRING, OWNER)
        assert fresh.codec == f"{after}:{name_of(NEW)}"
        assert fresh.codec in up_to_date(KEYRING)
        assert decode(fresh, Keyring((NEW,)), OWNER) == RESPONSE

    def test_what_cannot_be_read_is_not_replaced(self) -> None:
        with pytest.raises(Unreadable):
            reencrypt(StoredResponse(200, omitted=Omitted.UNREADABLE), KEYRING, OWNER)


class TestPlaces:
    """Who can write the table must not read with it what the API would open for its owner."""

    @pytest.mark.parametrize("codec", [Codec.FERNET, Codec.ZLIB_FERNET])
    @pytest.mark.parametrize(
        ("owner", "status"),
        [
            (Owner("b" * 64, "k-1"), 201),
            (Owner("a" * 64, "k-2"), 201),
            (Owner("a" * 64 + "k", "-1"), 201),
            (OWNER, 200),
        ],
    )
    def test_a_response_opens_in_its_own_record_only(
        self, codec: Codec, owner: Owner, status: int
    ) -> None:
        copied = encode(RESPONSE, codec, KEYRING, OWNER)._replace(status=status)
        with pytest.raises(Unreadable, match="it is damaged"):
            decode(copied, KEYRING, owner)
        with pytest.raises(Unreadable, match="it is damaged"):
            reencrypt(copied, KEYRING, owner)

    @pytest.mark.parametrize("place", [(8, 1), (7, 2), (71, 1)])
    def test_a_result_opens_as_its_own_step_only(self, place: tuple[int, int]) -> None:
        cipher = Cipher(Codec.FERNET, KEYRING)
        locked = cipher.lock('"secret"', 7, 1)
        assert cipher.open(locked, 7, 1) == '"secret"'
        with pytest.raises(Unreadable, match="it is damaged"):
            cipher.open(locked, *place)

    def test_no_response_is_a_result_nor_the_other_way_round(self) -> None:
        cipher = Cipher(Codec.FERNET, KEYRING)
        encoded = encode(RESPONSE, Codec.FERNET, KEYRING, OWNER)
        with pytest.raises(Unreadable):
            cipher.open(f"{encoded.codec}:{encoded.body.decode()}", 7, 1)
