"""Each request counts once, under the way in which it ended."""

from typing import Any

import pytest
from django.test import Client

from tests.conftest import Caller, row_locks
from tests.support import statistics
from tests.support.adapters import every_adapter_below_the_middleware
from tests.support.story import PATH, VIEW, tell_the_story


def told(counter: Any) -> dict[str, dict[str, int]]:
    counter.flush()
    assert statistics.counted(hours=1) == statistics.counted()
    return statistics.counted()


@row_locks
def test_every_outcome(caller: Caller, counter: Any, settings: Any, monkeypatch: Any) -> None:
    tell_the_story(caller, settings, monkeypatch)
    for item in ("vm", "disk", "disk"):
        caller.post(PATH, {"item": item})
    assert told(counter) == {
        VIEW: {
            "executed": 1,
            "recovered": 1,
            "interrupted": 1,
            "replayed": 2,
            "conflict": 1,
            "mismatch": 3,
            "refused": 1,
            "failed_open": 1,
            "not_done": 1,
        }
    }


@pytest.mark.once
@every_adapter_below_the_middleware
def test_writes_without_a_key(adapter: str, caller: Caller, counter: Any) -> None:
    """The middleware sees them, for all views that it or a decorator guards (I9)."""
    for key in (None, None, "k"):
        caller.post(adapter, key=key)
    assert list(told(counter).values()) == [{"executed": 1, "without_key": 2}]


@pytest.mark.once
def test_only_guarded_views_lack_a_key(
    caller: Caller, counter: Any, use_middleware: None, client: Client
) -> None:
    for path in ("/exempt-function/", "/exempt-rest-function/", "/nowhere/"):
        caller.post(path, key=None)
    caller.get("/orders/")
    assert told(counter) == {}


@pytest.mark.once
def test_a_required_key_that_is_missing_counts_once(
    caller: Caller, counter: Any, use_middleware: None, settings: Any
) -> None:
    settings.IDEMPOTENCY = {"REQUIRED": True}
    for path in ("/function/", PATH):
        assert caller.post(path, key=None).status_code == 400
    assert [list(each.items()) for each in told(counter).values()] == [[("without_key", 1)]] * 2


@pytest.mark.once
def test_keys_that_protect_nothing(
    counter: Any, use_middleware: None, client: Client, caller: Caller
) -> None:
    """An anonymous caller's, and those of exempt views."""
    anybody = {"content_type": "application/json", "headers": {"idempotency-key": "k"}}
    assert client.post("/function/", {"item": "vm"}, **anybody).status_code == 201
    caller.post("/exempt-function/", key="k")
    assert [list(each.items()) for each in told(counter).values()] == [[("unprotected", 1)]] * 2


@pytest.mark.once
def test_a_changed_setting_is_noticed(
    caller: Caller, counter: Any, use_middleware: None, settings: Any
) -> None:
    caller.post("/function/", key=None)
    settings.IDEMPOTENCY = {"PATHS": ["^/elsewhere/"]}
    caller.post("/function/", key=None)
    assert list(told(counter).values()) == [{"without_key": 1}]


@pytest.mark.once
def test_names_of_views_are_bounded(counter: Any, monkeypatch: Any) -> None:
    """A project may make URLs as it goes: the table does not grow with them."""
    from django_idempotency.contrib.statistics import counting

    monkeypatch.setattr(counting, "MOST_VIEWS", 2)
    for view in ("a", "b" * 300, "c", "d", "a"):
        counter.count(view, "executed")
    assert told(counter) == {
        "a": {"executed": 2},
        "b" * 200: {"executed": 1},
        "(other)": {"executed": 2},
    }
