"""Hostile input: whatever a row, a header or a body holds, no crash and no wrong answer."""

import json
from collections import Counter
from typing import Any

from django.db import connection
from django.test import Client
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from django_idempotency.models import IdempotencyRecord
from proof.report import Outcome
from proof.world import PATH, client, empty, post
from tests.shop.models import Order


def _cut(text: str, length: int) -> str:
    """As much as a binary column of this length holds."""
    return text.encode()[:length].decode(errors="ignore")


TEXTS = st.one_of(
    st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=40),
    st.sampled_from(
        ["", "null", "[]", "{}", "[[1,2]]", '[["X"]]', '[["X",null]]', "[" * 5000, '"', "claimed"]
    ),
    st.sampled_from(['[["a\\r\\nb","c"]]', '[["X","a\\nSet-Cookie: x"]]', '[["\\u00e9","v"]]']),
)
NUMBERS = st.one_of(st.sampled_from([0, 1, 2, 99, 600, 999, 32767]), st.none())
COLUMNS: dict[str, st.SearchStrategy[Any]] = {
    "state": TEXTS.map(lambda text: _cut(text, 16)),
    "attempt": st.sampled_from([0, 1, 2, 2**31 - 1]),
    "fingerprint": TEXTS.map(lambda text: _cut(text, 80)),
    "response_version": st.sampled_from([0, 2, 99, 32767]),
    "response_status": NUMBERS,
    "response_headers": TEXTS,
    "response_body": st.none(),
    "response_omitted": TEXTS.map(lambda text: _cut(text, 16)),
    "response_codec": st.sampled_from(["zlib", "fernet:1a2b3c4d", "zlib+fernet:", "+", "pickle"]),
}
"""What another version, a careless hand or a broken restore may leave in a column.

A body is bytes, and any bytes are a body: only its absence can be noticed.
"""


@st.composite
def corruptions(draw: Any) -> dict[str, Any]:
    names = draw(st.sets(st.sampled_from(sorted(COLUMNS)), min_size=1, max_size=3))
    return {name: draw(COLUMNS[name]) for name in sorted(names)}


def stored_rows(examples: int) -> Outcome:
    """A completed record is damaged; its retry gets the original, or a clear error."""
    outcome = Outcome("stored rows")
    browser = client()
    empty()
    first = post(browser, "k", {"item": "vm"})
    intact = IdempotencyRecord.objects.values().get()

    @_limits(examples)
    @given(corruptions())
    @example({"state": "paused"})
    @example({"response_status": None})
    @example({"response_status": 999})
    @example({"response_headers": "[" * 5000})
    @example({"response_omitted": "lost"})
    def damage(values: dict[str, Any]) -> None:
        IdempotencyRecord.objects.update(**{**intact, **values, "id": intact["id"]})
        outcome.count += 1
        answer = post(browser, "k", {"item": "vm"})
        original = (answer.status_code, answer.content) == (first.status_code, first.content)
        code = _code(answer)
        harmless = original and answer.get("Idempotency-Replayed") == "true"
        emptied = intact["state"] == "completed" and values.get("state") == "claimed"
        clear = answer.status_code in {409, 422} and code.startswith("idempotency_")
        if emptied:  # the row says that nothing was done
            Order.objects.exclude(pk=json.loads(first.content)["id"]).delete()
        elif not (harmless or clear) or Order.objects.count() != 1:
            outcome.violation(f"{values}: {answer.status_code} {answer.content[:80]!r}")

    damage()
    return outcome


def headers(examples: int) -> Outcome:
    """Any header value is a key, or gets 400 and no query."""
    outcome = Outcome("header")
    browser = client()
    empty()

    @_limits(examples)
    @given(st.one_of(st.text(st.characters(max_codepoint=255)), st.text("\"\\;,:= ()k1\t'")))
    @example('"' + "x" * 255 + '"')
    @example("x" * 100_000)
    @example('"\\')
    def send(value: str) -> None:
        outcome.count += 1
        before = Order.objects.count()
        answer = post(browser, value)
        done = Order.objects.count() - before
        refused = answer.status_code == 400 and not done
        accepted = answer.status_code == 201 and done == (not answer.get("Idempotency-Replayed"))
        if not refused and not accepted:
            outcome.violation(f"{value!r}: {answer.status_code}, {done} executions")

    send()
    return outcome


def bodies(examples: int) -> Outcome:
    """A body gets, under a key, what the bare view says of it; the same bytes replay."""
    outcome = Outcome("body")
    browser = client()
    empty()
    number = iter(range(10**9))
    kinds = st.sampled_from(
        [
            "application/json",
            "application/x-www-form-urlencoded",
            "multipart/form-data; boundary=x",
            "multipart/form-data",
            "text/plain; charset=nonsense",
            "",
            "application/x+json",
        ]
    )
    contents = st.one_of(
        st.binary(max_size=200),
        st.text(max_size=80).map(lambda text: json.dumps({"item": text}).encode()),
        st.text(alphabet='{}[]",:1e.-nul\\u0', max_size=60).map(str.encode),
        st.just(b"--x\r\nContent-Disposition: form-data; name=a\r\n\r\n\0\r\n--x--\r\n"),
    )

    @_limits(examples)
    @given(contents, kinds)
    def send(content: bytes, kind: str) -> None:
        outcome.count += 1
        bare = _raw(browser, content, kind, None)
        key = f"body-{next(number)}"
        first = _raw(browser, content, kind, key)
        again = _raw(browser, content, kind, key)
        if first.status_code != bare.status_code:
            outcome.violation(f"{kind} {content!r}: {first.status_code}, not {bare.status_code}")
        stored = first.status_code < 500
        if stored and (again.status_code, again.content) != (first.status_code, first.content):
            outcome.violation(f"{kind} {content!r}: another replay")

    send()
    return outcome


def _raw(browser: Client, content: bytes, kind: str, key: str | None) -> Any:
    extra = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return browser.generic("POST", PATH, content, kind, **extra)


def _limits(examples: int) -> Any:
    return settings(
        max_examples=examples,
        deadline=None,
        database=None,
        derandomize=True,
        suppress_health_check=list(HealthCheck),
    )


def _code(answer: Any) -> str:
    try:
        return Counter(json.loads(answer.content)) and json.loads(answer.content).get("code", "")
    except (ValueError, AttributeError, TypeError):
        return ""


def run(examples: int) -> list[Outcome]:
    outcomes = [stored_rows(examples), headers(examples), bodies(examples)]
    connection.close()
    return outcomes
