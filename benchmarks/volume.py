"""Many records: latency beside ten million rows, and the purge beside live traffic."""

import statistics
import threading
import time
import uuid
from typing import Any

from django.db import connection, connections

from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.db import DatabaseStore

from .inside import request
from .throughput import Case, load, serving

TABLE = IdempotencyRecord._meta.db_table


def fill(count: int, expires: str) -> None:
    """Add completed records.

    :param expires: when, as an SQL interval from now
    """
    with connection.cursor() as cursor:
        cursor.execute(
            f"INSERT INTO {TABLE} (scope, key, fingerprint, state, attempt, method, path, "
            "response_version, response_status, response_headers, response_body, "
            "response_omitted, created_at, completed_at, expires_at) "
            "SELECT md5(n::text) || md5(n::text), gen_random_uuid()::text, '1:' || md5(n::text) "
            "|| md5(n::text), 'completed', 1, 'POST', '/buy/', 1, 201, "
            "'[[\"Content-Type\", \"application/json\"]]', '\\x7b226964223a20317d', '', "
            "now() - interval '1 day', now() - interval '1 day', "
            f"now() + interval '{expires}' * (1 + random()) FROM generate_series(1, %s) AS n",
            [count],
        )
        cursor.execute(f"VACUUM ANALYZE {TABLE}")


def empty() -> None:
    with connection.cursor() as cursor:
        cursor.execute(f"TRUNCATE {TABLE} CASCADE")


def latency(handler: Any, token: str, requests: int = 600) -> tuple[float, float]:
    """Median milliseconds of a first request and of a replay."""

    def once(key: str) -> float:
        each = request(token, key)
        started = time.perf_counter()
        handler.get_response(each).close()
        return (time.perf_counter() - started) * 1e3

    keys = [str(uuid.uuid4()) for _ in range(requests)]
    first = [once(key) for key in keys]
    return statistics.median(first), statistics.median([once(key) for key in keys])


def growth(handler: Any, token: str, few: int, many: int) -> dict[str, Any]:
    """Compare latencies beside few and beside many records, and back."""
    ratios: dict[str, list[float]] = {"first request": [], "replay": []}
    empty()
    fill(few, "1 day")
    latency(handler, token)
    before = latency(handler, token)
    fill(many - few, "1 day")
    latency(handler, token)
    beside = latency(handler, token)
    empty()
    fill(few, "1 day")
    after = latency(handler, token)
    for index, name in enumerate(ratios):
        ratios[name] = [beside[index] / ((before[index] + after[index]) / 2)]
    return {"few": few, "many": many, **{name: values[0] for name, values in ratios.items()}}


SECONDS, PAUSE = 6, 0.02
"""How long the live requests are measured, and what ``--pause 20ms`` means."""


def purge(token: str, environment: dict[str, str], rows: int) -> dict[str, float]:
    """Rows per second alone, and the p99 of live requests with and without a purge beside it."""
    empty()
    fill(rows, "-1 hour")
    started = time.perf_counter()
    removed = sum(DatabaseStore("default").purge(1000))
    alone = removed / (time.perf_counter() - started)
    live = Case("live", "ours", "unique")
    with serving("ours", environment) as port:

        def p99() -> float:
            return load(port, live, SECONDS, token)[2]

        load(port, live, 2, token)
        before = p99()
        fill(rows * 2, "-1 hour")
        fast, removed_fast = _beside(p99, 0)
        between = p99()
        fill(rows * 2, "-1 hour")
        gentle, removed_gently = _beside(p99, PAUSE)
        quiet = statistics.median([before, between, p99()])
    return {
        "rows per second": alone,
        "quiet": quiet,
        "fast": fast / quiet,
        "rows beside, fast": removed_fast / SECONDS,
        "gentle": gentle / quiet,
        "rows beside, gentle": removed_gently / SECONDS,
    }


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
