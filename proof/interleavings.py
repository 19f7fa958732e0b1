"""Every order of the statements of several actors, one statement at a time.

Actors are threads with connections of their own. Each stops before every statement, commit and
rollback, and goes on when the scheduler hands it the baton; so a schedule is a list of actors, and
the same schedule gives the same run. No sleeps: a statement that does not come back is looked for
among the lock waits that the database itself reports.

Schedules are explored one after another; those with an early change of actors come first, and
whoever runs goes on until it is interrupted. Orders that lead to the same state (rows, clock, and
everything each actor has seen so far) have the same future, so each state is continued once, and
what no other actor can notice runs at once.
"""

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from types import MethodType
from typing import Any

from django.db import OperationalError, connection, connections
from django.db.backends.utils import CursorWrapper

from django_idempotency.stores.database.dialects import DIALECTS, NOW

Action = Callable[["Actor"], Any]

AT_ONCE = 0.02
"""Seconds before the database is asked whether a statement waits for a lock."""
ASK_AGAIN = 0.15
"""Seconds between such questions: InnoDB renews its answer only if nobody asked for a tenth."""
NO_STEPS = (
    *("SET SESSION", "SELECT set_config"),
    *("KILL", "SELECT 1 FROM information_schema.processlist", "SELECT pg_terminate_backend"),
)
"""Statements before which nobody stops: settings, and how a session is ended. How often MariaDB is
asked whether it has ended depends on the machine, and a schedule must not."""
HANGS = 120.0
"""Seconds after which a statement that neither returns nor waits for a lock is an error.
MariaDB has once taken more than 30 for a ``KILL``."""
VIEWS = ("shop_order", "idempotency_effects")
"""The tables that a view adds rows to."""
LOCKS = "FOR UPDATE"
"""How a statement ends that locks a record."""


class Clock:
    """The store's clock, moved by hand: time passes when the scheduler says so."""

    def __init__(self) -> None:
        self.shift = timedelta(0)
        self.epoch = 0

    def advance(self, by: timedelta) -> None:
        self.shift += by
        self.epoch += 1

    def __enter__(self) -> "Clock":
        for dialect in DIALECTS.values():
            vars(dialect)["time"] = self._moved(dialect.time)
        return self

    def __exit__(self, *error: object) -> None:
        for dialect in DIALECTS.values():
            del vars(dialect)["time"]

    def _moved(self, usual: Callable[[timedelta], Any]) -> Callable[[timedelta], Any]:
        def time(offset: timedelta = NOW) -> Any:
            if isinstance(threading.current_thread(), Actor):
                # Time may pass between here and the moment at which the statement is sent.
                return lambda: usual(offset + self.shift)
            return usual(offset + self.shift)

        return time


class Actor(threading.Thread):
    """Runs one action after another; stops before each statement."""

    def __init__(self, name: str) -> None:
        super().__init__(name=name, daemon=True)
        self.condition = threading.Condition()
        self.action: Action | None = None
        self.state = "idle"  # idle, paused, running
        self.seen: list[Any] = []
        self.result: Any = None
        self.session = 0
        self.killed = False
        self.next = ""
        self.used: Any = None
        self.is_stopping = False
        self.holds = False
        self.clock: Clock
        self.start()

    # The scheduler's side.

    def give(self, action: Action, clock: Clock) -> None:
        """Start an action; it stops before its first statement."""
        self.clock = clock
        with self.condition:
            self.seen, self.result, self.killed, self.holds = [], None, False, False
            self.action, self.state = action, "running"
            self.condition.notify_all()
        assert self.came_back(HANGS)

    def go(self) -> None:
        """Let the next statement run."""
        with self.condition:
            self.state = "running"
            self.condition.notify_all()

    def came_back(self, seconds: float) -> bool:
        """Whether the actor stops again, or has ended, within that time."""
        with self.condition:
            return self.condition.wait_for(lambda: self.state != "running", seconds)

    @property
    def is_in_transaction(self) -> bool:
        return bool(self.used.in_atomic_block)

    def is_silent(self, among_requests: bool) -> bool:
        """Whether others can neither see the next statement nor wait for it: the end of a
        transaction that has found nothing; a savepoint; the view's write before its commit; and,
        if nobody moves the clock, purges or kills, what it writes to a record that it has locked,
        and whether its savepoint is still there."""
        if self.next == "ROLLBACK":
            return not self.holds
        if not self.is_in_transaction:
            return False
        if "SET autocommit" in self.next:
            return False  # a commit that travels with the store
        if self.next.startswith(("UPDATE", "RELEASE")):
            return self.holds and among_requests
        if self.next.startswith("SAVEPOINT"):
            return LOCKS not in self.next
        return self.next.startswith("INSERT") and any(table in self.next for table in VIEWS)

    def quit(self) -> None:
        with self.condition:
            self.is_stopping = True
            self.condition.notify_all()
        if self.state == "idle":
            self.join(HANGS)
        elif self.session:  # an experiment broke off: nothing of it may hold a lock
            kill(self.session)

    # The actor's side.

    def run(self) -> None:
        self._watch()
        while True:
            with self.condition:
                self.condition.wait_for(lambda: self.action is not None or self.is_stopping)
                if self.is_stopping:
                    break
                action, self.action = self.action, None
            assert action is not None
            try:
                self.result = action(self)
            except BaseException as error:
                self.result = error
            if self.killed:
                connection.close()
                self._watch()
            with self.condition:
                self.state = "idle"
                self.condition.notify_all()
        connections.close_all()

    def stop(self, sql: str) -> None:
        """Wait for the baton."""
        with self.condition:
            self.state = "paused"
            self.next = sql
            self.condition.notify_all()
            self.condition.wait_for(lambda: self.state == "running")
        self.seen.append((sql[:40], self.clock.epoch))

    def _watch(self) -> None:
        """Stop before whatever this thread's connection sends; note what comes back."""
        used: Any = connections["default"]
        self.used = used
        used.ensure_connection()
        if used.vendor == "sqlite":  # a writer that is not alone is told so at once
            used.connection.execute("PRAGMA busy_timeout = 0")
        used.execute_wrappers[:] = []
        self.session = _session()
        used.execute_wrappers[:] = [self._statement]
        for name in ("_commit", "_rollback"):
            setattr(used, name, MethodType(self._control(name), used))
        actor = self

        class Recorded(CursorWrapper):
            def __getattr__(self, name: str) -> Any:
                found = super().__getattr__(name)
                return actor._noting(found) if name.startswith("fetch") else found

            def __iter__(self) -> Any:
                rows = list(super().__iter__())
                actor.seen.append(_plain(rows))
                return iter(rows)

        used.make_cursor = lambda cursor: Recorded(cursor, used)

    def _statement(self, execute: Any, sql: Any, params: Any, many: Any, context: Any) -> Any:
        if sql.startswith(NO_STEPS):
            return execute(sql, params, many, context)
        self.stop(sql)
        now = [value() if callable(value) else value for value in params or ()]
        try:
            result = execute(sql, now if params else params, many, context)
        except Exception as error:
            self.seen.append(type(error).__name__)
            raise
        rows = context["cursor"].rowcount
        self.seen.append(rows)
        self.holds |= self.is_in_transaction and (rows > 0 or self.used.vendor == "sqlite")
        return result

    def _control(self, name: str) -> Any:
        original = getattr(type(connections["default"]), name)

        def control(used: Any) -> Any:
            if used.connection is not None and self.state == "running":
                self.stop(name.strip("_").upper())
            self.holds = False
            return original(used)

        return control

    def _noting(self, fetch: Callable[..., Any]) -> Callable[..., Any]:
        def noted(*args: Any) -> Any:
            rows = fetch(*args)
            self.seen.append(_plain(rows))
            self.holds |= self.is_in_transaction and bool(rows) and LOCKS in self.next
            return rows

        return noted


ACTORS: dict[str, Actor] = {}
"""By name. They live as long as the experiment: connecting is slow."""


def _plain(value: Any) -> Any:
    """Times differ from run to run; what they decide (``expired``) is seen apart."""
    if isinstance(value, datetime):
        return "time"
    if isinstance(value, list | tuple):
        return tuple(_plain(each) for each in value)
    return bytes(value) if isinstance(value, memoryview) else value


def _session() -> int:
    query = {"postgresql": "SELECT pg_backend_pid()", "mysql": "SELECT CONNECTION_ID()"}
    if connection.vendor not in query:
        return 0
    with connection.cursor() as cursor:
        cursor.execute(query[connection.vendor])
        return int(cursor.fetchone()[0])


def kill(session: int) -> None:
    """End a session of the database, and wait until it is gone."""
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            cursor.execute("SELECT pg_terminate_backend(%s, 30000)", [session])
            return
        with suppress(OperationalError):  # it is gone already
            cursor.execute("KILL %s", [session])
        while True:
            cursor.execute("SELECT 1 FROM information_schema.processlist WHERE id = %s", [session])
            if cursor.fetchone() is None:
                return


def waits_for_a_lock(session: int) -> bool:
    """Whether the database says so."""
    query = {
        "postgresql": "SELECT 1 FROM pg_stat_activity WHERE pid = %s AND wait_event_type = 'Lock'",
        "mysql": "SELECT 1 FROM information_schema.innodb_trx "
        "WHERE trx_mysql_thread_id = %s AND trx_state = 'LOCK WAIT'",
    }
    with connection.cursor() as cursor:
        cursor.execute(query[connection.vendor], [session])
        return cursor.fetchone() is not None


@dataclass
class Step:
    """What an actor does, where the scheduler may let it happen."""

    actor: str
    sql: str
    epoch: int


@dataclass
class Run:
    """One schedule, from an empty table to the end."""

    actors: dict[str, Actor]
    clock: Clock
    steps: list[Step] = field(default_factory=list)
    waited: list[Step] = field(default_factory=list)

    def enabled(self) -> list[str]:
        """Actors that stand before a statement and can go on."""
        for actor in self.actors.values():
            if actor.state == "running":
                actor.came_back(0)
        return [name for name, actor in self.actors.items() if actor.state == "paused"]

    def silent(self, enabled: list[str], among_requests: bool) -> str:
        """Whose next statement nobody else can notice: when it runs changes nothing for the
        others, so no order is lost by letting it run at once."""
        silent = (name for name in enabled if self.actors[name].is_silent(among_requests))
        return next(silent, "")

    def step(self, name: str) -> None:
        actor = self.actors[name]
        step = Step(name, actor.next, self.clock.epoch)
        self.steps.append(step)
        actor.go()
        self._settle(actor, step)
        # Others may have waited for what this one has released.
        for other in self.actors.values():
            if other.state == "running" and not other.came_back(AT_ONCE):
                self._settle(other, None)

    def _settle(self, actor: Actor, step: Step | None) -> None:
        pause = ASK_AGAIN if connection.vendor == "mysql" else AT_ONCE
        for _ in range(int(HANGS / pause)):
            if actor.came_back(pause):
                return
            if connection.vendor != "sqlite" and waits_for_a_lock(actor.session):
                if step is not None:
                    self.waited.append(step)
                return
        raise AssertionError(f"{actor.name} neither runs nor waits")

    @property
    def trace(self) -> tuple[str, ...]:
        return tuple(step.actor for step in self.steps)

    def going(self, enabled: list[str]) -> str:
        """Whoever went last, if it can go on."""
        last = self.steps[-1].actor if self.steps else ""
        return last if last in enabled else enabled[0]

    def finish(self) -> None:
        """Let everybody come to an end, in any order."""
        while enabled := self.enabled():
            self.step(enabled[0])
        assert all(actor.came_back(HANGS) for actor in self.actors.values())
