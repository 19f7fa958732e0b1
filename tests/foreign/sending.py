"""What a suite's test client sends once its project is guarded: keys, and each write twice."""

import os
import re
import uuid
from collections import Counter
from typing import Any

from django.db import DEFAULT_DB_ALIAS, connections
from django.test import Client, RequestFactory
from django.test.client import FakePayload
from django.test.utils import CaptureQueriesContext

OWN = re.compile(r"\bdjango_idempotency_")
CONTROL = re.compile(r"(SAVEPOINT|RELEASE|ROLLBACK|BEGIN|COMMIT)\b")
UNSAFE = {"POST", "PUT", "PATCH", "DELETE"}
KEY = "HTTP_IDEMPOTENCY_KEY"
STATUS, MARKER = "Idempotency-Status", "Idempotency-Replayed"

counted: Counter[str] = Counter()
different: list[tuple[str, str]] = []
"""Second responses that are not the first one, and writes that were not guarded: the test, and
what was seen."""


def send_keys() -> None:
    """Each unsafe request gets a key of its own, so nothing replays and nothing may change."""
    generic = RequestFactory.generic

    def generic_with_key(self: Any, method: str, *args: Any, **extra: Any) -> Any:
        if method.upper() in UNSAFE and has_database():
            counted["keyed"] += 1
            extra[KEY] = str(uuid.uuid4())
        return generic(self, method, *args, **extra)

    RequestFactory.generic = generic_with_key  # type: ignore[method-assign]


def send_twice(per_request: set[str]) -> None:
    """Send each request that has a key a second time, and compare.

    The test gets the first response. A response whose key was ignored (nobody is logged in) is
    not asked for again: the view would run twice.

    Args:
        per_request: Names of headers, in lower case, that the project's outer middleware makes
            anew for each request, replay or not.
    """
    send_once = Client.request

    def request_twice(self: Any, **environ: Any) -> Any:
        if KEY not in environ:
            return send_once(self, **environ)
        body = environ.get("wsgi.input", FakePayload()).read()
        first = send_once(self, **environ | {"wsgi.input": FakePayload(body)})
        outcome = first.headers.get(STATUS, "ignored")
        counted[outcome] += 1
        if outcome == "ignored":
            note_unguarded(first)
        if outcome == "ignored" or first.streaming:
            return first
        logs = {alias: list(connections[alias].queries_log) for alias in connections}
        before = whole(first, per_request)
        again = send_once(self, **environ | {"wsgi.input": FakePayload(body)})
        for alias, log in logs.items():  # who counts statements counts those of one request
            connections[alias].queries_log.clear()
            connections[alias].queries_log.extend(log)
        if outcome == "stored":
            compare(before, again, per_request)
        return first

    Client.request = request_twice  # type: ignore[method-assign]


def note_unguarded(response: Any) -> None:
    """A write of the API that succeeded and that nobody guards is worth a look."""
    path = response.request["PATH_INFO"]
    if path.startswith("/api/") and response.status_code < 400:
        different.append((running_test(), f"{path} was not guarded"))


def running_test() -> str:
    return os.environ.get("PYTEST_CURRENT_TEST", "").removesuffix(" (call)")


def compare(before: dict[str, Any], again: Any, per_request: set[str]) -> None:
    after = whole(again, per_request)
    unlike = [name for name in before if before[name] != after[name]]
    if again.headers.get(STATUS) != "replayed":
        unlike.insert(0, f"{STATUS}: {again.headers.get(STATUS)}")
    if not unlike:
        counted["identical"] += 1
        return
    pairs = "; ".join(f"{name}: {before.get(name)!r} / {after.get(name)!r}" for name in unlike)
    different.append((running_test(), f"{again.request['REQUEST_METHOD']} {pairs}"[:1000]))


def whole(response: Any, per_request: set[str]) -> dict[str, Any]:
    """What of a response a client can see, without what tells a replay from the original."""
    left_out = {STATUS.lower(), MARKER.lower(), *per_request}
    return {
        "status": (response.status_code, response.reason_phrase),
        "headers": sorted(
            (name.lower(), value)
            for name, value in response.headers.items()
            if name.lower() not in left_out
        ),
        "cookies": response.cookies.output(),
        "body": response.content,
    }


def hide_own_statements() -> None:
    """Tests that count statements are not shown the guard's, nor, with them, those that only
    control transactions."""
    captured: Any = CaptureQueriesContext.captured_queries

    def of_the_view(self: CaptureQueriesContext) -> list[dict[str, str]]:
        statements: list[dict[str, str]] = captured.fget(self)
        others = [each for each in statements if not OWN.search(each["sql"])]
        if len(others) == len(statements):
            return statements
        return [each for each in others if not CONTROL.match(each["sql"])]

    CaptureQueriesContext.captured_queries = property(of_the_view)  # type: ignore[assignment]


def has_database() -> bool:
    """Whether the running test may use the database. Django and pytest-django forbid it by
    raising an error when somebody tries."""
    try:
        with connections[DEFAULT_DB_ALIAS].cursor():
            return True
    except (AssertionError, RuntimeError):
        return False
