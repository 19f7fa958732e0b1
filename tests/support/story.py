"""Every outcome, one after another."""

from typing import Any

from django_idempotency.signals import Outcome
from django_idempotency.stores.breaker import breaker_of
from tests.conftest import Caller, in_thread
from tests.shop import views
from tests.support.outage import no_table

PATH = "/decorated-rest/"
VIEW = "tests.shop.views.DecoratedRestView"

STORY = [
    Outcome.CONFLICT,
    Outcome.EXECUTED,
    Outcome.REPLAYED,
    Outcome.MISMATCH,
    Outcome.NOT_DONE,
    Outcome.INTERRUPTED,
    Outcome.RECOVERED,
    Outcome.REFUSED,
    Outcome.FAILED_OPEN,
]
"""In the order in which they are told."""

CODES = {"idempotency_in_flight", "idempotency_key_reused", "idempotency_key_invalid"}
"""Of the error answers."""


def tell_the_story(caller: Caller, settings: Any, monkeypatch: Any) -> None:
    """Every outcome once, as in the demo, and what it does not show."""
    settings.IDEMPOTENCY = {"OUTAGE": "open"}

    def at_next_write(action: Any) -> None:
        def once() -> None:
            monkeypatch.setattr(views, "after_write", views.nothing)
            action()

        monkeypatch.setattr(views, "after_write", once)

    def fail() -> None:
        raise views.Broken

    at_next_write(lambda: in_thread(lambda: caller.post(PATH, {"item": "vm"})).result())
    caller.post(PATH, {"item": "vm"})  # executed, and a conflict while it runs
    caller.post(PATH, {"item": "vm"})
    caller.post(PATH, {"item": "disk"})
    caller.post(PATH, {"outcome": views.NOT_DONE}, key="form")
    at_next_write(fail)
    caller.post(PATH, key="crash")
    caller.post(PATH, key="crash")
    caller.post(PATH, key="not, a key")
    with no_table():
        caller.post(PATH, key="unprotected")
    breaker_of.cache_clear()
