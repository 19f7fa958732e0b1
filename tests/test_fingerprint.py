"""Equal requests have equal fingerprints; different ones do not."""

import json
from hashlib import sha256
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from django_idempotency.protocol.canonical import canonical_json
from django_idempotency.protocol.fingerprint import (
    Payload,
    fingerprint,
    form_payload,
    json_payload,
    raw_payload,
)
from django_idempotency.protocol.scope import scope_digest

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
    if canonical_json(raw) is not None:  # lone surrogates are no UTF-8
        assert canonical_json(raw) == canonical_json(spacious.encode())


@given(documents, documents)
def test_different_json_stays_different(one: Any, other: Any) -> None:
    assume(typed(one) != typed(other))
    assert canonical_json(json.dumps(one).encode()) != canonical_json(json.dumps(other).encode())


@pytest.mark.parametrize(
    "spellings",
    [
        ["1", "1.0", '"1"', "true", '{"f": "1e0"}', "[1]"],
        ["0.0", "-0.0", "0", "null", '""', "[]", "{}", "false"],
        ["12345678901234567890123", "12345678901234567890124", "1.2345678901234567890123e22"],
        ["0.1", "0.10000000000000000555"],
        ['{"a": 1.5}', '{"a": {"f": "15e-1"}}', '{"a": "1.5"}'],
        ["[[1], 2]", "[1, [2]]", "[1, 2]"],
        ["1e400", "1e401"],
        [r'"\ud800"', r'"\udfff"'],
    ],
)
def test_values_are_not_confused(spellings: list[str]) -> None:
    found = [canonical_json(text.encode()) for text in spellings]
    assert None not in found
    assert len(set(found)) == len(spellings)


@pytest.mark.parametrize(
    "same", [["1.50", "1.5", "15e-1"], ["1e2", "100.0", "1E+2"], [r'"\u00e9"', '"é"']]
)
def test_spellings_of_one_value(same: list[str]) -> None:
    assert len({canonical_json(text.encode()) for text in same}) == 1


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
        b"1e99999999999999999999",
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
    assert fingerprint(*parts, payload) != fingerprint(*moved, payload)


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
    assert len({fingerprint("POST", "/", "", each) for each in found if each}) == 6


def test_scopes_are_keyed_and_delimited() -> None:
    assert scope_digest(b"secret", ("user", "7")) != scope_digest(b"other", ("user", "7"))
    assert scope_digest(b"secret", ("user", "7")) != scope_digest(b"secret", ("user7", ""))
    assert len(scope_digest(b"secret", ())) == 64
