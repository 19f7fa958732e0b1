"""Counted instead of timed: round trips on the wire, and what the server writes into its log."""

import uuid
from collections.abc import Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

from benchmarks.cases import BARE, Case
from benchmarks.servers import PORTS, Place, connect_postgresql, serving
from benchmarks.throughput import completed, post
from tests.support.wire import Wire

WARM_UP, REQUESTS = 8, 9
BATCHES, BATCH = 9, 20
"""The log is shared by the whole server: the median of many batches leaves others out."""


@dataclass
class Count:
    """Of one request.

    :ivar database: round trips
    :ivar redis: the same
    :ivar log: bytes of PostgreSQL's write-ahead log
    """

    database: int
    redis: int
    log: float | None


def count(cases: list[Case], database: str, failed: dict[str, str]) -> dict[str, Any]:
    """Count for every case what one request costs, all in all."""
    found: dict[str, Any] = {}
    for case in cases:
        try:
            found[case.name] = vars(_count(case, database))
        except Exception as error:
            failed[case.name] = str(error)
            print(f"  {case.name} fails: {error}", flush=True)
    return found


def _count(case: Case, database: str) -> Count:
    with (
        Wire(("127.0.0.1", PORTS[database])) as to_database,
        Wire(("127.0.0.1", PORTS["redis"])) as to_redis,
        serving(case, Place(database, to_database.port, to_redis.port), workers=1) as port,
    ):
        replayed = completed(port, case) if case.keys == "replay" else None

        def send() -> None:
            key = replayed or (str(uuid.uuid4()) if case.keys == "unique" else None)
            if (status := post(port, case, key)) not in {200, 201}:
                raise RuntimeError(f"a request got {status}")

        for _ in range(WARM_UP):
            send()
        trips = []
        for _ in range(REQUESTS):
            with to_database.counted() as of_database, to_redis.counted() as of_redis:
                send()
            trips.append((of_database.total, of_redis.total))
        return Count(
            int(median(each for each, _ in trips)),
            int(median(each for _, each in trips)),
            None if replayed or database != "postgresql" else _log(send),
        )


def _log(send: Callable[[], None]) -> float:
    sizes = []
    with connect_postgresql() as connection:

        def position() -> int:
            (at,) = connection.execute("SELECT pg_current_wal_insert_lsn() - '0/0'").fetchone()
            return int(at)

        for _ in range(BATCHES):
            before = position()
            for _ in range(BATCH):
                send()
            sizes.append((position() - before) / BATCH)
    return median(sizes)


def beyond(found: dict[str, Any], case: Case) -> Count | None:
    """Return what a case costs more than it must.

    A first request: more than the bare view in a transaction. A replay: more than a view that only
    finds out who calls, in Django's block of ``ATOMIC_REQUESTS`` if there is one; less than nothing
    if it does not find out.
    """
    if case.name not in found or BARE.name not in found:
        return None
    each, bare = Count(**found[case.name]), Count(**found[BARE.name])
    authentication, insert = 1, 1
    base = bare.database
    if case.keys == "replay":
        base = bare.database - insert if case.atomic_requests else authentication
    log = None if each.log is None or bare.log is None else each.log - bare.log
    return Count(each.database - base, each.redis, log)
