"""Which records say that effects outside of the database may have no response yet."""

import pytest

from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.interrupted import open_attempts
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller
from tests.support.operations import CREATED, a_claim

ATOMIC = {"outcome_open": False}
NON_ATOMIC = {"outcome_open": True}


def open_records() -> list[str]:
    return list(IdempotencyRecord.objects.filter(outcome_open=True).values_list("key", flat=True))


@pytest.fixture
def stores(db: None) -> tuple[DatabaseStore, DatabaseStore]:
    return DatabaseStore("default", **ATOMIC), DatabaseStore("default", **NON_ATOMIC)


def test_a_claim_of_non_atomic_mode_says_so(stores):
    atomic, non_atomic = stores
    atomic.claim(a_claim(key="atomic"))
    non_atomic.claim(a_claim(key="non-atomic"))
    assert open_records() == ["non-atomic"]


def test_a_stored_response_ends_that(stores):
    _, non_atomic = stores
    claimed = non_atomic.claim(a_claim())
    assert non_atomic.complete(claimed, CREATED, a_claim().retention)
    assert open_records() == []


def test_a_record_that_non_atomic_mode_takes_over_says_so_too(stores):
    """I11: its policy has changed since the claim; an operator must find it."""
    atomic, non_atomic = stores
    claimed = atomic.claim(a_claim())
    atomic.bump_fencing_token(claimed)
    assert open_records() == []
    non_atomic.bump_fencing_token(claimed)
    assert open_records() == ["k"]
    assert StepLog("default").start(claimed.id, 3)
    assert [each.record_id for each in open_attempts("default")] == [claimed.id]


@pytest.mark.parametrize(
    ("path", "outcome", "found"),
    [
        ("/effects/function/", "201", []),
        ("/effects/function/", "raise 500", ["k"]),
        ("/function/", "", []),
    ],
)
def test_over_http(path: str, outcome: str, found: list[str], use_middleware, caller: Caller):
    data = {"outcome": outcome} if outcome else {"item": "vm"}
    caller.post(path, data, key="k")
    assert open_records() == found
    assert len(open_attempts("default")) == len(found)
