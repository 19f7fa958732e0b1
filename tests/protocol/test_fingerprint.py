"""Equal requests have equal fingerprints; different ones do not."""

import json
import sys
from datetime import timedelta
from decimal import Decimal
from hashlib import sha256
from random import Random
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from django_idempotency.protocol.envelope import record_name
from django_idempotency.protocol.fingerprint import (
    Payload,
    Selection,
    Target,
    custom_fingerprint,
    fingerprint,
    form_payload,
    json_payload,
    query_values,
    raw_payload,
)
from django_idempotency.protocol.keys import SCOPE, derived_uuid, keyed_digest
from django_idempotency.protocol.record import Claim

pytestmark = pytest.mark.once

scalars = st.none() | st.booleans() | st.integers() | st.text()
scalars |= st.floats(allow_nan=False, allow_infinity=False)
documents = st.recursive(
    scalars, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8
)


def shuffled(value: Any) -> Any:
    """The same document with its names in another order."""
    if isinstance(value, dict):
        return {name: shuffled(value[name]) for name in reversed(value)}
    return [shuffled(item) for item in value] if isinstance(value, list) else value


def typed(value: Any) -> Any:
    """Python says 1 == 1.0 == True; JSON does not."""
    if isinstance(value, dict):
        return {name: typed(item) for name, item in value.items()}
    if isinstance(value, list):
        return [typed(item) for item in value]
    return (type(value).__name__, repr(value))


@given(documents)
def test_serialising_json_again_changes_nothing(document: Any) -> None:
    compact = json.dumps(document, separators=(",", ":"), ensure_ascii=False)
    spacious = json.dumps(shuffled(document), indent=3, ensure_ascii=True)
    raw = compact.encode("utf-8", "surrogatepass")
    if json_payload(raw) is not None:  # lone surrogates are no UTF-8
        assert json_payload(raw) == json_payload(spacious.encode())


@given(documents, documents)
def test_different_json_stays_different(one: Any, other: Any) -> None:
    assume(typed(one) != typed(other))
    assert json_payload(json.dumps(one).encode()) != json_payload(json.dumps(other).encode())


@pytest.mark.parametrize(
    "spellings",
    [
        ["1", "1.0", '"1"', "true", '{"f": "1e0"}', "[1]"],
        ["0.0", "-0.0", "0", "null", '""', "[]", "{}", "false"],
        ["12345678901234567890123", "12345678901234567890124", "1.2345678901234567890123e22"],
        ["0.1", "0.10000000000000000555"],
        ['{"a": 1.5}', '{"a": {"f": "15e-1"}}', '{"a": "1.5"}'],
        ["[[1], 2]", "[1, [2]]", "[1, 2]"],
        ["1e400", "1e401", "1e-400", "1e-401", "0.0", "1e99999999999999999999"],
        ["1e-320", "1.0000001e-320", "1.00001e-320", "0e1"],
        ["123456789012345e-3", "123456789012345.6e-3", "1234567890123457e-4"],
        ["-1e2", "1e2", "1e3", "-1e-2", "1e-2"],
        [r'"\ud800"', r'"\udfff"'],
    ],
)
def test_values_are_not_confused(spellings: list[str]) -> None:
    found = [json_payload(text.encode()) for text in spellings]
    assert None not in found
    assert len(set(found)) == len(spellings)


@pytest.mark.parametrize(
    "same",
    [
        ["1.50", "1.5", "15e-1", "0.0015e3", "0.15E+1", "15.0e-01"],
        ["1e2", "100.0", "1E+2", "0.1e3"],
        ["-0.005", "-5e-3", "-0.5e-2", "-500e-5"],
        ["0.0", "0e5", "0.000e-7", "0.00E0"],
        ["-0.0", "-0e5"],
        ["1e-320", "10e-321", "0.1e-319"],
        ["1e16", "10000000000000000.0", "10e15"],
        ["1e500", "10e499", "0.1e501"],
        ["123456789012345678901234567890e-5", "1234567890123456789012345.67890"],
        [r'"\u00e9"', '"é"'],
    ],
)
def test_spellings_of_one_value(same: list[str]) -> None:
    assert len({json_payload(text.encode()) for text in same}) == 1


@pytest.mark.parametrize(
    "text",
    [
        b'{"a": 1, "a": 2}',
        b"NaN",
        b"[-Infinity]",
        b"{",
        b"",
        b"\xff",
        b"\xef\xbb\xbf{}",
        b"[" * 100_000,
        b"9" * 10_000,
        b"1e" + b"9" * 10_000,
    ],
)
def test_what_has_no_canonical_form_is_compared_by_its_bytes(text: bytes) -> None:
    assert json_payload(text) is None


@given(st.lists(st.text(max_size=4), min_size=3, max_size=3), st.data())
def test_no_byte_moves_between_the_parts(parts: list[str], data: Any) -> None:
    """I8: GET /ab?c and GET /a?bc."""
    joined = "".join(parts)
    first = data.draw(st.integers(0, len(joined)))
    second = data.draw(st.integers(first, len(joined)))
    moved = [joined[:first], joined[first:second], joined[second:]]
    assume(moved != parts)
    payload = Payload("raw", b"")
    assert fingerprint(Target(*parts), payload) != fingerprint(Target(*moved), payload)


def test_kinds_of_payload_are_different() -> None:
    body = b"a=1"
    digest = sha256(body).digest()
    found = {
        raw_payload("text/plain", digest),
        raw_payload("application/json", digest),
        form_payload([("a", ("text", "1"))]),
        form_payload([("a", ("file", "1"))]),
        form_payload([("a", ("text", "1", ""))]),
        json_payload(b'{"a": "1"}'),
    }
    assert len({fingerprint(Target("POST", "/"), each) for each in found if each}) == 6


def test_scopes_are_keyed_and_delimited() -> None:
    scope = keyed_digest(SCOPE + b"secret", ("user", "7"))
    assert scope != keyed_digest(SCOPE + b"other", ("user", "7"))
    assert scope != keyed_digest(SCOPE + b"secret", ("user7", ""))
    assert len(keyed_digest(SCOPE + b"secret", ())) == 32


SHOP = Target("POST", "/orders/é", "a=1", "shop.example", "v2")
CLAIM = Claim("scope", "key", "f", "POST", "/", timedelta(days=1), secret=b"secret")
DOCUMENT = b'{"b": [1, 1.50, 15e-1, null], "a": {"x": true}}'
UPLOAD = [("b", ("text", "1")), ("a", ("file", "n", "text/plain", "00"))]


@pytest.mark.parametrize(
    ("digest", "known"),
    [
        (
            fingerprint(SHOP, json_payload(DOCUMENT) or Payload("", b"")),
            "1:734559d987efac72a0f48b9ff9cc192d9be84563c9f418d75702a03de745d5b8",
        ),
        (
            fingerprint(SHOP, form_payload(UPLOAD, "latin-1")),
            "1:054dbd533c7a50b699e8a749a06e6af9b6b7fc4a7f724a4de601a13841296833",
        ),
        (
            fingerprint(SHOP, raw_payload("text/plain", b"\1" * 32)),
            "1:202395f39c23cfe486fca2b8e9befc32b99b3127f075e0234ad2aaa5d5e311de",
        ),
        (
            custom_fingerprint("order 7"),
            "1c:0fc89f8ae19394b48debd6353bb9ad3393f3bc791931519f19d176a7e5513ebc",
        ),
        (
            query_values([("a", ("1",))]),
            "values 94386a2bbd50bb30a01082155902e766ce521ae0d4fee337980509c151d13564",
        ),
        (
            keyed_digest(SCOPE + b"secret", ("user", "auth.user:7")).hex(),
            "db545f9ba90c6a84d1886548075738f32da1a3400db027fdcf7e3e8ed992ad70",
        ),
        (
            record_name(b"secret", ("default", ""), "scope", "key"),
            "idempotency:response.1:"
            "56e3efea50d42351da680dbb6a8349d275f694e353146b872fbb7f5c8c202b32",
        ),
        (derived_uuid(CLAIM, ("7", "mail")), "1efb2874-51fe-41a8-8da4-8f4adee76c09"),
    ],
)
def test_a_new_version_finds_what_an_old_one_stored(digest: str, known: str) -> None:
    """Records and derived keys outlive a deployment. Another digest would run requests again."""
    assert digest == known


# Exponents and decimals as texts, so that a number has many spellings.
numbers = st.tuples(
    st.sampled_from(["", "-"]),
    st.integers(0, 10**20).map(str),
    st.text("0123456789", min_size=1, max_size=20),
    st.none() | st.integers(-450, 450),
).map(lambda n: f"{n[0]}{n[1]}.{n[2]}" + ("" if n[3] is None else f"e{n[3]}"))


@given(numbers, numbers)
def test_numbers_are_equal_if_their_values_are(one: str, other: str) -> None:
    """Zero has a sign: a view may see it."""
    same = Decimal(one) == Decimal(other) and one.startswith("-") == other.startswith("-")
    assert (json_payload(one.encode()) == json_payload(other.encode())) is same


@given(numbers, st.integers(0, 30), st.integers(-30, 30))
def test_a_number_spelled_otherwise_is_the_same(number: str, zeros: int, shift: int) -> None:
    mantissa, _, power = number.partition("e")
    sign, digits, exponent = Decimal(mantissa).as_tuple()
    moved = int(power or 0) + int(exponent) - shift
    text = "".join(map(str, digits)).rjust(abs(shift) + 1, "0")
    if shift >= 0:
        spelled = f"{text}{'0' * shift}.{'0' * (zeros + 1)}e{moved}"
    else:
        spelled = f"{text[:shift]}.{text[shift:]}{'0' * zeros}e{moved}"
    spelled = spelled.lstrip("0") if not spelled.startswith("0.") else spelled
    spelled = ("-" if sign else "") + (f"0{spelled}" if spelled.startswith(".") else spelled)
    assert Decimal(spelled) == Decimal(number)
    assert json_payload(spelled.encode()) == json_payload(number.encode())


class TestSelection:
    DOCUMENT = {"meta": {"ts": 1, "id": 2}, "ts": 3, "items": [{"ts": 4, "n": 5}, 6], "m.ts": 7}

    @pytest.mark.parametrize(
        ("ignored", "left"),
        [
            ({"ts"}, {"meta": {"ts": 1, "id": 2}, "items": [{"ts": 4, "n": 5}, 6], "m.ts": 7}),
            ({"meta.ts"}, DOCUMENT | {"meta": {"id": 2}}),
            ({"items.ts"}, DOCUMENT | {"items": [{"n": 5}, 6]}),
            ({"meta", "meta.ts"}, {"ts": 3, "items": [{"ts": 4, "n": 5}, 6], "m.ts": 7}),
            ({"ts.deeper", "nothing"}, DOCUMENT),
        ],
        ids=["top", "nested", "in a list", "both", "neither"],
    )
    def test_ignored_paths(self, ignored: set[str], left: Any) -> None:
        assert Selection(ignored=frozenset(ignored)).part_of(self.DOCUMENT) == left

    def test_wanted_paths(self) -> None:
        chosen = Selection(fields=frozenset({"meta.id", "items.n", "ts"}))
        assert chosen.part_of(self.DOCUMENT) == {
            "meta": {"id": 2},
            "ts": 3,
            "items": [{"n": 5}, 6],
        }

    def test_both_and_lists_at_the_top(self) -> None:
        chosen = Selection(fields=frozenset({"meta"}), ignored=frozenset({"meta.ts"}))
        assert chosen.part_of([self.DOCUMENT]) == [{"meta": {"id": 2}}]
        assert chosen.part_of(7) == 7


@pytest.mark.parametrize(
    ("kind", "sample"),
    [
        ("reals", lambda draw: repr(draw.random())),
        ("prices", lambda draw: f"{draw.random() * 1000:.2f}"),
        ("exponents", lambda draw: f"{draw.random():.3e}"),
        ("objects", lambda draw: f'{{"b": {draw.random():.2f}, "a": "x", "c": 7}}'),
    ],
)
def test_a_large_document_costs_no_more_calls_than_values(kind: str, sample: Any) -> None:
    """What it costs is measured elsewhere; here, that work per value is one call of ours."""
    draw = Random(1)
    raw = ("[" + ",".join(sample(draw) for _ in range(1000)) + "]").encode()
    calls = 0

    def count(frame: Any, event: str, argument: Any) -> None:
        nonlocal calls
        calls += event == "call"

    sys.setprofile(count)
    try:
        json_payload(raw)
    finally:
        sys.setprofile(None)
    assert calls <= 2 * 1000 + 10
