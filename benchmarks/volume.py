"""Many records: latency beside ten million rows, and the purge beside live traffic."""

import statistics
import threading
import time
import uuid
from typing import Any

from django.db import connection, connections

from benchmarks.cases import OURS, Case
from benchmarks.inside import request
from benchmarks.servers import near, serving
from benchmarks.throughput import load, percentile
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.store import DatabaseStore

TABLE = IdempotencyRecord._meta.db_table


def fill(count: int, expires: str) -> None:
    """Add completed records.

    :param expires: when, as an SQL interval from now
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (scope, key, fingerprint, state, attempt, method, path, "
            "response_version, response_status, response_headers, response_body, "
            "response_omitted, created_at, completed_at, expires_at, purge_at, outcome_open) "
            "SELECT md5(n::text) || md5(n::text), gen_random_uuid()::text, '1:' || md5(n::text) "
            "|| md5(n::text), 'completed', 1, 'POST', '/buy/', 1, 201, "
            "'[[\"Content-Type\", \"application/json\"]]', '\\x7b226964223a20317d', '', "
            "now() - interval '1 day', now() - interval '1 day', "
            "life.ends, life.ends, FALSE FROM generate_series(1, %s) AS n, "
            f"LATERAL (SELECT now() + interval '{expires}' * (1 + random() + 0 * n) AS ends) life",
            [count],
        )
        cursor.execute(f"VACUUM ANALYZE {TABLE}")
        cursor.execute("CHECKPOINT")  # what filling has left to write is not what is measured


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE} CASCADE")


def latency(handler: Any, requests: int = 600) -> tuple[float, float]:
    """Median milliseconds of a first request and of a replay."""

    def once(key: str) -> float:
        each = request(key)
        started = time.perf_counter()
        handler.get_response(each).close()
        return (time.perf_counter() - started) * 1e3

    keys = [str(uuid.uuid4()) for _ in range(requests)]
    first = [once(key) for key in keys]
    return statistics.median(first), statistics.median([once(key) for key in keys])


def growth(handler: Any, few: int, many: int) -> dict[str, Any]:
    """Compare latencies beside few and beside many records, and back."""
    ratios: dict[str, list[float]] = {"first request": [], "replay": []}
    empty()
    fill(few, "1 day")
    latency(handler)
    before = latency(handler)
    fill(many - few, "1 day")
    latency(handler)
    beside = latency(handler)
    empty()
    fill(few, "1 day")
    after = latency(handler)
    for index, name in enumerate(ratios):
        ratios[name] = [beside[index] / ((before[index] + after[index]) / 2)]
    return {"few": few, "many": many, **{name: values[0] for name, values in ratios.items()}}


SECONDS, PAUSE, ROUNDS = 4, 0.02, 5
"""How long and how often the live requests are measured, and what ``--pause 20ms`` means."""


def purge(rows: int) -> dict[str, float]:
    """Rows per second alone, and the p99 of live requests with and without a purge beside it."""
    empty()
    fill(rows, "-1 hour")
    started = time.perf_counter()
    removed = sum(DatabaseStore("default").purge(1000))
    found = {"rows per second": removed / (time.perf_counter() - started)}
    live = Case("live", OURS, "unique", atomic_requests=False)
    pauses = {"fast": 0.0, "gentle": PAUSE}
    ratios: dict[str, list[float]] = {name: [] for name in pauses}
    removed_beside = dict.fromkeys(pauses, 0)
    quiet: list[float] = []
    with serving(live, near("postgresql")) as port:

        def p99() -> float:
            return percentile(load(port, live, SECONDS).latencies, 0.99)

        load(port, live, 2)
        for _ in range(ROUNDS):
            for name, pause in pauses.items():
                empty()
                fill(rows * 3, "-1 hour")
                before = p99()
                beside, count = _beside(p99, pause)
                after = p99()
                ratios[name].append(beside / ((before + after) / 2))
                removed_beside[name] += count
                quiet += [before, after]
    for name in pauses:
        found[name] = statistics.median(ratios[name])
        found[f"rows beside, {name}"] = removed_beside[name] / SECONDS / ROUNDS
    return found | {"quiet": statistics.median(quiet)}


def _beside(measure: Any, pause: float) -> tuple[float, int]:
    """Measure while a purge runs, with a pause after each of its transactions."""
    stop, removed = threading.Event(), [0]

    def run() -> None:
        try:
            for count in DatabaseStore("default").purge(1000):
                removed[0] += count
                if stop.wait(pause) if pause else stop.is_set():
                    return
        finally:
            connections.close_all()

    thread = threading.Thread(target=run)
    thread.start()
    try:
        found = measure()
    finally:
        stop.set()
        thread.join()
    return found, removed[0]


def bloat(cycles: int = 10, rows: int = 20_000) -> dict[str, float]:
    """The largest size of table and indexes in later cycles, against the second."""
    empty()
    sizes = []
    for _ in range(cycles):
        fill(rows, "-1 hour")
        sum(DatabaseStore("default").purge(1000))
        with connection.cursor() as cursor:
            cursor.execute(f"VACUUM {TABLE}")
            cursor.execute("SELECT pg_total_relation_size(%s)", [TABLE])
            sizes.append(cursor.fetchone()[0])
    return {"cycles": cycles, "ratio": max(sizes[2:]) / sizes[1]}
