"""Chaos: real servers, real clients, and everything that can go wrong goes wrong, for minutes.

Started as a process of its own (``python -m proof.chaos postgresql --keys 10000``), because its
database is one of its own.
"""

import argparse
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from dataclasses import asdict
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from time import monotonic, sleep
from typing import Any

from proof.report import Outcome
from proof.servers import Database, free_port, private, wait_for
from tests.support.redis_server import TIMEOUT as REDIS_TIMEOUT
from tests.support.redis_server import RedisServer, running_redis

ROOT = Path(__file__).parent.parent
WORKERS, CLIENTS, DUPLICATES = 4, 12, 2
ANSWER_TIMEOUT = 90.0
"""Seconds after which a key without an answer counts as stuck."""


class Gunicorn:
    """Several workers; a killed one is replaced at once."""

    def __init__(self, log: Path) -> None:
        self.port = free_port()
        self._log = log.open("wb")
        options = ["--workers", str(WORKERS), "--bind", f"127.0.0.1:{self.port}", "--preload"]
        options += ["--timeout", "0", "--graceful-timeout", "1", "--worker-tmp-dir", "/dev/shm"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "proof.wsgi", *options],
            cwd=ROOT,
            stdout=self._log,
            stderr=self._log,
        )
        wait_for(self.port)

    def workers(self) -> list[int]:
        pid = self._process.pid
        return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> None:
        for pid in self.workers():
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


class Client:
    """Sends a request until it has an answer."""

    def __init__(self, port: int, ledger: "Ledger") -> None:
        self._port, self._ledger = port, ledger

    def buy(self, key: str) -> None:
        ends = monotonic() + ANSWER_TIMEOUT
        while monotonic() < ends:
            answer = self._send(key)
            if answer is not None and answer[0] not in {409, 500, 503}:
                self._ledger.answered(key, *answer)
                return
            self._ledger.retried("no answer" if answer is None else str(answer[0]))
            sleep(random.random() * 0.05)  # as clients do, so as not to come back all at once
        self._ledger.stuck(key)

    def _send(self, key: str) -> tuple[int, bytes] | None:
        connection = HTTPConnection("127.0.0.1", self._port, timeout=3)
        headers = {"Idempotency-Key": key, "Content-Type": "application/json"}
        try:
            connection.request("POST", "/buy/", json.dumps({"item": key}), headers)
            response = connection.getresponse()
            return response.status, response.read()
        except (HTTPException, OSError):
            return None
        finally:
            connection.close()


class Ledger:
    """What clients were told."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self.answers: dict[str, set[tuple[int, bytes]]] = {}
        self.retries = Counter[str]()
        self.lost_keys: list[str] = []

    def answered(self, key: str, status: int, body: bytes) -> None:
        with self._lock:
            self.answers.setdefault(key, set()).add((status, body))

    def retried(self, why: str) -> None:
        with self._lock:
            self.retries[why] += 1

    def stuck(self, key: str) -> None:
        with self._lock:
            self.lost_keys.append(key)


class Monkey(threading.Thread):
    """Breaks something, again and again, until told to stop."""

    def __init__(self, action: Callable[[], str], pause: float) -> None:
        super().__init__(daemon=True)
        self._action, self._pause, self._end = action, pause, threading.Event()
        self.done = Counter[str]()
        self.start()

    def run(self) -> None:
        from django.db import connections

        while not self._end.wait(self._pause):
            with suppress(OSError):
                self.done[self._action()] += 1
        connections.close_all()

    def stop(self) -> None:
        self._end.set()
        self.join(120)


def hurt_worker(server: Gunicorn) -> str:
    """SIGKILL, or SIGSTOP for a while."""
    victim = random.choice(server.workers())
    if random.random() < 0.6:
        os.kill(victim, signal.SIGKILL)
        return "workers killed"
    os.kill(victim, signal.SIGSTOP)
    sleep(random.random() * 0.7)
    os.kill(victim, signal.SIGCONT)
    return "workers stopped for a while"


def cut_session() -> str:
    """End somebody's database session."""
    from django.db import connection

    find = {
        "postgresql": "SELECT pid FROM pg_stat_activity WHERE datname = current_database() "
        "AND pid <> pg_backend_pid()",
        "mysql": "SELECT id FROM information_schema.processlist WHERE db = DATABASE() "
        "AND id <> CONNECTION_ID()",
    }
    end = {"postgresql": "SELECT pg_terminate_backend(%s)", "mysql": "KILL %s"}
    with _restarts_are_expected(), connection.cursor() as cursor:
        cursor.execute(find[connection.vendor])
        sessions = [row[0] for row in cursor.fetchall()]
        if sessions:
            cursor.execute(end[connection.vendor], [random.choice(sessions)])
            return "sessions cut"
    return "sessions not found"


def hurt_redis(redis: RedisServer) -> str:
    """Stop it and start it again, empty; pause it for longer than anybody waits; empty it."""
    match random.randrange(3):
        case 0:
            redis.stop()
            sleep(random.random() * 0.5)
            redis.start()
            return "Redis stops"
        case 1:
            redis.pause()
            sleep(REDIS_TIMEOUT * 1.5)
            redis.resume()
            return "Redis pauses"
        case _:
            redis.ask("FLUSHALL")
            return "Redis flushes"


def purge() -> str:
    """Add expired records, and remove what is expired."""
    from datetime import timedelta

    from django.utils.timezone import now

    from django_idempotency.models import IdempotencyRecord
    from django_idempotency.stores.database.store import DatabaseStore

    long_ago = now() - timedelta(days=2)
    common: dict[str, Any] = {"fingerprint": "1:a", "state": "completed", "method": "POST"}
    common |= {"path": "/", "response_status": 201, "response_headers": "[]"}
    with _restarts_are_expected():
        IdempotencyRecord.objects.bulk_create(
            IdempotencyRecord(
                scope="old",
                key=f"{random.random()}",
                created_at=long_ago,
                purge_at=long_ago,
                expires_at=long_ago,
                **common,
            )
            for _ in range(20)
        )
        sum(DatabaseStore("default").purge(100))
        return "purges"
    return "purges interrupted"


@contextmanager
def _restarts_are_expected() -> Iterator[None]:
    from django.db import Error, connection

    try:
        yield
    except Error:
        connection.close()


def storm(kind: str, database: Database, redis: RedisServer | None, keys: int) -> Outcome:
    """Run clients and monkeys; compare the ledger with the database at the end."""
    outcome, ledger, started = Outcome("chaos", "keys", kind), Ledger(), monotonic()
    with tempfile.TemporaryDirectory() as directory:
        server = Gunicorn(Path(directory) / "log")
        monkeys = [Monkey(lambda: hurt_worker(server), 1.0), Monkey(purge, 0.2)]
        if kind != "sqlite":
            monkeys += [Monkey(cut_session, 0.5), Monkey(lambda: _restart(database), 15)]
        if redis is not None:
            monkeys += [Monkey(lambda: hurt_redis(redis), 4)]
        names = [f"key-{number}" for number in range(keys) for _ in range(DUPLICATES)]
        try:
            with ThreadPoolExecutor(CLIENTS) as pool:
                list(pool.map(Client(server.port, ledger).buy, names))
        finally:
            for monkey in monkeys:
                monkey.stop()
            server.stop()
    outcome.count, outcome.seconds = keys, monotonic() - started
    for monkey in monkeys:
        for name, count in monkey.done.items():
            outcome.note(name, count)
    outcome.note("retries", sum(ledger.retries.values()))
    compare(ledger, outcome)
    return outcome


def _restart(database: Database) -> str:
    database.restart()
    return "database crashes"


def compare(ledger: Ledger, outcome: Outcome) -> None:
    """Duplicates, lost, stuck and wrong answers: none."""
    from django.db import connection

    from tests.shop.models import Order

    connection.close()  # it may be from before a crash
    bought: dict[str, list[int]] = {}
    for pk, item in Order.objects.values_list("pk", "item"):
        bought.setdefault(item, []).append(pk)
    for key, orders in bought.items():
        if len(orders) != 1:
            outcome.violation(f"duplicate: {key} was executed {len(orders)} times")
    for key in ledger.lost_keys:
        outcome.violation(f"stuck: {key} has no answer after {ANSWER_TIMEOUT} s")
    for key, answers in ledger.answers.items():
        _compare_answers(key, answers, bought.get(key, []), outcome)


def _compare_answers(
    key: str, answers: set[tuple[int, bytes]], orders: list[int], outcome: Outcome
) -> None:
    if len(answers) != 1 or {status for status, _ in answers} != {201}:
        outcome.violation(f"wrong: {key} was answered {answers}")
    for status, body in answers:
        if status == 201 and json.loads(body)["id"] not in orders:
            outcome.violation(f"lost: {key} was told {body!r}, and that is not there")


def run(kind: str, keys: int, mutant: str = "") -> Outcome:
    """Run the storm in a process of its own."""
    command = [sys.executable, "-m", "proof.chaos", kind, "--keys", str(keys)]
    done = subprocess.run(
        [*command, "--mutant", mutant], cwd=ROOT, stdout=subprocess.PIPE, check=True
    )
    return Outcome(**json.loads(done.stdout.splitlines()[-1]))


@contextmanager
def _private_redis() -> Iterator[RedisServer | None]:
    if shutil.which("redis-server") is None:
        yield None
        return
    with tempfile.TemporaryDirectory() as directory, running_redis(Path(directory)) as server:
        yield server


def main() -> None:
    parser = argparse.ArgumentParser(description="Chaos on one kind of database.")
    parser.add_argument("kind", choices=["postgresql", "mariadb", "sqlite"])
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--mutant", default="")
    options = parser.parse_args()
    with private(options.kind) as database, _private_redis() as redis:
        os.environ |= database.environment | {
            "IDEMPOTENCY_TEST_DATABASE": options.kind,
            "PROOF_MUTANT": options.mutant,
            "PROOF_REDIS": redis.url if redis else "",
        }
        from proof import stage

        stage.set_up()
        with stage.database(hurry=False) as connection:
            os.environ["PROOF_NAME"] = connection.settings_dict["NAME"]
            print(json.dumps(asdict(storm(options.kind, database, redis, options.keys))))


if __name__ == "__main__":
    main()
