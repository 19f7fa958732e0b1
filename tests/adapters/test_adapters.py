"""Both adapters, every kind of view: the same promise."""

import json
from typing import Any

import pytest
from django.db import connection

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller, request_of
from tests.shop.models import Order
from tests.support.adapters import every_adapter, every_adapter_with, every_mode


def items() -> list[str]:
    return list(Order.objects.order_by("pk").values_list("item", flat=True))


@every_mode
def test_a_retry_replays_the_response_and_runs_nothing(adapter: str, caller: Caller) -> None:
    first = caller.post(adapter, {"item": "vm"})
    retry = caller.post(adapter, {"item": "vm"})

    assert (first.status_code, retry.status_code) == (201, 201)
    assert retry.content == first.content
    assert retry["X-Order"] == first["X-Order"]
    assert retry["Content-Type"] == first["Content-Type"]
    assert (first.get("Idempotency-Replayed"), retry["Idempotency-Replayed"]) == (None, "true")
    assert items() == ["vm"]


@every_adapter
def test_another_body_is_refused_and_the_original_still_replays(
    adapter: str, caller: Caller
) -> None:
    """I8: a changed body must not run as new."""
    first = caller.post(adapter, {"item": "vm"})
    other = caller.post(adapter, {"item": "two vms"})
    retry = caller.post(adapter, {"item": "vm"})

    assert other.status_code == 422
    assert other["Content-Type"] == "application/problem+json"
    assert json.loads(other.content)["code"] == "idempotency_key_reused"
    assert retry.content == first.content
    assert items() == ["vm"]


@every_adapter
def test_a_raised_404_replays_and_its_writes_are_rolled_back(adapter: str, caller: Caller) -> None:
    """I2."""
    first = caller.post(adapter, {"outcome": "raise 404"})
    retry = caller.post(adapter, {"outcome": "raise 404"})

    assert (first.status_code, retry.status_code) == (404, 404)
    assert retry.content == first.content
    assert retry["Idempotency-Replayed"] == "true"
    assert items() == []


@every_adapter
def test_a_returned_404_replays_and_its_writes_stay(adapter: str, caller: Caller) -> None:
    first = caller.post(adapter, {"outcome": "404"})
    retry = caller.post(adapter, {"outcome": "404"})

    assert (first.status_code, retry.status_code) == (404, 404)
    assert retry["Idempotency-Replayed"] == "true"
    assert items() == ["server"]


@every_adapter
def test_an_unhandled_exception_leaves_nothing_and_runs_again(adapter: str, caller: Caller) -> None:
    first = caller.post(adapter, {"outcome": "raise 500"})
    assert (first.status_code, items()) == (500, [])

    retry = caller.post(adapter, {"outcome": "raise 500"})
    assert (retry.status_code, items()) == (500, [])
    assert IdempotencyRecord.objects.get().state == "claimed"


@every_adapter
def test_server_errors_leave_nothing_and_run_again(adapter: str, caller: Caller) -> None:
    """I2."""
    for status in (500, 503):
        for _ in range(2):
            assert (
                caller.post(adapter, {"outcome": str(status)}, key=f"k-{status}").status_code
                == status
            )
    assert items() == []


@every_adapter_with("status", [401, 403, 408, 409, 412, 423, 425, 429])
def test_refusals_that_are_not_stored_keep_their_writes_and_run_again(
    adapter: str, status: int, caller: Caller
) -> None:
    """I2: a lockout is not switched off by a key; a stored 429 would poison one."""
    for _ in range(2):
        response = caller.post(adapter, {"outcome": str(status)})
        assert response.status_code == status
        assert "Idempotency-Replayed" not in response
    assert items() == ["server"] * 2
    assert caller.post(adapter, {"outcome": "201"}).status_code == 422


@every_adapter
def test_a_raised_refusal_keeps_what_the_bare_view_would_keep(adapter: str, caller: Caller) -> None:
    """I2: everything, unless ``ATOMIC_REQUESTS`` undoes it."""
    for _ in range(2):
        assert caller.post(adapter, {"outcome": "raise 403"}).status_code == 403
    undone = connection.settings_dict["ATOMIC_REQUESTS"]
    assert items() == ([] if undone else ["server"] * 2)


@every_adapter
def test_without_a_key_nothing_is_guarded(adapter: str, caller: Caller) -> None:
    """I9."""
    for _ in range(2):
        assert caller.post(adapter, key=None).status_code == 201
    assert len(items()) == 2
    assert not IdempotencyRecord.objects.exists()


@every_adapter
def test_keys_of_different_callers_are_different(
    adapter: str, caller: Caller, stranger: Caller
) -> None:
    mine, theirs = caller.post(adapter), stranger.post(adapter)
    assert mine.content != theirs.content
    assert len(items()) == 2


@every_adapter
def test_the_view_sees_its_operation(adapter: str, caller: Caller, after_write: Any) -> None:
    def crash() -> None:
        raise KeyError

    after_write(crash)
    assert caller.post(adapter).status_code == 500
    retry = caller.post(adapter)
    operation = request_of(retry).idempotency
    assert (operation.key, operation.attempt, operation.recovered) == ("k-1", 2, True)
    assert IdempotencyRecord.objects.get().attempt == 2


@pytest.mark.once
@pytest.mark.parametrize("arguments", [(), ("an order",), ("an order", 7)])
def test_a_function_that_is_no_view_says_what_to_use(arguments: Any) -> None:
    @idempotent
    def provision(*args: Any) -> None: ...

    with pytest.raises(TypeError, match=r"provision is decorated .* use @idempotent_function"):
        provision(*arguments)
