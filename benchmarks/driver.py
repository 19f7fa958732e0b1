"""How many guarded commits a processor core of PostgreSQL carries, and what the wire costs.

Processes send the statements through the bare driver, as the store does; PostgreSQL's processor
time is read from ``/proc``, so it counts on the same machine only.
"""

import json
import os
import subprocess
import sys
import time
import uuid
from collections.abc import Callable
from statistics import median
from typing import Any

from benchmarks.servers import (
    DELAY,
    PORTS,
    ROOT,
    connect_postgresql,
    near,
    processor_time,
    wire_process,
)

PROCESSES = 4
INSERT = "INSERT INTO shop_order (item) VALUES (%s) RETURNING id"
KINDS = ("insert", "transaction", "guarded")
"""One INSERT that commits by itself; the same in a transaction of its own; and guarded."""


def commits(seconds: float) -> dict[str, dict[str, float]]:
    """Return commits per second and processor time for each kind."""
    return {kind: _commits(kind, seconds) for kind in KINDS}


def _commits(kind: str, seconds: float) -> dict[str, float]:
    command = [sys.executable, "-m", "benchmarks.driver", kind, str(seconds)]
    environment = near("postgresql").environment | {"BENCH_GUARD": "the statements"}
    workers = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | environment, stdout=subprocess.PIPE, text=True
        )
        for _ in range(PROCESSES)
    ]
    lines = [worker.communicate()[0] for worker in workers]
    found = [json.loads(line) for line in lines]
    # The server's own processes work for all: each worker has seen their time pass.
    shared = median(each["shared"] for each in found)
    spent = sum(each["own"] for each in found) + shared
    total = sum(each["commits"] for each in found)
    return {
        "per second": sum(each["commits"] / each["seconds"] for each in found),
        "microseconds": spent / total * 1e6,
        "per core": total / spent,
    }


def work(kind: str, seconds: float) -> dict[str, float]:
    """Send for so long, in this process."""
    import django

    django.setup()
    from benchmarks.statements import PostgresqlSession, Statements

    with connect_postgresql() as connection:
        session = PostgresqlSession(connection, Statements.of_the_store())
        session.prepare("insert", INSERT)
        own = [connection.info.backend_pid]
        rows = connection.execute(
            "SELECT pid FROM pg_stat_activity WHERE backend_type <> 'client backend'"
        ).fetchall()
        shared = [pid for (pid,) in rows]
        once = _kinds(session)[kind]
        for _ in range(50):
            once()
        started, before = time.perf_counter(), (processor_time(own), processor_time(shared))
        count = 0
        while (passed := time.perf_counter() - started) < seconds:
            once()
            count += 1
        own_time, shared_time = processor_time(own) - before[0], processor_time(shared) - before[1]
    return {"commits": count, "seconds": passed, "own": own_time, "shared": shared_time}


def _kinds(session: Any) -> dict[str, Callable[[], Any]]:
    insert = session.named("insert", ["a small server"])
    begin, commit = session.plain(b"BEGIN"), session.plain(b"COMMIT")

    def guarded() -> None:
        key = str(uuid.uuid4())
        record = session.claim(key)
        transaction_id = session.lock(record, begins=True)
        session.together([insert])
        session.complete(key, record, transaction_id)

    def transaction() -> None:
        session.together([begin, insert])
        session.together([commit])

    return {
        "insert": lambda: session.together([insert]),
        "transaction": transaction,
        "guarded": guarded,
    }


def wire(statements: int = 400) -> dict[str, float]:
    """Return what a round trip takes, in ms: directly, and through wires without and with length;
    and of the latter, when four clients use it at once."""
    found = {"directly": _round_trip(PORTS["postgresql"], statements)}
    with wire_process(PORTS["postgresql"], 0.0) as port:
        found["through a wire"] = _round_trip(port, statements)
    with wire_process(PORTS["postgresql"], DELAY) as port:
        found["far"] = _round_trip(port, statements)
        found["far, four at once"] = _round_trip(port, statements, clients=4)
    return found


def _round_trip(port: int, statements: int, clients: int = 1) -> float:
    """Median milliseconds of the fastest statement there is."""
    command = [sys.executable, "-m", "benchmarks.driver", "wire", str(port), str(statements)]
    workers = [
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        for _ in range(clients)
    ]
    return median(float(worker.communicate()[0]) for worker in workers)


def _time_statements(port: int, statements: int) -> float:
    times = []
    with connect_postgresql("postgres", port=port) as connection:
        for _ in range(statements):
            started = time.perf_counter()
            connection.execute("SELECT 1", prepare=True)
            times.append(time.perf_counter() - started)
    return median(times) * 1e3


if __name__ == "__main__":
    if sys.argv[1] == "wire":
        print(_time_statements(int(sys.argv[2]), int(sys.argv[3])))
    else:
        print(json.dumps(work(sys.argv[1], float(sys.argv[2]))))
