"""A real server with several processes, and clients that speak HTTP to it."""

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from http.client import HTTPConnection, HTTPException
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
COPIES = ("--config", str(Path(__file__).with_name("gunicorn_conf.py")))
"""Options of gunicorn: one process imports the project, and the workers are its copies."""


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def replayed(self) -> bool:
        return self.headers.get("idempotency-replayed") == "true"

    @property
    def json(self) -> Any:
        return json.loads(self.body)


class Stage:
    """Where a test and the views of other processes tell each other what to do.

    :param path: a directory; the processes know it as ``IDEMPOTENCY_TEST_STAGE``
    """

    def __init__(self, path: Path) -> None:
        self.path = path

    def hang_next(self, how: str = "") -> None:
        """Let the next view hang after its write.

        :param how: ``"busy"``: in a greenlet that lets no other one run
        """
        (self.path / "hang.new").write_text(how)
        (self.path / "hang.new").rename(self.path / "hang")

    def hanging(self) -> tuple[int, str]:
        """Wait until a view hangs; return its process and its database session."""
        report = self.path / "hanging"
        deadline = time.monotonic() + 30
        while not report.exists():
            assert time.monotonic() < deadline, f"nothing hangs; {self.log()}"
            time.sleep(0.01)
        pid, _, session = report.read_text().partition(" ")
        return int(pid), session

    def go_on(self) -> None:
        (self.path / "go on").touch()

    def forget(self) -> None:
        """Be ready for another test: what this one said to the views was said."""
        for name in ("hang", "hanging", "go on"):
            (self.path / name).unlink(missing_ok=True)

    def log(self) -> str:
        """Return what the processes have written into their log, if they have one."""
        log = self.path / "server.log"
        return log.read_text() if log.exists() else ""


class Server(Stage):
    """Gunicorn or uvicorn with worker processes, on the tests' database."""

    def __init__(
        self,
        stage: Path,
        workers: int,
        threads: int,
        policy: dict[str, Any],
        redis: str,
        asgi: bool,
        grace: int,
        gevent: str,
    ) -> None:
        super().__init__(stage)
        self._grace = grace
        self._gevent = gevent
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
        environment = os.environ | {
            "DJANGO_SETTINGS_MODULE": "tests.support.server_settings",
            "IDEMPOTENCY_TEST_STAGE": str(stage),
            "IDEMPOTENCY_TEST_POLICY": json.dumps(policy),
            "IDEMPOTENCY_TEST_REDIS": redis,
            "IDEMPOTENCY_TEST_CONN_MAX_AGE": "0" if asgi else "60",
            "PYTHONPATH": str(ROOT),
        }
        environment.pop("COVERAGE_PROCESS_START", None)
        command = self._uvicorn(workers) if asgi else self._gunicorn(workers, threads)
        self._log = (stage / "server.log").open("wb")
        self._process = subprocess.Popen(
            [sys.executable, "-m", *command],
            cwd=ROOT,
            env=environment,
            stdout=self._log,
            stderr=subprocess.STDOUT,
        )

    def _gunicorn(self, workers: int, threads: int) -> list[str]:
        options = {
            "--workers": workers,
            "--threads": threads,
            "--bind": f"127.0.0.1:{self.port}",
            "--timeout": 0,
            "--graceful-timeout": self._grace,
        }
        if self._gevent:
            return ["gunicorn", "tests.support.wsgi", *self._greenlets(), *_flat(options)]
        return ["gunicorn", "tests.support.wsgi", *COPIES, *_flat(options)]

    def _greenlets(self) -> list[str]:
        """A worker replaces threads by greenlets before it imports the project. One that gets the
        project from its parent comes too late: then the configuration has to do it."""
        configuration = self.path / "gunicorn.conf.py"
        if self._gevent == "worker":
            return ["-k", "gevent"]
        configuration.write_text("from gevent import monkey; monkey.patch_all()")
        return ["-k", "gevent", "--config", str(configuration), "--preload"]

    def _uvicorn(self, workers: int) -> list[str]:
        # Each of them imports the project, and serves many requests at a time.
        workers = min(workers, 2)
        options = {"--workers": workers, "--port": self.port, "--lifespan": "off"}
        quietly = ["--no-access-log", "--timeout-graceful-shutdown", "1"]
        return ["uvicorn", "tests.support.asgi:application", *_flat(options), *quietly]

    @property
    def pid(self) -> int:
        """The process that serves requests, if it is the only one."""
        return self._process.pid

    def post(
        self, path: str, token: str, key: str, data: Any = None, timeout: float = 60
    ) -> Answer | None:
        """POST JSON; ``None`` if the connection ended without an answer."""
        headers = {"Authorization": f"Token {token}", "Idempotency-Key": key}
        return self.send(path, json.dumps(data or {}), headers, timeout)

    def send(
        self, path: str, body: str, headers: dict[str, str], timeout: float = 60
    ) -> Answer | None:
        """The same for any JSON and headers."""
        connection = HTTPConnection("127.0.0.1", self.port, timeout=timeout)
        try:
            connection.request("POST", path, body, {**headers, "Content-Type": "application/json"})
            response = connection.getresponse()
            fields = {name.lower(): value for name, value in response.getheaders()}
            return Answer(response.status, fields, response.read())
        except (HTTPException, ConnectionError):
            return None
        finally:
            connection.close()

    def wait_until_up(self) -> None:
        deadline = time.monotonic() + 60
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
                return
            except OSError:
                running = self._process.poll() is None and time.monotonic() < deadline
                assert running, self.log()
                time.sleep(0.05)

    def ask_to_stop(self) -> None:
        self.go_on()
        self._process.terminate()

    def stop(self) -> None:
        self.ask_to_stop()
        self._process.wait(30)
        self._log.close()


def _flat(options: dict[str, Any]) -> list[str]:
    return [str(part) for option in options.items() for part in option]


@contextmanager
def running_server(
    stage: Path,
    workers: int = 4,
    threads: int = 1,
    policy: dict[str, Any] | None = None,
    redis: str = "",
    asgi: bool = False,
    grace: int = 1,
    gevent: str = "",
) -> Iterator[Server]:
    """Run a server for as long as the block lasts.

    :param stage: a directory for the log and for what tests and views tell each other
    :param policy: the ``IDEMPOTENCY`` setting, as far as JSON can say it; times in seconds
    :param redis: URL of the cache ``redis``
    :param asgi: serve the ASGI application, whose requests have a thread each
    :param grace: seconds that workers have to end by themselves (gunicorn)
    :param gevent: serve with greenlets; threads are replaced in each ``"worker"``, or before a
        ``"preload"``
    """
    server = Server(stage, workers, threads, policy or {}, redis, asgi, grace, gevent)
    try:
        server.wait_until_up()
        yield server
    finally:
        server.stop()


def together(count: int, send: Callable[[], Answer | None]) -> list[Answer]:
    """Send at the same moment from ``count`` threads."""
    barrier = threading.Barrier(count)

    def one(_: int) -> Answer:
        barrier.wait(60)
        answer = send()
        assert answer is not None, "the connection was cut"
        return answer

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))
