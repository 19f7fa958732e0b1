"""Processor time per request, by process: where the time of a guarded request goes.

The servers of :mod:`.throughput` take turns under load. The time of gunicorn's workers and of
PostgreSQL's processes is read from ``/proc``, so it counts on the same machine only.
"""

from contextlib import ExitStack
from dataclasses import replace
from statistics import median
from typing import Any

from benchmarks.cases import ATOMIC, CACHED, FLOOR, OURS, both
from benchmarks.servers import NAME, Gunicorn, connect_postgresql, near, processor_time
from benchmarks.throughput import load

BARE, STATEMENTS, NO_KEY = "bare view", "the bare statements around the bare view", "no key"
FIRST, REPLAY, CACHED_REPLAY = "first request", "replay, database", "replay, Redis"
AUTHENTICATION = "authentication alone, no view"

LEAST = {
    STATEMENTS: BARE,
    NO_KEY: BARE,
    FIRST: STATEMENTS,
    REPLAY: AUTHENTICATION,
    CACHED_REPLAY: AUTHENTICATION,
}
"""What a case cannot do without, by its name."""

CASES = [
    *both(BARE, "bare", "none"),
    *both(STATEMENTS, FLOOR, "none"),
    *both(FIRST, OURS, "unique"),
    *both(REPLAY, OURS, "replay"),
    *both(CACHED_REPLAY, CACHED, "replay"),
    *both(NO_KEY, OURS, "none"),
    *(replace(case, path="/nothing/") for case in both(AUTHENTICATION, "bare", "none")),
]


def least_of(name: str) -> str | None:
    """Return the case that another one is compared with, in the same project."""
    kind = name.removesuffix(ATOMIC)
    return LEAST[kind] + name[len(kind) :] if kind in LEAST else None


def measure(rounds: int, seconds: int) -> dict[str, dict[str, float]]:
    """Return microseconds per request by case: medians of the rounds.

    :param seconds: per case and round
    """
    found: dict[str, list[tuple[float, float]]] = {case.name: [] for case in CASES}
    with ExitStack() as stack:
        servers: dict[Any, Gunicorn] = {}
        for case in CASES:
            if case.environment not in servers:
                servers[case.environment] = Gunicorn(case, near("postgresql"))
                stack.callback(servers[case.environment].stop)
        for case in CASES:
            load(servers[case.environment].wait(), case, 1)  # so that they are warm, and connected
        for number in range(rounds):
            for case in CASES:
                server = servers[case.environment]
                groups = server.workers, _backends()
                before = [processor_time(pids) for pids in groups]
                requests = load(server.port, case, seconds).per_second * seconds
                spent = [processor_time(pids) for pids in groups]
                python, database = (
                    (after - start) / requests * 1e6
                    for after, start in zip(spent, before, strict=True)
                )
                found[case.name].append((python, database))
            print(f"  round {number + 1} of {rounds}", flush=True)
    return {
        name: {
            "workers": median(python for python, _ in times),
            "postgresql": median(database for _, database in times),
        }
        for name, times in found.items()
    }


def _backends() -> list[int]:
    """Return PostgreSQL's processes that work for the projects: their sessions, and the server's
    own."""
    with connect_postgresql("postgres") as connection:
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity "
            "WHERE datname = %s OR backend_type <> 'client backend'",
            [NAME],
        ).fetchall()
    return [pid for (pid,) in rows]
