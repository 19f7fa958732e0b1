"""Servers of the benchmark: the project under gunicorn, its databases, and wires to them."""

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryFile
from typing import Any

from benchmarks.cases import Case
from proof.servers import free_port

ROOT = Path(__file__).parent.parent
NAME = os.environ.get("IDEMPOTENCY_TEST_NAME", "idempotency") + "_bench"
TOKEN = "0123456789abcdef0123456789abcdef01234567"
DELAY = 0.00025
"""Seconds in each direction: the usual distance between two machines of a cloud."""

WORKERS = 2
PORTS = {
    "postgresql": int(os.environ.get("PGPORT", "5432")),
    "mariadb": int(os.environ.get("MYSQL_PORT", "3306")),
    "redis": int(os.environ.get("BENCH_REDIS_PORT", "6379")),
}


@dataclass(frozen=True)
class Place:
    """A database, and where the project reaches it and Redis.

    :ivar database: ``postgresql`` or ``mariadb``
    """

    database: str
    database_port: int
    redis_port: int

    @property
    def environment(self) -> dict[str, str]:
        return {
            "BENCH_NAME": NAME,
            "BENCH_DATABASE": self.database,
            "BENCH_DATABASE_PORT": str(self.database_port),
            "BENCH_REDIS_PORT": str(self.redis_port),
            "DJANGO_SETTINGS_MODULE": "benchmarks.project",
            "PYTHONPATH": str(ROOT),
            # A wire reads no protocol, and on loopback nothing is encrypted anyway.
            "PGSSLMODE": "disable",
            "PGGSSENCMODE": "disable",
        }


def near(database: str) -> Place:
    """Return where the server itself is."""
    return Place(database, PORTS[database], PORTS["redis"])


@contextmanager
def place_of(database: str, is_far: bool) -> Iterator[Place]:
    """Give a place, far away if wanted: behind wires that are processes."""
    if not is_far:
        yield near(database)
        return
    with wire_process(PORTS[database]) as port, wire_process(PORTS["redis"]) as redis:
        yield Place(database, port, redis)


@contextmanager
def wire_process(port: int, delay: float = DELAY) -> Iterator[int]:
    """Run a wire to a port of loopback; give its own port."""
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.wire", f"127.0.0.1:{port}", "--delay", str(delay)],
        cwd=ROOT,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        assert process.stdout is not None
        yield int(process.stdout.readline())
    finally:
        process.kill()
        process.communicate()


class Gunicorn:
    """A project that is being started.

    :raises RuntimeError: by :meth:`wait`, with what it says, if it does not start
    """

    def __init__(self, case: Case, place: Place, workers: int = WORKERS) -> None:
        self.port = free_port()
        self._log = TemporaryFile("w+")  # noqa: SIM115
        options = ["--workers", str(workers), "--bind", f"127.0.0.1:{self.port}", "--preload"]
        self._process = subprocess.Popen(
            [sys.executable, "-m", "gunicorn", "benchmarks.wsgi", *options],
            cwd=ROOT,
            env=os.environ | place.environment | dict(case.environment),
            stdout=self._log,
            stderr=self._log,
        )

    def wait(self) -> int:
        """Wait until it listens; return its port."""
        for _ in range(600):
            if self._process.poll() is not None:
                self._log.seek(0)
                raise RuntimeError(f"does not start: {last_line(self._log.read())}")
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return self.port
            except OSError:
                time.sleep(0.05)
        raise RuntimeError("does not start: nobody listens")

    @property
    def workers(self) -> list[int]:
        """The processes that answer."""
        pid = self._process.pid
        return [int(each) for each in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]

    def stop(self) -> None:
        self._process.terminate()
        self._process.wait(30)
        self._log.close()


@contextmanager
def serving(case: Case, place: Place, workers: int = WORKERS) -> Iterator[int]:
    """Serve one project; give its port."""
    with ExitStack() as stack:
        server = Gunicorn(case, place, workers)
        stack.callback(server.stop)
        yield server.wait()


def create_databases(database: str, cases: list[Case]) -> dict[str, str]:
    """Make an empty database with the tables of everybody, and somebody who sends requests.

    :return: guards whose tables cannot be made, with the reason
    """
    {"postgresql": _empty_postgresql, "mariadb": _empty_mariadb}[database]()
    failed = {}
    for case in {case.guard: case for case in cases}.values():
        try:
            _manage(case, database, "migrate", "--verbosity", "0", "--run-syncdb")
        except RuntimeError as error:
            failed[case.guard] = str(error)
    _manage(Case("bare view"), database, "shell", "--verbosity", "0", "--command", _CALLER)
    return failed


_CALLER = f"""
from django.contrib.auth.models import User
from rest_framework.authtoken.models import Token
Token.objects.create(key="{TOKEN}", user=User.objects.create_user("ada"))
"""


def _manage(case: Case, database: str, *command: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "django", *command],
        env=os.environ | near(database).environment | dict(case.environment),
        cwd=ROOT,
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise RuntimeError(f"{command[0]} fails: {last_line(done.stderr)}")


def last_line(text: str) -> str:
    return text.strip().rpartition("\n")[2][:200]


def _empty_postgresql() -> None:
    with connect_postgresql("postgres") as connection:
        connection.execute(f'DROP DATABASE IF EXISTS "{NAME}" WITH (FORCE)')
        connection.execute(f'CREATE DATABASE "{NAME}"')


def _empty_mariadb() -> None:
    connection = connect_mariadb("")
    connection.query(f"DROP DATABASE IF EXISTS `{NAME}`")
    connection.query(f"CREATE DATABASE `{NAME}` CHARACTER SET utf8mb4")
    connection.close()


def connect_postgresql(name: str = NAME, port: int = PORTS["postgresql"]) -> Any:
    import psycopg

    return psycopg.connect(
        dbname=name,
        host="127.0.0.1",
        port=port,
        user=os.environ.get("PGUSER", "postgres"),
        password=os.environ.get("PGPASSWORD", ""),
        sslmode="disable",
        autocommit=True,
    )


def processor_time(pids: list[int]) -> float:
    """Return the processor time of processes so far, in seconds: the user's and the system's."""
    ticks = 0
    for pid in pids:
        try:
            text = Path(f"/proc/{pid}/stat").read_text()
        except FileNotFoundError:  # a worker of the server that has ended
            continue
        ticks += sum(map(int, text.rpartition(")")[2].split()[11:13]))
    return ticks / os.sysconf("SC_CLK_TCK")


def connect_mariadb(name: str = NAME) -> Any:
    import MySQLdb

    return MySQLdb.connect(
        db=name,
        host="127.0.0.1",
        port=PORTS["mariadb"],
        user=os.environ.get("MYSQL_USER", "root"),
        password=os.environ.get("MYSQL_PASSWORD", ""),
    )
