"""From the log line of each outcome to its record, by one command."""

import io
import logging
from typing import Any

import pytest
from django.core.management import call_command
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from django_idempotency.signals import Outcome
from tests.conftest import Caller, in_thread
from tests.shop import views
from tests.support.adapters import few_adapters
from tests.support.outage import no_table

KEY = "8e03978e-40d5"


class Journey:
    """A client's requests, and what the log says of them."""

    def __init__(self, caller: Caller, adapter: str, after_write: Any, caplog: Any) -> None:
        self._caller, self._adapter = caller, adapter
        self._after_write, self._caplog = after_write, caplog

    def post(self, item: str = "vm", **extra: Any) -> int:
        response = self._caller.post(self._adapter, {"item": item}, KEY, **extra)
        return int(response.status_code)

    def fail(self) -> None:
        def crash() -> None:
            raise views.Broken

        self._after_write(crash)
        self.post()

    def executed(self) -> None:
        self.post()

    def recovered(self) -> None:
        self.fail()
        self.post()

    def interrupted(self) -> None:
        self.fail()

    def replayed(self) -> None:
        self.post()
        self.post()

    def conflict(self) -> None:
        self._after_write(lambda: in_thread(self.post).result())
        self.post()

    def mismatch(self) -> None:
        self.post()
        self.post("disk")

    def refused(self) -> None:
        self.post()
        with no_table():
            assert self.post() == 503

    def failed_open(self) -> None:
        self.post()
        with no_table():
            assert self.post() == 201

    def line(self, outcome: Outcome) -> str:
        lines = [each.getMessage() for each in self._caplog.records if each.name == LOGGER]
        (line,) = [each for each in lines if f": {outcome}" in each]
        return str(line)


LOGGER = "django_idempotency"

LEAVE_A_RECORD = [each for each in Outcome if each is not Outcome.NOT_DONE]


@few_adapters
@pytest.mark.parametrize("outcome", LEAVE_A_RECORD)
def test_from_the_line_of_each_outcome_to_the_record(
    adapter: str,
    outcome: Outcome,
    caller: Caller,
    after_write: Any,
    caplog: Any,
    settings: Any,
) -> None:
    """I10: and no line has the key."""
    if outcome is Outcome.CONFLICT and not connection.features.has_select_for_update_skip_locked:
        pytest.skip("SQLite has no row locks; its duplicates wait instead")
    if outcome is Outcome.FAILED_OPEN:
        settings.IDEMPOTENCY = {"OUTAGE": "open"}
    caplog.set_level(logging.DEBUG, LOGGER)
    journey = Journey(caller, adapter, after_write, caplog)
    getattr(journey, outcome)()

    line = journey.line(outcome)
    printed = io.StringIO()
    call_command("idempotency_records", line, stdout=printed)

    record = IdempotencyRecord.objects.get()
    assert printed.getvalue().startswith(f"Record {record.pk}: POST ")
    assert printed.getvalue().endswith("1 record.\n")
    assert KEY not in line
