"""A Redis server of the tests' own: they stop, pause, flush and restart it."""

import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

TIMEOUT = 0.5
"""Seconds that a request of the tests waits for Redis."""


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


class RedisServer:
    """``redis-server`` on a port of loopback, with its data in a folder.

    :param options: of its command line
    """

    def __init__(self, folder: Path, *options: str) -> None:
        self._folder = folder
        self._options = options
        self.port = free_port()
        self.start()

    @property
    def url(self) -> str:
        return f"redis://127.0.0.1:{self.port}/0"

    def start(self) -> None:
        command = ["redis-server", "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._process = subprocess.Popen(
            [*command, *self._options, "--dir", str(self._folder), "--logfile", "redis.log"],
        )
        deadline = time.monotonic() + 30
        while not self._answers():
            assert time.monotonic() < deadline, (self._folder / "redis.log").read_text()
            time.sleep(0.01)

    def stop(self) -> None:
        """Without a word: nothing is saved."""
        self._process.kill()
        self._process.wait(30)

    def pause(self) -> None:
        """From now on it accepts connections, and answers nothing."""
        self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._process.send_signal(signal.SIGCONT)

    def ask(self, *words: str) -> Any:
        """Send a command on a connection of its own; return what the command line tool prints."""
        command = ["redis-cli", "-p", str(self.port), *words]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    def _answers(self) -> bool:
        try:
            return self.ask("PING") == "PONG\n"
        except subprocess.CalledProcessError:
            return False


@contextmanager
def running_redis(folder: Path) -> Iterator[RedisServer]:
    """Run a server for as long as the block lasts."""
    if shutil.which("redis-server") is None:
        pytest.skip("redis-server is not installed")
    server = RedisServer(folder)
    try:
        yield server
    finally:
        server.stop()


def caches(url: str, **options: Any) -> dict[str, Any]:
    """Return the ``CACHES`` setting: ``redis`` and, in this process, ``local``."""
    bounds = {"SOCKET_TIMEOUT": TIMEOUT, "SOCKET_CONNECT_TIMEOUT": TIMEOUT}
    return {
        "default": {"BACKEND": "django.core.cache.backends.dummy.DummyCache"},
        "local": {"BACKEND": "django.core.cache.backends.locmem.LocMemCache", "LOCATION": "local"},
        "redis": {
            "BACKEND": "django_redis.cache.RedisCache",
            "LOCATION": url,
            "OPTIONS": bounds | options,
        },
    }
