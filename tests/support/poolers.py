"""A connection pooler of the tests' own in front of PostgreSQL.

``IDEMPOTENCY_TEST_POOLER`` names the program: another PgBouncer than the one that is installed, or
an Odyssey.
"""

import os
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.support.databases import settings_of
from tests.support.redis_server import free_port

PROGRAM = os.environ.get("IDEMPOTENCY_TEST_POOLER", "pgbouncer")
IS_ODYSSEY = Path(PROGRAM).name == "odyssey"


@dataclass(frozen=True)
class Pool:
    """How a pooler hands the sessions of the server to its clients.

    :ivar mode: ``session`` or ``transaction``
    :ivar size: number of the server's sessions
    :ivar reset: sent to a session that a client gives back
    :ivar resets_always: also after each transaction
    :ivar tracked: number of prepared statements that the pooler itself knows in each session, so
        that clients find theirs wherever they are sent
    """

    mode: str
    size: int
    reset: str = "DISCARD ALL"
    resets_always: bool = False
    tracked: int = 0

    def __str__(self) -> str:
        tracked = f"-tracked-{self.tracked}" if self.tracked else ""
        after = "each-transaction" if self.resets_always else "each-client"
        reset = f"-{self.reset}-after-{after}" if self.reset else ""
        return f"{self.mode}-{self.size}{tracked}{reset}".replace(" ", "-").lower()


class Pooler:
    """A pooler on a port of loopback, which takes every client for the server's superuser."""

    def __init__(self, folder: Path, pool: Pool) -> None:
        self._log = folder / "pooler.log"
        self._configuration = folder / "pooler.conf"
        self.port = free_port()
        write = _odyssey if IS_ODYSSEY else _pgbouncer
        self._configuration.write_text(write(pool, self.port))
        self.start()

    def start(self) -> None:
        # PgBouncer refuses to be root, and lets go of that when it has read its configuration.
        as_nobody = ["-u", "nobody"] if os.geteuid() == 0 and not IS_ODYSSEY else []
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [PROGRAM, *as_nobody, str(self._configuration)], stdout=log, stderr=log
            )
        deadline = time.monotonic() + 30
        while not self._listens():
            assert time.monotonic() < deadline, self.log()
            assert self._process.poll() is None, self.log()
            time.sleep(0.01)

    def stop(self) -> None:
        """At once: nobody's transaction is waited for."""
        self._process.kill()
        self._process.wait(30)

    @contextmanager
    def occupied(self, database: str, sessions: int = 1) -> Iterator[None]:
        """Keep sessions of the server busy with others' transactions: those that were used last."""
        clients = [self._client(database) for _ in range(sessions)]
        try:
            for client in clients:
                client.execute("BEGIN")
            yield
        finally:
            for client in clients:
                client.close()

    def ask(self, database: str, sql: str) -> list[Any]:
        """Send a statement as some other client does."""
        with self._client(database) as client:
            return client.execute(sql.encode()).fetchall()

    def _client(self, database: str) -> Any:
        import psycopg  # the suite can be collected without it

        server = settings_of("postgresql")
        where = {"host": "127.0.0.1", "port": self.port, "user": server["USER"]}
        return psycopg.connect(**where, dbname=database, autocommit=True, prepare_threshold=None)

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1).close()
        except OSError:
            return False
        return True

    def log(self) -> str:
        return self._log.read_text()


def _pgbouncer(pool: Pool, port: int) -> str:
    """https://www.pgbouncer.org/config.html"""
    server = settings_of("postgresql")
    where = f"host=127.0.0.1 port={server['PORT']} user={server['USER']}"
    tracked = [f"max_prepared_statements = {pool.tracked}"] if _can_track() else []
    return "\n".join(
        [
            "[databases]",
            f"* = {where}" + (f" password={server['PASSWORD']}" if server["PASSWORD"] else ""),
            "[pgbouncer]",
            "listen_addr = 127.0.0.1",
            f"listen_port = {port}",
            "unix_socket_dir =",
            "auth_type = any",
            "max_client_conn = 200",
            "query_wait_timeout = 20",
            "log_connections = 0",
            "log_disconnections = 0",
            f"pool_mode = {pool.mode}",
            f"default_pool_size = {pool.size}",
            f"server_reset_query = {pool.reset}",
            f"server_reset_query_always = {int(pool.resets_always)}",
            *tracked,
        ]
    )


def _odyssey(pool: Pool, port: int) -> str:
    """https://github.com/yandex/odyssey/blob/master/docs/configuration/rules.md"""
    server = settings_of("postgresql")
    discards = pool.reset and not pool.tracked and (pool.mode == "session" or pool.resets_always)
    tracks = pool.tracked and pool.mode == "transaction"  # not in the other mode
    return f"""
daemonize no
log_to_stdout yes
log_format "%p %t %l (%c) %m\\n"
workers 1
listen {{
    host "127.0.0.1"
    port {port}
}}
storage "server" {{
    type "remote"
    host "127.0.0.1"
    port {server["PORT"]}
}}
database default {{
    user default {{
        authentication "none"
        storage "server"
        storage_user "{server["USER"]}"
        storage_password "{server["PASSWORD"]}"
        pool "{pool.mode}"
        pool_size {pool.size}
        pool_timeout 0
        pool_discard {"yes" if discards else "no"}
        pool_reserve_prepared_statement {"yes" if tracks else "no"}
    }}
}}
"""


def _can_track() -> bool:
    """PgBouncer can since 1.21: https://www.pgbouncer.org/changelog.html"""
    if IS_ODYSSEY:
        return True
    told = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True)
    found = re.search(r"PgBouncer (\d+)\.(\d+)", told.stdout)
    assert found is not None, told.stdout
    return (int(found[1]), int(found[2])) >= (1, 21)


@contextmanager
def running_pooler(folder: Path, pool: Pool) -> Iterator[Pooler]:
    """Run a pooler for as long as the block lasts."""
    if shutil.which(PROGRAM) is None:
        pytest.skip(f"{PROGRAM} is not installed")
    if pool.tracked and not _can_track():
        pytest.skip(f"this {PROGRAM} knows nothing of prepared statements")
    pooler = Pooler(folder, pool)
    try:
        yield pooler
    finally:
        pooler.stop()
