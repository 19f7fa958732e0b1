"""draft-ietf-httpapi-idempotency-key-header-07, section by section.

A test's name begins with the section it is about. ``docs/ietf-draft.md`` has a row for each.
"""

import re
from datetime import timedelta
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import http_sf
import pytest
from django.core.management import call_command
from django.db.models import F
from django.test import RequestFactory
from hypothesis import example, given
from hypothesis import strategies as st

from django_idempotency.http.claim import payload
from django_idempotency.models import IdempotencyRecord
from django_idempotency.protocol.keys import InvalidKey, KeyFormat, parse_key
from tests.conftest import Caller, in_thread, row_locks
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE, usual_and_whole

PAGE = Path(__file__).parents[2] / "docs/ietf-draft.md"
DOCUMENTATION = "https://api.example.com/docs/retries"
UUID = "8e03978e-40d5-43e8-bc93-6894a57f9324"
KEY = f'"{UUID}"'
KEY_FORMATS = ("structured", "lenient")


@pytest.fixture(
    params=usual_and_whole(
        [("structured", "/function/"), ("lenient", "/rest/")],
        [(key_format, view) for key_format in KEY_FORMATS for view in ("/function/", "/rest/")],
    ),
    ids="-".join,
)
def project(request: Any, settings: Any) -> tuple[str, str]:
    """The strict and the tolerant way to read the field, and a plain view and a DRF view."""
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    key_format, view = request.param
    use(settings, docs_url=DOCUMENTATION, key_format=key_format)
    return key_format, view


@pytest.fixture
def key_format(project: tuple[str, str]) -> str:
    return project[0]


@pytest.fixture
def view(project: tuple[str, str]) -> str:
    return project[1]


def use(settings: Any, **policy: Any) -> None:
    """Change the policy."""
    before = getattr(settings, "IDEMPOTENCY", {})
    settings.IDEMPOTENCY = before | {name.upper(): value for name, value in policy.items()}


def assert_problem(response: Any, status: int, code: str) -> None:
    """Section 2.7: the status, problem+json, and the link in the body and in a field."""
    assert response.status_code == status
    assert response["Content-Type"] == "application/problem+json"
    problem = response.json()
    assert problem["type"] == f"{DOCUMENTATION}#{code}"
    assert (problem["status"], problem["code"]) == (status, code)
    assert problem["title"]
    assert problem["detail"]
    assert problem["instance"].startswith("urn:uuid:")
    assert response["Link"] == f'<{DOCUMENTATION}>; rel="describedby"; type="text/html"'


def nothing_happened() -> bool:
    return not Order.objects.exists() and not IdempotencyRecord.objects.exists()


@pytest.mark.parametrize(
    ("value", "key"),
    [
        (KEY, UUID),
        ('"clkyoesmbgybucifusbbtdsbohtyuuwz"', "clkyoesmbgybucifusbbtdsbohtyuuwz"),
        ('"two words, and; more"', "two words, and; more"),
        (r'"a \"quote\" and a \\"', 'a "quote" and a \\'),
        (f"  {KEY}\t", UUID),
    ],
)
def test_2_1_the_value_is_a_string(caller: Caller, view: str, value: str, key: str) -> None:
    first, retry = caller.post(view, key=value), caller.post(view, key=value)
    assert (first.status_code, retry.content) == (201, first.content)
    assert IdempotencyRecord.objects.get().key == key


@pytest.mark.once
@pytest.mark.parametrize(
    "value",
    [
        '"unterminated',
        '"',
        '""',
        '"a" "b"',
        '"a", "b"',
        r'"a\b"',
        '"caf\xe9"',
        '"a\x7f"',
        ":YQ==:",
        "?1",
        "@1659578233",
        '%"caf%c3%a9"',
        "(a b)",
        "a, b",
        "token;a=1",
        "",
    ],
)
def test_2_1_other_values_are_refused_and_not_ignored(
    caller: Caller, view: str, value: str
) -> None:
    """The key is optional here; who sends one that cannot be read must not run unprotected."""
    assert_problem(caller.post(view, key=value), 400, "idempotency_key_invalid")
    assert nothing_happened()


@pytest.mark.once
@pytest.mark.parametrize("value", [f"{KEY};a=1", f'{KEY};a="b";c', f"{KEY}; a"])
def test_2_1_parameters_are_refused(caller: Caller, view: str, value: str) -> None:
    """The draft defines none. RFC 9651, section 2, would rather have them ignored."""
    assert_problem(caller.post(view, key=value), 400, "idempotency_key_invalid")


def test_2_1_a_bare_value_is_the_same_key_or_refused(
    caller: Caller, view: str, key_format: str
) -> None:
    first, bare = caller.post(view, key=KEY), caller.post(view, key=UUID)
    if key_format == "structured":
        assert_problem(bare, 400, "idempotency_key_invalid")
    else:
        assert bare.content == first.content
    assert Order.objects.count() == 1


@pytest.mark.once
@pytest.mark.parametrize("join", [",", ", "])
def test_2_1_two_field_lines_are_refused(caller: Caller, view: str, join: str) -> None:
    """A server hands over two lines as one value with a comma (RFC 9110, section 5.3)."""
    both = caller.post(view, key=join.join([KEY, KEY]))
    assert_problem(both, 400, "idempotency_key_invalid")


raw_values = st.binary(max_size=12) | st.binary(max_size=12).map(lambda raw: b'"%b"' % raw)


@pytest.mark.once
@given(raw_values)
@example(b'"a" ')
@example(rb'"\""')
@example(b'"a";b')
def test_2_1_arbitrary_bytes_agree_with_the_grammar(raw: bytes) -> None:
    """What http_sf reads as a String without parameters is that key; all else is refused."""
    sent = raw.strip(b" \t")  # as every server does (RFC 9110, section 5.5)
    try:
        value, parameters = http_sf.parse(sent, tltype="item")
        is_key = isinstance(value, str) and sent.startswith(b'"') and value and not parameters
        expected = str(value) if is_key else None
    except (ValueError, UnicodeError):
        expected = None
    assert key_in(raw, KeyFormat.STRUCTURED) == expected


@pytest.mark.once
@given(raw_values, st.sampled_from(KeyFormat))
def test_2_1_arbitrary_bytes_are_a_key_or_refused(raw: bytes, key_format: KeyFormat) -> None:
    key = key_in(raw, key_format)
    assert key is None or (1 <= len(key) <= 255 and key.isascii() and key.isprintable())


def key_in(raw: bytes, key_format: KeyFormat) -> str | None:
    """Read a field as WSGI hands it over. Only ``InvalidKey`` becomes a 400."""
    try:
        return parse_key(raw.decode("latin-1"), key_format)
    except InvalidKey:
        return None


def test_2_2_a_key_is_not_reused_with_another_payload(caller: Caller, view: str) -> None:
    caller.post(view, {"item": "vm"}, key=KEY)
    other = caller.post(view, {"item": "disk"}, key=KEY)
    assert_problem(other, 422, "idempotency_key_reused")
    assert Order.objects.count() == 1


def test_2_2_uuids_can_be_demanded(caller: Caller, view: str, settings: Any) -> None:
    use(settings, key_format="uuid")
    assert caller.post(view, key=KEY).status_code == 201
    assert_problem(caller.post(view, key='"17"'), 400, "idempotency_key_invalid")


def test_2_3_a_key_expires(caller: Caller, view: str) -> None:
    caller.post(view, key=KEY)
    IdempotencyRecord.objects.update(expires_at=F("created_at") - timedelta(seconds=1))
    again = caller.post(view, key=KEY)
    assert (again.status_code, "Idempotency-Replayed" in again) == (201, False)
    assert Order.objects.count() == 2


def test_2_3_responses_can_publish_the_expiry(caller: Caller, view: str, settings: Any) -> None:
    use(settings, expires_header="Idempotency-Expires")
    first, retry = caller.post(view, key=KEY), caller.post(view, key=KEY)
    assert first["Idempotency-Expires"] == retry["Idempotency-Expires"]


@pytest.mark.parametrize(
    ("policy", "same", "other"),
    [
        ({}, b'{"item":"vm","note":"a"}', b'{"item": "vm", "note": "b"}'),
        ({"fingerprint": "bytes"}, b'{"item": "vm", "note": "a"}', b'{"note":"a","item":"vm"}'),
        ({"fingerprint_fields": ["item"]}, b'{"item": "vm"}', b'{"item": "disk"}'),
        ({"fingerprint_ignored_fields": ["note"]}, b'{"item": "vm"}', b'{"item": "disk"}'),
    ],
    ids=["entire payload", "its bytes", "selected elements", "all but some"],
)
def test_2_4_fingerprints(
    caller: Caller, view: str, settings: Any, policy: Any, same: bytes, other: bytes
) -> None:
    use(settings, **policy)
    caller.post(view, b'{"item": "vm", "note": "a"}', key=KEY)
    assert caller.post(view, same, key=KEY)["Idempotency-Replayed"] == "true"
    assert_problem(caller.post(view, other, key=KEY), 422, "idempotency_key_reused")


fields = st.lists(st.tuples(st.text("ab=&", max_size=3), st.text("ab=&", max_size=3)), max_size=4)


@pytest.mark.once
@given(fields, fields)
def test_2_4_forms_are_equal_by_their_fields(one: Any, other: Any) -> None:
    """Fields of one name keep their order; nothing moves between names, values and fields."""
    assert (grouped(one) == grouped(other)) is (form_digest(one) == form_digest(other))


@pytest.mark.once
@given(fields)
def test_2_4_the_order_of_different_names_does_not_matter(form: Any) -> None:
    sorted_by_name = sorted(form, key=lambda field: field[0])
    assert form_digest(sorted_by_name) == form_digest(form)


def grouped(form: list[tuple[str, str]]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for name, value in form:
        found.setdefault(name, []).append(value)
    return found


def form_digest(form: list[tuple[str, str]]) -> bytes:
    request = RequestFactory().post(
        "/", urlencode(form), content_type="application/x-www-form-urlencoded"
    )
    found = payload(request)
    assert found is not None
    return found.kind.encode() + found.digest


@pytest.mark.once
@pytest.mark.parametrize("name", ["idempotency-key", "IDEMPOTENCY-KEY", "iDeMpOtEnCy-KeY"])
def test_2_5_2_the_key_is_identified_from_the_field(caller: Caller, view: str, name: str) -> None:
    """Names of fields ignore case (RFC 9110, section 5.1)."""
    caller.post(view, key=None, headers={name: KEY})
    assert IdempotencyRecord.objects.get().key == UUID


def test_2_5_2_without_the_field_nothing_is_remembered(caller: Caller, view: str) -> None:
    for _ in range(2):
        assert caller.post(view, key=None).status_code == 201
    assert Order.objects.count() == 2
    assert not IdempotencyRecord.objects.exists()


def test_2_5_2_the_lifecycle_of_keys_is_managed(caller: Caller, view: str) -> None:
    caller.post(view, key=KEY)
    long_ago = F("created_at") - timedelta(days=1)
    IdempotencyRecord.objects.update(expires_at=long_ago, purge_at=long_ago)
    call_command("purge_idempotency_records")
    assert not IdempotencyRecord.objects.exists()


def test_2_6_the_first_request_is_processed_normally(caller: Caller, view: str) -> None:
    plain, keyed = caller.post(view, key=None), caller.post(view, key=KEY)
    assert (keyed.status_code, keyed.json()["item"]) == (201, plain.json()["item"])
    assert dict(keyed.items()).keys() == dict(plain.items()).keys()


@pytest.mark.parametrize("outcome", ["201", "202", "400", "404", "422"])
def test_2_6_a_retry_gets_the_result_success_or_error(
    caller: Caller, view: str, outcome: str
) -> None:
    first, retry = (caller.post(view, {"outcome": outcome}, key=KEY) for _ in range(2))
    assert first.status_code == int(outcome)
    assert (retry.status_code, retry.content) == (first.status_code, first.content)
    assert retry["X-Order"] == first["X-Order"]
    assert Order.objects.count() == 1


@row_locks
def test_2_6_a_concurrent_request_gets_a_conflict(
    caller: Caller, view: str, after_write: Any
) -> None:
    """Also section 2.7: 409 with a description. On SQLite the duplicate waits and replays."""
    seen = []
    after_write(lambda: seen.append(in_thread(lambda: caller.post(view, key=KEY)).result()))
    assert caller.post(view, key=KEY).status_code == 201
    assert_problem(seen[0], 409, "idempotency_in_flight")
    assert (seen[0].json()["retryable"], seen[0]["Retry-After"]) == (True, "1")
    assert Order.objects.count() == 1


@pytest.mark.once
def test_2_7_a_missing_key_is_400(caller: Caller, view: str, settings: Any) -> None:
    use(settings, required=True)
    missing = caller.post(view, key=None)
    assert_problem(missing, 400, "idempotency_key_missing")
    assert "Idempotency-Key" in missing.json()["title"]
    assert nothing_happened()


def test_2_7_a_reused_key_is_422(caller: Caller, view: str) -> None:
    caller.post(view, key=KEY)
    assert_problem(caller.post(f"{view}?dry=1", key=KEY), 422, "idempotency_key_reused")


def test_2_7_an_uncorrected_request_fails_again(caller: Caller, view: str) -> None:
    caller.post(view, {"item": "vm"}, key=KEY)
    for _ in range(2):
        wrong = caller.post(view, {"item": "disk"}, key=KEY)
        assert_problem(wrong, 422, "idempotency_key_reused")
        assert wrong.json()["retryable"] is False
    assert caller.post(view, {"item": "vm"}, key=KEY).status_code == 201


@pytest.mark.parametrize("status", [401, 403, 429, 500, 502, 503, 504])
def test_2_7_other_errors_are_passed_on(caller: Caller, view: str, status: int) -> None:
    """What a client does about them is the API's to document; a retry runs again."""
    for _ in range(2):
        response = caller.post(view, {"outcome": str(status)}, key=KEY)
        assert (response.status_code, "Idempotency-Replayed" in response) == (status, False)
    # Nothing of a server error stays; a refusal keeps what it wrote.
    assert Order.objects.count() == (0 if status >= 500 else 2)


@pytest.mark.once
def test_5_a_fixed_format_can_be_published(caller: Caller, view: str, settings: Any) -> None:
    use(settings, key_pattern="[0-9a-f-]{36}", key_max_length=36)
    assert caller.post(view, key=KEY).status_code == 201
    for value in ('"8e03978e"', f'"{UUID}0"', '"x\' OR 1=1 --"'):
        assert_problem(caller.post(view, key=value), 400, "idempotency_key_invalid")


@pytest.mark.once
def test_5_keys_are_validated_before_anything_is_looked_up(
    caller: Caller, view: str, django_assert_num_queries: Any
) -> None:
    """A DRF view has not even authenticated the caller."""
    send = caller.post if view == "/rest/" else in_no_session(caller)
    with django_assert_num_queries(0):
        assert_problem(send(view, key='"a", "b"'), 400, "idempotency_key_invalid")


def in_no_session(caller: Caller) -> Any:
    caller._client.cookies.clear()
    return caller.post


@pytest.mark.parametrize("value", ['"\'; DROP TABLE x; --"', '"%_*"', '"../../etc/passwd"'])
def test_5_a_key_is_data(caller: Caller, view: str, value: str) -> None:
    first, retry = caller.post(view, key=value), caller.post(view, key=value)
    assert first.content == retry.content
    assert caller.post(view, key='"%"').content != first.content


def test_5_lookups_use_a_composite_of_key_and_client(
    caller: Caller, stranger: Caller, view: str
) -> None:
    """The other half is a keyed digest, so that nobody can make it up."""
    mine, theirs = caller.post(view, key=KEY), stranger.post(view, key=KEY)
    assert mine.content != theirs.content
    records = IdempotencyRecord.objects.values_list("key", "scope")
    assert {key for key, _ in records} == {UUID}
    assert len({scope for _, scope in records}) == 2
    assert all(re.fullmatch("[0-9a-f]{64}", scope) for _, scope in records)


@pytest.mark.once
class TestPage:
    """The table in the documentation and this module name the same tests."""

    def test_every_row_has_its_tests_and_every_test_its_row(self) -> None:
        rows = re.findall(r"^\| (\d[\d.]*) \|.*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
        assert rows
        listed = [(section, name) for section, cell in rows for name in names(cell)]
        tests = {name for name in globals() if re.match(r"test_\d", name)}
        assert sorted(name for _, name in listed) == sorted(tests)
        for section, name in listed:
            assert name.startswith(f"test_{section.replace('.', '_')}_")

    def test_rows_without_a_test_are_the_publishers(self) -> None:
        rows = re.findall(r"^\| \d[\d.]* \|.*\| (.*) \|$", PAGE.read_text(), re.MULTILINE)
        assert all("yours" in cell or names(cell) for cell in rows)


def names(cell: str) -> list[str]:
    return re.findall(r"`(test_\w+)`", cell)
