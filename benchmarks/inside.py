"""Measured inside of one process: processor time of our own code, statements, the floor, memory."""

import io
import os
import statistics
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from django.core.handlers.base import BaseHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection
from django.test import RequestFactory, override_settings

from benchmarks.servers import TOKEN
from benchmarks.statements import floor as floor_of_this_process
from django_idempotency.operations.transaction import AttemptTransaction
from django_idempotency.operations.watch import UNHARMED
from django_idempotency.protocol.record import Snapshot, State
from django_idempotency.stores.cache.replay_cache import writer_of
from django_idempotency.stores.database.store import DatabaseStore
from tests.support.counting import counted

FACTORY = RequestFactory()
BODY = b'{"item": "a small server"}'


def request(key: str | None, path: str = "/buy/") -> Any:
    extra = {} if key is None else {"HTTP_IDEMPOTENCY_KEY": key}
    return FACTORY.post(
        path, BODY, "application/json", HTTP_AUTHORIZATION=f"Token {TOKEN}", **extra
    )


CACHED = {"STORE": "cached_db", "CACHE": "default"}


def statements(handler: Any) -> dict[str, int]:
    """Statements of ours, counted on the server."""

    def count(key: str | None, handler: Any = handler) -> int:
        with counted() as counter:
            response = handler.get_response(request(key))
            response.close()
        assert response.status_code == 201
        return counter.statements

    with override_settings(MIDDLEWARE=[]):
        bare_handler = BaseHandler()
        bare_handler.load_middleware()
    for key in (None, str(uuid.uuid4()), str(uuid.uuid4())):
        count(key)  # the first ones find out about the connection, and prepare statements
    bare, key = count(None, bare_handler), str(uuid.uuid4())
    # A replay authenticates, and does not insert.
    replayed = bare - 1
    found = {"first request": count(key) - bare, "replay": count(key) - replayed}
    with override_settings(IDEMPOTENCY=CACHED):
        key = str(uuid.uuid4())
        count(key)
        writer_of("default").flush()
        found["cached replay"] = count(key) - replayed
    return found | {"no key": count(None) - bare}


def own_time(handler: Any, rounds: int = 60, requests: int = 50) -> dict[str, float]:
    """Processor time of a first request without its statements, in microseconds.

    The store answers from memory and the transaction does nothing: what is left is what we do
    beyond the statements. The bare dispatch is the same request without a key. Neither of them
    sends anything to the database.
    """
    bare, guarded = [], []
    connection.ensure_connection()  # a transaction without one counts as lost
    with _no_statements():
        for _ in range(rounds):
            bare.append(_time(handler, lambda: None, requests))
            guarded.append(_time(handler, lambda: str(uuid.uuid4()), requests))
    ours = statistics.median(g - b for g, b in zip(guarded, bare, strict=True))
    dispatch = statistics.median(bare)
    return {"ours": ours, "dispatch": dispatch, "ratio": ours / dispatch}


def _time(handler: Any, key: Callable[[], str | None], requests: int) -> float:
    prepared = [request(key(), "/dispatched/") for _ in range(requests)]
    started = time.process_time()
    answers = [handler.get_response(each) for each in prepared]
    spent = time.process_time() - started
    assert {answer.status_code for answer in answers} == {201}
    return spent / requests * 1e6


@contextmanager
def _no_statements() -> Iterator[None]:
    """The store and the transaction in memory."""

    fingerprints: list[str] = []

    def claim(self: Any, claim: Any) -> Snapshot:
        fingerprints[:] = [claim.fingerprint]
        return Snapshot(1, State.CLAIMED, 1, claim.fingerprint, False, None, fresh=True)

    def lock(self: Any, record_id: int, *args: Any) -> Snapshot:
        return Snapshot(1, State.CLAIMED, 1, fingerprints[0], False, None)

    changes: list[tuple[Any, str, Any]] = [
        (DatabaseStore, "claim", claim),
        (DatabaseStore, "lock", lock),
        (DatabaseStore, "complete", lambda *args, **options: True),
        (AttemptTransaction, "begin", lambda self, *args: setattr(self, "block", NoBlock())),
        (AttemptTransaction, "watch", lambda *args, **options: None),
        (AttemptTransaction, "inspect", lambda *args, **options: UNHARMED),
    ]
    originals = [(target, name, getattr(target, name)) for target, name, _ in changes]
    for target, name, replacement in changes:
        setattr(target, name, replacement)
    try:
        yield
    finally:
        for target, name, original in originals:
            setattr(target, name, original)


class NoBlock:
    """A transaction that is none."""

    def __exit__(self, *error: object) -> None: ...


def floor(rounds: int = 5, requests: int = 200) -> dict[str, float]:
    """The bare statements through the driver, in ms: what a first request must at least add."""
    statements_, times = floor_of_this_process(), []
    for _ in range(rounds):
        started = time.perf_counter()
        for _ in range(requests):
            with statements_.around():
                pass
        times.append((time.perf_counter() - started) / requests * 1e3)
    return {"ms": statistics.median(times)}


def upload_memory() -> dict[str, float]:
    """How much more memory an upload of 50 MB takes than one of 5 MB, in MB."""
    small, large = (_peak(size) for size in (5, 50))
    return {"small": small, "large": large, "difference": large - small}


def _peak(megabytes: int) -> float:
    """Peak memory of a forked process that gets a raw upload."""
    connection.close()
    reader, writer = os.pipe()
    pid = os.fork()
    if pid == 0:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            _upload(megabytes)
            status = Path("/proc/self/status").read_text()
            peak = next(line for line in status.splitlines() if line.startswith("VmHWM"))
            os.write(writer, peak.split()[1].encode())
        finally:
            os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as pipe:
        kilobytes = pipe.read()
    os.waitpid(pid, 0)
    return int(kilobytes) / 1024


class Zeros(io.RawIOBase):
    """So many bytes that nobody keeps."""

    def __init__(self, size: int) -> None:
        self._left = size

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        count = min(len(buffer), self._left)
        buffer[:count] = bytes(count)
        self._left -= count
        return count


def _upload(megabytes: int) -> None:
    size = megabytes * 1024 * 1024
    environ = request(str(uuid.uuid4())).environ | {
        "CONTENT_TYPE": "application/octet-stream",
        "CONTENT_LENGTH": str(size),
        "wsgi.input": io.BufferedReader(Zeros(size)),
    }
    WSGIHandler()(environ, lambda status, headers, *rest: None)
