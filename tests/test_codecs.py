"""Encoded responses: what goes in comes out, or a clear refusal."""

import sys
import tracemalloc
import zlib
from dataclasses import replace
from typing import Any

import pytest
from cryptography.fernet import Fernet
from hypothesis import given
from hypothesis import strategies as st

import django_idempotency
from django_idempotency import codecs
from django_idempotency.codecs import (
    Codec,
    Keyring,
    NoKeys,
    Unreadable,
    decode,
    encode,
    name_of,
    recode,
    up_to_date,
)
from django_idempotency.protocol.record import Omitted, StoredResponse

pytestmark = pytest.mark.once

OLD, NEW = (Fernet.generate_key().decode() for _ in range(2))
KEYRING = Keyring((NEW, OLD))
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
    assert decode(encode(response, codec, KEYRING), KEYRING) == response


def test_plain_is_not_touched() -> None:
    assert encode(RESPONSE, Codec.PLAIN, Keyring()) is RESPONSE
    assert decode(RESPONSE, Keyring()) is RESPONSE


@encoding
def test_an_encoded_response_says_how_and_shows_nothing(codec: Codec) -> None:
    encoded = encode(RESPONSE, codec, KEYRING)
    assert (encoded.status, encoded.headers) == (201, ())
    assert encoded.codec == (f"{codec}:{name_of(NEW)}" if codec.encrypts else "zlib")
    assert b"tok-" not in encoded.body
    assert len(encoded.codec) <= 32


@every_codec
def test_what_is_remembered_without_body_has_nothing_to_seal(codec: Codec) -> None:
    response = StoredResponse(200, omitted=Omitted.TOO_LARGE)
    assert encode(response, codec, Keyring()) is response


def test_compression_saves_space() -> None:
    large = replace(RESPONSE, body=b"once more, " * 1000)
    assert len(encode(large, Codec.ZLIB, Keyring()).body) < 200
    assert len(encode(large, Codec.ZLIB_FERNET, KEYRING).body) < 400


class TestKeys:
    def test_the_first_encrypts_and_all_decrypt(self) -> None:
        old = encode(RESPONSE, Codec.FERNET, Keyring((OLD,)))
        assert decode(old, KEYRING) == RESPONSE
        new = encode(RESPONSE, Codec.FERNET, KEYRING)
        with pytest.raises(Unreadable, match="its encryption key is not available") as caught:
            decode(new, Keyring((OLD,)))
        assert caught.value.codec == new.codec

    def test_without_any_nothing_is_encrypted(self) -> None:
        with pytest.raises(NoKeys, match="ENCRYPTION_KEYS"):
            encode(RESPONSE, Codec.FERNET, Keyring())

    def test_without_the_package_nothing_is_encrypted(self, monkeypatch: Any) -> None:
        monkeypatch.delattr(django_idempotency, "encryption", raising=False)
        monkeypatch.delitem(sys.modules, "django_idempotency.encryption", raising=False)
        monkeypatch.setitem(sys.modules, "cryptography.fernet", None)
        with pytest.raises(NoKeys, match=r"pip install 'django-idempotency\[crypto\]'"):
            encode(RESPONSE, Codec.FERNET, KEYRING)

    def test_their_names_say_nothing_of_them(self) -> None:
        assert len(name_of(NEW)) == 8
        assert name_of(NEW) not in NEW
        assert NEW not in repr(KEYRING)


class TestDamage:
    @encoding
    @pytest.mark.parametrize("change", [b"", b"{}", b"\x80" * 40], ids=len)
    def test_another_body(self, codec: Codec, change: bytes) -> None:
        encoded = replace(encode(RESPONSE, codec, KEYRING), body=change)
        with pytest.raises(Unreadable, match="it is damaged"):
            decode(encoded, KEYRING)

    @pytest.mark.parametrize("codec", ["pickle", "+", "fernet", "zlib:x+", "lz4:1", "fernet:"])
    def test_another_codec(self, codec: str) -> None:
        encoded = replace(encode(RESPONSE, Codec.FERNET, KEYRING), codec=codec)
        with pytest.raises(Unreadable):
            decode(encoded, KEYRING)

    @pytest.mark.parametrize("headers", [b"null", b"[[1, 2]]", b"[" * 5000, b'[["a\\nb", "c"]]'])
    def test_other_headers(self, headers: bytes) -> None:
        encoded = StoredResponse(200, body=zlib.compress(headers + b"\nbody"), codec="zlib")
        with pytest.raises(Unreadable):
            decode(encoded, KEYRING)


class TestBombs:
    """A few kilobytes in a row must not become gigabytes in a process that reads it."""

    BOMB = StoredResponse(200, body=zlib.compress(b"[]\n" + bytes(codecs.LARGEST)), codec="zlib")

    def test_more_than_any_response_is_unreadable(self) -> None:
        tracemalloc.start()
        with pytest.raises(Unreadable, match="damaged"):
            decode(self.BOMB, Keyring())
        assert tracemalloc.get_traced_memory()[1] < 3 * codecs.LARGEST
        tracemalloc.stop()

    def test_policy_may_allow_more(self) -> None:
        assert len(decode(self.BOMB, Keyring(), codecs.LARGEST).body) == codecs.LARGEST


class TestRecoding:
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
        fresh = recode(encode(RESPONSE, before, Keyring((OLD,))), KEYRING)
        assert fresh.codec == f"{after}:{name_of(NEW)}"
        assert fresh.codec in up_to_date(KEYRING)
        assert decode(fresh, Keyring((NEW,))) == RESPONSE

    def test_what_cannot_be_read_is_not_replaced(self) -> None:
        with pytest.raises(Unreadable):
            recode(StoredResponse(200, omitted=Omitted.UNREADABLE), KEYRING)
