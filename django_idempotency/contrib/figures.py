"""Figures about the present, for gauges: what the tables hold, and whether the cache answers.

Their cost does not depend on the size of the tables. Figures are as far as the admin looks, too: no
statement reads more than :data:`~..stores.database.statistics.WIDTH` rows, or counts beyond
:data:`~..stores.database.statistics.COUNTED` (decision 0030).
"""

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from threading import Thread
from time import monotonic

from django.apps import apps
from django.db import connections, router

from ..checks.caches import stores_in_use
from ..conf.policy import StoreKind
from ..conf.settings import configuration
from ..contract.endpoints import longest_tombstone, policies_of_endpoints
from ..fields import has_open_index
from ..models import IdempotencyRecord
from ..stores.base import Outage
from ..stores.cache.replay_cache import replay_cache_of
from ..stores.database.interrupted import open_attempts
from ..stores.database.statistics import (
    COUNTED,
    WIDTH,
    claimed_limit,
    newest_claimed,
    table_statistics,
)
from ..stores.database.store import DatabaseStore

logger = logging.getLogger("django_idempotency")

KEPT = 5.0
"""Seconds for which a process answers with the figures that it has: however often it is scraped,
the database is not asked more often."""

LONGEST_WAIT = 2.0
"""Seconds that a scrape waits for them. Prometheus waits for ten, by default."""

MEANINGS = {
    "records": "Claimed records, by state: up to 1,000 (200 on MySQL and MariaDB) among the newest "
    "100,000 records.",
    "unknown_outcomes": "Interrupted operations of non-atomic mode, which somebody resolves.",
    "expired_records": "Records that the next purge would remove, up to 10,001.",
    "purge_lag_seconds": "How long the next record to purge has been left.",
    "effects": "Effects that are pending or have failed, among up to 10,001 of both.",
    "effects_lag_seconds": "For how long the first effect that is due has waited.",
    "cache_up": "Whether the cache of the stores answers (1) or not (0).",
    "collector_up": "Whether the other figures could be read (1) or not (0).",
}
"""Every figure: names, and what they say."""

Labels = dict[str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One number at one moment.

    :ivar name: one of :data:`MEANINGS`
    :ivar labels: the same names for all figures of one name
    """

    name: str
    labels: Labels
    value: float


class Figures:
    """What this process knows. Threads need no lock: each attribute is replaced at once."""

    def __init__(self) -> None:
        self._known: tuple[Figure, ...] | None = None
        self._due = 0.0
        self._reading = Thread()
        self._failing: frozenset[tuple[str, str]] = frozenset()

    def current(self) -> tuple[Figure, ...]:
        """Return figures that are at most :data:`KEPT` seconds old; never raises.

        A thread reads them, on connections of its own. While a server hangs, a scrape waits for
        :data:`LONGEST_WAIT` and goes on without them: the counters are needed then.
        """
        now = monotonic()
        if self._known is None or now >= self._due:
            self._due = now + KEPT
            try:
                if not self._reading.is_alive():  # or one waits already
                    self._reading = Thread(target=self._renew, daemon=True)
                    self._reading.start()
                self._reading.join(LONGEST_WAIT)
            except RuntimeError as error:  # no thread is left
                logger.warning("Figures for gauges cannot be read: %s", error)
            if self._known is None or self._reading.is_alive():
                self._known = tuple(_unread())
        return self._known

    def forget(self) -> None:
        self._known = None

    def _renew(self) -> None:
        self._known = self.read()

    def read(self) -> tuple[Figure, ...]:
        """Read them now, in this thread."""
        try:
            places = list(_places())
        except Exception:
            logger.exception("Figures for gauges cannot be read")
            return ()
        return tuple(figure for place in places for figure in self._tried(*place))

    def _tried(
        self, name: str, using: str, read: Callable[[str], Iterator[Figure]]
    ) -> Iterator[Figure]:
        """Read the figures of one collector, and say whether that was possible. An error leaves
        figures out rather than saying a wrong number; the first one is logged."""
        place = {(name, using)}
        try:
            with _connected(using):
                yield from list(read(using))
            self._failing -= place
            is_up = 1
        except Exception as error:  # of any kind: a scrape never fails
            if not place <= self._failing:
                logger.warning("Figures of %s in %s cannot be read: %s", name, using, error)
            self._failing |= place
            is_up = 0
        yield Figure("collector_up", {"collector": name, "database": using}, is_up)


figures = Figures()
"""This process's."""


def _places() -> Iterator[tuple[str, str, Callable[[str], Iterator[Figure]]]]:
    """Yield names of collectors, databases, and functions."""
    known = configuration()
    of_endpoints = [policy for _, policy in policies_of_endpoints()]
    policies = [known.policy, *known.policies.values(), *of_endpoints]
    stored = [policy.using for policy in policies if policy.store is not StoreKind.CACHE]
    databases = sorted({IdempotencyRecord.alias(using) for using in stored})
    for using in databases:
        yield "records", using, _records
    if apps.is_installed("django_idempotency.effects"):
        effect = apps.get_model("idempotency_effects", "IdempotencyEffect")
        # Effects are in the databases of the operations, and of code without one.
        for using in sorted({*databases, effect.alias()}):
            if router.allow_migrate_model(using, effect):
                yield "effects", using, _effects
    if known.cache is not None and stores_in_use(known) - {StoreKind.DB}:
        yield "cache", "", lambda using: _cache(str(known.cache))


def _unread() -> Iterator[Figure]:
    """Say of all figures that they could not be read in time."""
    with suppress(Exception):
        for name, using, _ in _places():
            yield Figure("collector_up", {"collector": name, "database": using}, 0)


@contextmanager
def _connected(using: str) -> Iterator[None]:
    """Leave a connection as it was: nobody would close that of a thread."""
    was_open = not using or connections[using].connection is not None
    try:
        yield
    finally:
        if not was_open:
            connections[using].close()


def _records(using: str) -> Iterator[Figure]:
    where, store = {"database": using}, DatabaseStore(using)
    recent, limit = table_statistics(using).last - WIDTH, claimed_limit(using)
    claimed = newest_claimed(using, recent, limit)
    unended = open_attempts(using).order_by().values_list("record_id", flat=True)
    if not has_open_index(connections[using]):
        unended = unended.filter(record_id__gt=recent)
    open_ids = set(unended[:limit])
    locked = store.locked(open_ids.union(claimed))
    if locked is not None:
        in_flight = len(locked.intersection(claimed))
        states = {"in_flight": in_flight, "interrupted": len(claimed) - in_flight}
    else:
        # SQLite, where files say which attempts of non-atomic mode run.
        states = {"claimed": len(claimed)}
        holds = partial(store.dialect.has_file_lock, connections[using])
        locked = frozenset(filter(holds, open_ids))
    for state, count in states.items():
        yield Figure("records", where | {"state": state}, count)
    yield Figure("unknown_outcomes", where, len(open_ids - locked))
    older_than = longest_tombstone()  # the purge spares those that are younger
    expired = store.count_expired(older_than, COUNTED)
    yield Figure("expired_records", where, expired)
    yield Figure("purge_lag_seconds", where, store.lag(older_than).total_seconds())


def _effects(using: str) -> Iterator[Figure]:
    from ..effects import rows

    where = {"database": using}
    for state, count in rows.undecided(using, COUNTED + 1).items():
        yield Figure("effects", where | {"state": state}, count)
    yield Figure("effects_lag_seconds", where, rows.lag(using).total_seconds())


def _cache(alias: str) -> Iterator[Figure]:
    try:
        replay_cache_of(alias).get("idempotency:is-up")
        is_up = 1
    except Outage:
        is_up = 0
    yield Figure("cache_up", {"cache": alias}, is_up)
