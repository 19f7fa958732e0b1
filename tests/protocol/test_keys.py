"""I7: what is a key, what is not, and that equal means equal."""

import re
import uuid
from typing import Any

import http_sf
import pytest
from django.test import RequestFactory
from hypothesis import example, given
from hypothesis import strategies as st

from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import InvalidKey, KeyFormat, key_of, parse_key
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support.adapters import every_adapter

UUID = "8e03978e-40d5-43e8-bc93-6894a57f9324"

MALFORMED = {
    "empty": "",
    "only white space": "  ",
    "an empty string": '""',
    "too long": "k" * 256,
    "300 characters": "k" * 300,
    "control character": "a\x01b",
    "tab inside": "a\tb",
    "NUL": "a\x00b",
    "delete character": '"a\x7fb"',
    "inner space": "a b",
    "two field lines": "a,b",
    "two structured field lines": '"a", "b"',
    "a list": "a, b",
    "parameters": "a;b=1",
    "a byte sequence": ":YWJj:",
    "a boolean": "?1",
    "an inner list": '("a")',
    "unterminated": '"abc',
    "ends in a backslash": '"abc\\"',
    "bad escape": '"a\\bc"',
    "Latin-1": "caf\xe9",
    "look-alike": "p\u0430yment",
}


@pytest.mark.once
@pytest.mark.parametrize("value", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed(value: str) -> None:
    with pytest.raises(InvalidKey):
        parse_key(value)


@pytest.mark.once
@pytest.mark.parametrize("value", [UUID, f'"{UUID}"', f"  {UUID} ", f' "{UUID}"\t'])
def test_both_spellings_are_one_key(value: str) -> None:
    assert parse_key(value) == UUID


@pytest.mark.once
def test_escapes_are_undone() -> None:
    assert parse_key(r'"a\"b\\c, d;e"') == r'a"b\c, d;e'


@pytest.mark.once
def test_strict_formats() -> None:
    assert parse_key(f'"{UUID}"', KeyFormat.STRUCTURED) == UUID
    assert parse_key(UUID, KeyFormat.BARE) == UUID
    with pytest.raises(InvalidKey, match="Structured Fields String"):
        parse_key(UUID, KeyFormat.STRUCTURED)
    with pytest.raises(InvalidKey, match="without quotes"):
        parse_key(f'"{UUID}"', KeyFormat.BARE)


@pytest.mark.once
def test_length_is_counted_without_quotes_and_escapes() -> None:
    assert parse_key('"' + "k" * 255 + '"') == "k" * 255
    assert parse_key('"' + r"\"" * 255 + '"') == '"' * 255
    with pytest.raises(InvalidKey, match="129 characters; at most 128"):
        parse_key("k" * 129, max_length=128)


@pytest.mark.once
@given(st.text(st.characters(max_codepoint=0x100), max_size=12).map(lambda text: f'"{text}"'))
@example(r'"\""')
def test_quoted_keys_agree_with_the_structured_fields_grammar(value: str) -> None:
    """RFC 9651, section 3.3.3, as http_sf understands it."""
    try:
        parsed, parameters = http_sf.parse(value.encode(), tltype="item")
        expected = parsed if isinstance(parsed, str) and not parameters else None
    except (ValueError, UnicodeError):
        expected = None
    try:
        actual = parse_key(value, KeyFormat.STRUCTURED)
    except InvalidKey:
        actual = None
    assert actual == (expected or None)


@pytest.mark.once
@given(st.text())
def test_nothing_but_invalid_key_is_raised(value: str) -> None:
    try:
        key = parse_key(value)
    except InvalidKey:
        return
    assert key.isascii()
    assert key.isprintable()
    assert 1 <= len(key) <= 255


SENDABLE = {name: value for name, value in MALFORMED.items() if name != "look-alike"}


@pytest.mark.once
@pytest.mark.parametrize("path", ["/function/", "/class/", "/rest/", "/decorated-rest/"])
def test_malformed_keys_get_400_with_zero_queries(
    path: str, use_middleware: None, caller: Caller, django_assert_num_queries: Any
) -> None:
    for name, value in SENDABLE.items():
        with django_assert_num_queries(0):
            response = caller.post(path, key=value)
        assert response.status_code == 400, name
        assert response["Content-Type"] == "application/problem+json"
        assert response.json()["code"] == "idempotency_key_invalid"
        assert response.json()["detail"]
    assert not Order.objects.exists()


@pytest.mark.once
@every_adapter
def test_malformed_keys_get_400_at_every_adapter(adapter: str, caller: Caller) -> None:
    assert caller.post(adapter, key="a,b").status_code == 400
    assert not Order.objects.exists()


def test_required_and_missing(caller: Caller) -> None:
    response = caller.post("/required/", key=None)
    assert response.status_code == 400
    assert response.json()["code"] == "idempotency_key_missing"
    assert caller.post("/required/").status_code == 201


KEYS = ["abc", "ABC", "aBc", '"abc "', '" abc"', '"a bc"', '"ab  c"', "abc.", "4bc", '"a\\\\bc"']


def test_keys_that_look_alike_are_different(use_middleware: None, caller: Caller) -> None:
    """Collations may fold case or ignore trailing spaces."""
    for key in KEYS:
        assert "Idempotency-Replayed" not in caller.post("/rest/", key=key), key
    assert Order.objects.count() == len(KEYS)
    stored = set(IdempotencyRecord.objects.values_list("key", flat=True))
    assert stored == {parse_key(key) for key in KEYS}


@pytest.mark.once
def test_two_header_lines_arrive_joined() -> None:
    """WSGI servers join repeated fields with a comma (RFC 9110, section 5.3)."""
    request = RequestFactory().post("/", headers={"idempotency-key": f"{UUID},{UUID}"})
    with pytest.raises(InvalidKey, match="send the header once"):
        parse_key(request.headers["Idempotency-Key"])


class TestFoundByAFunction:
    """No header's syntax applies; the key is what the function returns, and nothing else."""

    @pytest.mark.parametrize(
        ("value", "key"),
        [
            ("k", "k"),
            ('a, "b"', 'a, "b"'),
            ('"k"', '"k"'),
            (7, "7"),
            (uuid.UUID(UUID), UUID),
        ],
    )
    def test_it_is_taken_as_it_is(self, value: object, key: str) -> None:
        for key_format in set(KeyFormat) - {KeyFormat.UUID}:
            assert key_of(value, key_format) == key

    @pytest.mark.parametrize(
        "value",
        ["", " ", "k ", "\tk", "k\n", "k\0", "ä", "k" * 256, True, 1.5, None, b"k", ["k"], {}],
    )
    def test_anything_else_is_malformed(self, value: object) -> None:
        with pytest.raises(InvalidKey):
            key_of(value)

    def test_policy_about_keys_applies(self) -> None:
        with pytest.raises(InvalidKey, match="at most 3"):
            key_of("four", max_length=3)
        with pytest.raises(InvalidKey, match="form that this operation documents"):
            key_of("evt", pattern=re.compile("evt_.+"))
        with pytest.raises(InvalidKey, match="must be a UUID"):
            key_of("k", KeyFormat.UUID)
        assert key_of(UUID.upper(), KeyFormat.UUID) == UUID
