"""The process, its session or its disk goes at each point of a guarded request in turn.

A point is before and after every statement and commit, and every byte of the answer. A forked
child with Django loaded runs the request; afterwards the client retries, and one effect and one
stored response must be there.
"""

import os
import signal
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from types import MethodType
from typing import Any

from django.db import connection, connections
from django.db.backends.signals import connection_created

from django_idempotency.models import IdempotencyRecord
from proof import world
from proof.interleavings import kill
from proof.report import Outcome
from tests.shop.models import Order

KEY, DATA = "k", {"item": "vm " * 60}
ADMITTED = "/admitted/"
Accident = Callable[["Request"], None]
ANSWER_STARTS = 1_000
"""Points from here on are bytes of the answer; no request has as many statements."""


class Request:
    """One request in a child process, which meets its accident at point ``at``."""

    def __init__(self, accident: Accident, at: int, path: str) -> None:
        self.accident, self.at, self.path, self.point = accident, at, path, 0
        self.session = 0

    def run(self, answers: int) -> None:
        used: Any = connections["default"]
        used.ensure_connection()
        self.session = _session()
        used.execute_wrappers.append(self._statement)
        connection_created.connect(self._watch)
        for name in ("_commit", "_rollback"):
            setattr(used, name, MethodType(self._control(getattr(type(used), name)), used))
        answer = self.send()
        text = f"{answer.status_code}\n".encode() + answer.content
        os.write(answers, f"{self.point} ".encode())
        self.point = ANSWER_STARTS
        for position in range(len(text)):
            self.pass_()
            os.write(answers, text[position : position + 1])
        self.pass_()

    def send(self) -> Any:
        padding = "20000" if self.accident is full else "0"
        return world.post(world.client(), KEY, DATA, self.path, padding=padding)

    def _watch(self, connection: Any, **kwargs: Any) -> None:
        """A connection for claims, in autocommit."""
        if self._statement not in connection.execute_wrappers:
            connection.execute_wrappers.append(self._statement)

    def pass_(self) -> None:
        point, self.point = self.point, self.point + 1
        if point == self.at:  # which may send statements of its own
            self.accident(self)

    def _statement(self, execute: Any, sql: Any, *rest: Any) -> Any:
        self.pass_()
        result = execute(sql, *rest)
        self.pass_()
        return result

    def _control(self, original: Any) -> Any:
        def control(used: Any) -> Any:
            if used.connection is None:
                return original(used)
            self.pass_()
            result = original(used)
            self.pass_()
            return result

        return control


def killed(request: Request) -> None:
    """SIGKILL: nothing is cleaned up."""
    os.kill(os.getpid(), signal.SIGKILL)


def cut(request: Request) -> None:
    """The server ends the session; the process goes on and finds out."""
    with _own_connection():
        kill(request.session)


def read_only(request: Request) -> None:
    """From now on the database refuses writes."""
    used: Any = connections["default"]
    if used.vendor == "sqlite":
        used.connection.execute("PRAGMA query_only = ON")
        return
    with used.connection.cursor() as cursor:
        if used.vendor == "mysql":  # for the transactions to come
            cursor.execute("SET SESSION TRANSACTION READ ONLY")
            return
        if used.in_atomic_block:
            cursor.execute("SET transaction_read_only = on")
        else:
            cursor.execute("SET default_transaction_read_only = on")


def full(request: Request) -> None:
    """SQLite may use no page more than it has."""
    used: Any = connections["default"]
    (pages,) = used.connection.execute("PRAGMA page_count").fetchone()
    used.connection.execute(f"PRAGMA max_page_count = {pages}")


def short_of_space(request: Request) -> None:
    """As in a full disk: the operating system refuses to make files longer."""
    import resource

    signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, resource.RLIM_INFINITY))


@contextmanager
def _own_connection() -> Iterator[None]:
    """Another connection than the one that is in the middle of something."""
    kept = connections["default"]
    connections["default"] = kept.copy()
    try:
        yield
    finally:
        connections["default"].close()
        connections["default"] = kept


@dataclass
class Ended:
    """What is left of a child: how many points it had, and the answer as far as it came."""

    points: int | None
    text: bytes
    status: int

    @property
    def is_complete(self) -> bool:
        return self.points is not None and self.status == 0

    @property
    def answer(self) -> tuple[int, bytes]:
        status, _, body = self.text.partition(b"\n")
        return int(status), body


def in_child(request: Request) -> Ended:
    """Run one request in a forked child; return when it is dead."""
    connections.close_all()
    reader, writer = os.pipe()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # the child uses no thread of ours
        pid = os.fork()
    if pid == 0:
        try:
            os.close(reader)
            request.run(writer)
        except BaseException:
            os._exit(1)
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        everything = pipe.read()
    _, status = os.waitpid(pid, 0)
    points, _, text = everything.partition(b" ")
    return Ended(int(points) if text or points else None, text, status)


def nothing(request: Request) -> None:
    """No accident: to count the points."""


def points(bytes_of_answer: int, path: str = world.PATH) -> list[int]:
    """Enumerate the points of an undisturbed request.

    :param bytes_of_answer: at most so many bytes of the answer, spread evenly
    """
    world.empty()
    whole = in_child(Request(nothing, -1, path))
    assert whole.is_complete, whole
    assert whole.points is not None
    every = range(ANSWER_STARTS, ANSWER_STARTS + len(whole.text) + 1)
    step = max(1, len(every) // bytes_of_answer)
    return [*range(whole.points), *every[::step]]


def experiment(name: str, accident: Accident, at: list[int], path: str = world.PATH) -> Outcome:
    """Let the accident happen at each of the points."""
    outcome = Outcome(name, "points")
    for point in at:
        world.empty()
        ended = in_child(Request(accident, point, path))
        outcome.count += 1
        _check(ended, path, f"{name} at {point}", outcome)
    return outcome


def _check(ended: Ended, path: str, where: str, outcome: Outcome) -> None:
    _check_halves(where, outcome)
    told = None
    if ended.is_complete and ended.answer[0] == 201:
        told = ended.answer
        outcome.note("answered all the same")
    elif ended.is_complete:
        if ended.answer[0] not in {409, 500, 503}:
            outcome.violation(f"{where}: answered {ended.answer}")
        outcome.note("clear errors")
    executed = Order.objects.count()
    outcome.note("committed" if executed else "undone")
    retry = _retry(path, where, outcome)
    if retry is None:
        return
    if told is not None and (retry.status_code, retry.content) != told:
        outcome.violation(f"{where}: told {told}, then {retry.content!r}")
    if (retry.get("Idempotency-Replayed") == "true") != bool(executed):
        outcome.violation(f"{where}: {executed} executions before {retry.headers}")
    orders, records = Order.objects.count(), IdempotencyRecord.objects.values_list("state")
    if orders != 1 or list(records) != [("completed",)]:
        outcome.violation(f"{where}: {orders} effects, records {list(records)}")


def _check_halves(where: str, outcome: Outcome) -> None:
    """I2: stored if and only if committed."""
    orders = Order.objects.count()
    stored = IdempotencyRecord.objects.filter(state="completed").count()
    if orders != stored:
        outcome.violation(f"I2 {where}: {orders} effects, {stored} stored responses")


def _retry(path: str, where: str, outcome: Outcome) -> Any:
    """Retry as a client does: a server may need a moment to notice that a process is gone."""
    for attempt in range(200):
        answer = world.post(world.client(), KEY, DATA, path)
        if answer.status_code == 201:
            return answer
        if attempt == 0:
            outcome.note("retries that came too early")
        if answer.status_code not in {409, 503}:
            break
    outcome.violation(f"{where}: the retry got {answer.status_code} {answer.content[:200]!r}")
    return None


def _session() -> int:
    queries = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    if connection.vendor not in queries:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(queries[connection.vendor])
        return int(cursor.fetchone()[0])


def run(bytes_of_answer: int = 10_000) -> list[Outcome]:
    """Every accident that this database can have, at every point."""
    at = points(bytes_of_answer)
    statements = [point for point in at if point < ANSWER_STARTS]
    outcomes = [
        experiment("process killed", killed, at),
        experiment("database turned read-only", read_only, statements),
    ]
    if connection.vendor == "sqlite":
        outcomes.append(experiment("database full", full, statements))
        outcomes.append(experiment("disk full", short_of_space, statements))
    else:
        outcomes.append(experiment("session cut", cut, statements))
    return outcomes + in_request_blocks()


def in_request_blocks() -> list[Outcome]:
    """A guard that begins inside the block of ``ATOMIC_REQUESTS``, in which something may have
    been written before: claims are made on connections of their own, or, on SQLite, in it."""
    with world.surrounded(True):
        at = _statements(world.PATH)
        outcomes = [experiment("process killed in ATOMIC_REQUESTS", killed, at)]
        at = _statements(ADMITTED)
        outcomes.append(experiment("killed there after a write", killed, at, ADMITTED))
        if connection.vendor != "sqlite":
            outcomes.append(experiment("session cut there after a write", cut, at, ADMITTED))
    return outcomes


def _statements(path: str) -> list[int]:
    return [point for point in points(1, path) if point < ANSWER_STARTS]
