"""Many duplicates of a form with errors, and the corrected one, on real processes."""

from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.server import Answer, Server, running_server, together

pytestmark = pytest.mark.processes

INVALID = {"item": "invalid", "outcome": views.NOT_DONE}
FIXED = {"item": "fixed"}


@pytest.mark.parametrize("request_block", ["", "1"], ids=["", "ATOMIC_REQUESTS"])
@pytest.mark.parametrize("in_flight", ["wait", "conflict"])
def test_the_corrected_one_is_carried_out_once(
    in_flight: str, request_block: str, caller: Caller, tmp_path: Path, monkeypatch: Any
) -> None:
    """I1, whoever withdraws the record when; and I8: other content is told so meanwhile."""
    if request_block:
        monkeypatch.setenv("IDEMPOTENCY_TEST_ATOMIC_REQUESTS", request_block)
    connection.close()
    policy = {"IN_FLIGHT": in_flight, "WAIT_LIMIT": 50, "WAIT_TIMEOUT": 60}
    with running_server(tmp_path, workers=2, threads=12, policy=policy) as server:
        for view in ("rest", "decorated-rest"):
            for number in range(2):
                key = f"{view}-{number}"
                answers = _storm(server, caller, f"/{view}/", key)
                statuses = Counter(answer.status for answer in answers)
                assert statuses.keys() <= {200, 201, 409, 422}, (
                    statuses,
                    [a.body for a in answers if a.status > 499],
                    server.log(),
                )
                last = server.post(f"/{view}/", caller.token.key, key, FIXED)
                assert last is not None
                assert last.status == 201, server.log()
                done = Order.objects.filter(item="fixed")
                assert done.count() == 1
                assert {a.body for a in [*answers, last] if a.status == 201} == {last.body}
                done.delete()
    states = IdempotencyRecord.objects.values_list("state", flat=True)
    assert set(states) == {"completed"}


def _storm(server: Server, caller: Caller, path: str, key: str) -> list[Answer]:
    """Twenty times the form with errors, and four times the corrected one, at the same moment."""
    bodies = [*[INVALID] * 5, FIXED] * 4

    def send() -> Answer | None:
        return server.post(path, caller.token.key, key, bodies.pop())

    return together(len(bodies), send)
