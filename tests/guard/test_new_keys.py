"""One caller cannot fill the table: new keys are counted, where policy says so."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.cache import cache
from django.db import connection
from django.test.utils import CaptureQueriesContext

from django_idempotency.guard import new_keys as limits
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import NOT_DONE
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once
views = pytest.mark.parametrize("view", ["/function/", "/rest/", "/ninja/sync/"])


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any) -> None:
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    settings.IDEMPOTENCY = {"NEW_KEYS_PER_HOUR": 2}
    monkeypatch.setattr(limits, "time", lambda: 3600.0 * 500_000 + 600)
    cache.clear()


def statuses(caller: Caller, view: str, *keys: str, **extra: Any) -> list[int]:
    return [caller.post(view, key=key, **extra).status_code for key in keys]


@views
def test_beyond_the_limit_a_new_key_is_refused(
    caller: Caller, stranger: Caller, view: str, monkeypatch: Any
) -> None:
    assert statuses(caller, view, "a", "b", "c") == [201, 201, 429]
    refused = caller.post(view, key="c")
    assert refused.json()["code"] == "idempotency_too_many_keys"
    assert refused["Retry-After"] == "3000"
    assert (Order.objects.count(), IdempotencyRecord.objects.count()) == (2, 2)
    assert statuses(stranger, view, "c") == [201]
    monkeypatch.setattr(limits, "time", lambda: 3600.0 * 500_001)
    assert statuses(caller, view, "c") == [201]


@views
def test_what_is_recorded_is_answered_as_ever(caller: Caller, view: str) -> None:
    first = caller.post(view, key="a")
    caller.post(view, {"outcome": "503"}, key="b")
    for _ in range(5):
        assert caller.post(view, key="a").content == first.content
    assert statuses(caller, view, "c") == [429]
    assert caller.post(view, {"item": "other"}, key="a").status_code == 422
    # An attempt that was not stored has its record, and runs again.
    assert caller.post(view, {"outcome": "503"}, key="b").status_code == 503


def test_no_statement_more_below_the_limit(caller: Caller, settings: Any) -> None:
    counts = {}
    for limit in (None, 100):
        settings.IDEMPOTENCY = {"NEW_KEYS_PER_HOUR": limit}
        for name in ("new", "replay"):
            with CaptureQueriesContext(connection) as queries:
                caller.post("/function/", key=f"key-{limit}")
            counts[limit, name] = len(queries)
    assert counts[None, "new"] == counts[100, "new"]
    assert counts[None, "replay"] == counts[100, "replay"]


def test_a_cache_that_does_not_answer_limits_nobody(
    caller: Caller, settings: Any, caplog: Any
) -> None:
    unreachable = "django.core.cache.backends.filebased.FileBasedCache"
    settings.CACHES = {"default": {"BACKEND": unreachable, "LOCATION": "/dev/null/nowhere"}}
    assert statuses(caller, "/function/", "a", "b", "c") == [201, 201, 201]
    assert "New keys are not counted" in caplog.text


@views
def test_a_key_that_is_freed_counts_no_more(caller: Caller, view: str) -> None:
    """Its record is gone: a form that is corrected ten times is one key."""
    for _ in range(5):
        assert statuses(caller, view, "a", data={"outcome": NOT_DONE}) == [200]
    assert statuses(caller, view, "a", "b", "c") == [201, 201, 429]


def test_a_count_that_is_lost_does_not_become_negative(
    caller: Caller, after_write: Callable[[Callable[[], None]], None], caplog: Any
) -> None:
    after_write(cache.clear)
    assert statuses(caller, "/function/", "a", data={"outcome": NOT_DONE}) == [200]
    assert statuses(caller, "/function/", "a", "b", "c") == [201, 201, 429]
    assert "not counted" not in caplog.text
