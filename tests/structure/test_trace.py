"""How many of our functions one request calls, in how many of our files: for a view that is a
function, behind the middleware. The same request takes the same way each time, so a budget keeps
the way from growing."""

import gc
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import connection

import django_idempotency
from django_idempotency.adapters.affinity import _statement
from tests.conftest import Caller

pytestmark = pytest.mark.usefixtures("kept_claim_connections")

FIRST = {"postgresql": (97, 24), "mysql": (122, 25), "sqlite": (113, 24)}
REPLAY = {"postgresql": (60, 22), "mysql": (65, 22), "sqlite": (64, 22)}
NO_KEY = {"postgresql": (7, 3), "mysql": (7, 3), "sqlite": (10, 4)}
"""Calls and files, by database. PostgreSQL is the one to optimise for; a rise needs a reason.

There each statement takes two calls more than through Django's cursor: it saves a round trip.
"""

DRIVER = "compat/psycopg.py"
"""It does what the driver's cursors would do, and their calls are not counted either."""

PACKAGE = str(Path(django_idempotency.__file__).parent) + "/"


@dataclass
class Trace:
    """The files of the functions that were called, in their order."""

    files: list[str] = field(default_factory=list)

    def __call__(self, frame: Any, event: str, arg: Any) -> None:
        file = frame.f_code.co_filename.removeprefix(PACKAGE)
        if event == "call" and file not in {frame.f_code.co_filename, DRIVER}:
            self.files.append(file)

    def check(self, budget: dict[str, tuple[int, int]]) -> None:
        calls, files = budget[connection.vendor]
        found = set(self.files)
        assert len(self.files) <= calls, len(self.files)
        assert len(found) <= files, (len(found), sorted(found))


@contextmanager
def traced() -> Iterator[Trace]:
    """Without what earlier requests have left to the garbage collector."""
    trace = Trace()
    gc.collect()
    gc.disable()
    sys.setprofile(trace)
    try:
        yield trace
    finally:
        sys.setprofile(None)
        gc.enable()


def post(caller: Caller, key: str | None, status: int = 201) -> Trace:
    with traced() as trace:
        response = caller.post("/function/", {"item": "vm"}, key=key)
    assert response.status_code == status
    return trace


@pytest.fixture(autouse=True)
def _project(
    caller: Caller, use_middleware: None, monkeypatch: pytest.MonkeyPatch
) -> Iterator[None]:
    """What is computed once has been computed. Not counted: the watch over each statement, which
    only projects with async views have, and what happens after the response is sent."""
    for key in ("warm-1", "warm-1", "warm-2", None):
        caller.post("/function/", {"item": "vm"}, key=key)
    monkeypatch.setattr(request_finished, "receivers", [])
    known = list(connection.execute_wrappers)
    connection.execute_wrappers[:] = [each for each in known if each is not _statement]
    yield
    connection.execute_wrappers[:] = known


def test_a_first_request(caller: Caller) -> None:
    post(caller, "k-1").check(FIRST)


def test_a_replay(caller: Caller) -> None:
    post(caller, "k-1")
    post(caller, "k-1").check(REPLAY)


def test_a_request_without_a_key(caller: Caller) -> None:
    post(caller, None).check(NO_KEY)


def test_the_trace_sees_calls(caller: Caller) -> None:
    trace = post(caller, "k-1")
    assert trace.files.count("middleware.py") > 2
    assert "stores/database/store.py" in trace.files
