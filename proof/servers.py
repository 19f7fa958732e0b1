"""Private database servers, which an experiment may restart as rudely as it likes."""

import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Database(Protocol):
    """A running server, and how the project finds it."""

    environment: dict[str, str]

    def restart(self) -> None:
        """End it without a shutdown, and start it again."""

    def stop(self) -> None: ...


class Postgresql:
    """A cluster of its own; restarted in immediate mode, which is a crash to it."""

    def __init__(self, directory: Path) -> None:
        self._data, port = directory / "data", free_port()
        self.environment = {"PGPORT": str(port), "PGUSER": "postgres"}
        self._options = (
            f"-p {port} -c listen_addresses=127.0.0.1 -c unix_socket_directories={directory} "
            "-c max_connections=60 -c shared_buffers=64MB"
        )
        self._user("postgres", directory)
        self._run("initdb", "-D", str(self._data), "-U", "postgres", "--auth=trust", "--no-sync")
        self._control("start")

    def restart(self) -> None:
        self._control("restart", "-m", "immediate")

    def stop(self) -> None:
        self._control("stop", "-m", "immediate")

    def _control(self, *action: str) -> None:
        log = str(self._data / "server.log")
        self._run("pg_ctl", "-D", str(self._data), "-w", "-l", log, "-o", self._options, *action)

    def _user(self, name: str, directory: Path) -> None:
        """The server refuses to run as root."""
        self._as = [] if os.geteuid() else ["runuser", "-u", name, "--"]
        if self._as:
            shutil.chown(directory, name)

    def _run(self, *command: str) -> None:
        program = _program(command[0])
        subprocess.run(
            [*self._as, program, *command[1:]],
            check=True,
            stdout=subprocess.DEVNULL,
            cwd="/",
        )


class Mariadb:
    """A server of its own; restarted by SIGKILL."""

    def __init__(self, directory: Path) -> None:
        self._port, data = free_port(), directory / "data"
        self.environment = {"MYSQL_PORT": str(self._port), "MYSQL_USER": "root"}
        install = ["mariadb-install-db", f"--datadir={data}", "--skip-test-db", "--user=root"]
        subprocess.run(
            ["mariadb-install-db", "--no-defaults", *install[1:]],
            check=True,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )
        self._command = [
            _program("mariadbd"),
            "--no-defaults",
            f"--datadir={data}",
            f"--port={self._port}",
            f"--socket={directory / 'socket'}",
            "--bind-address=127.0.0.1",
            "--skip-grant-tables",
            "--skip-name-resolve",
            "--innodb-buffer-pool-size=128M",
            "--user=root",
        ]
        self._log = (directory / "log").open("wb")
        self._start()

    def restart(self) -> None:
        self._process.kill()
        self._process.wait()
        self._start()

    def stop(self) -> None:
        self._process.kill()
        self._process.wait()
        self._log.close()

    def _start(self) -> None:
        self._process = subprocess.Popen(self._command, stdout=self._log, stderr=self._log)
        wait_for(self._port)


class Sqlite:
    """A file; there is no server to restart."""

    def __init__(self, directory: Path) -> None:
        self.environment = {"IDEMPOTENCY_TEST_SQLITE": str(directory / "proof.sqlite3")}

    def restart(self) -> None:
        pass

    def stop(self) -> None:
        pass


KINDS: dict[str, Any] = {"postgresql": Postgresql, "mariadb": Mariadb, "sqlite": Sqlite}


def _program(name: str) -> str:
    found = shutil.which(
        name, path=os.pathsep.join([os.environ["PATH"], "/usr/sbin", *_versions()])
    )
    if found is None:
        raise FileNotFoundError(name)
    return found


def _versions() -> list[str]:
    """Where Debian keeps what belongs to one version."""
    return [str(path) for path in sorted(Path("/usr/lib/postgresql").glob("*/bin"), reverse=True)]


def missing(kind: str) -> str:
    """Say which program a private server needs, if it is not there."""
    needed = {"postgresql": ["initdb", "pg_ctl"], "mariadb": ["mariadb-install-db", "mariadbd"]}
    for name in needed.get(kind, []):
        try:
            _program(name)
        except FileNotFoundError:
            return f"{name} is not installed"
    return ""


def wait_for(port: int) -> None:
    """Wait until somebody listens."""
    for _ in range(600):
        try:
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        except OSError:
            subprocess.run(["sleep", "0.1"], check=True)
    raise TimeoutError(f"nobody listens on port {port}")


@contextmanager
def private(kind: str) -> Iterator[Database]:
    """Run a private server for as long as the block lasts."""
    with TemporaryDirectory(prefix="proof-", ignore_cleanup_errors=True) as directory:
        Path(directory).chmod(0o755)
        database: Database = KINDS[kind](Path(directory))
        try:
            yield database
        finally:
            database.stop()
