"""The example project for many tests: what takes long to start is started once."""

import json
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from urllib.parse import quote

from django.db import connection

from example_project.demo.server import PROJECT, Example
from tests.support.server import COPIES

SCHEMES = {"postgresql": "postgresql", "mysql": "mariadb"}
Unblock = Callable[[], AbstractContextManager[object]]
CONSOLE = Path(__file__).with_name("console.py")


class WarmExample(Example):
    """One process runs all management commands; another one has imported what its copies serve."""

    def __init__(self, folder: Path, database: str | None = None) -> None:
        super().__init__(folder, database)
        self.environment["GUNICORN_CMD_ARGS"] = " ".join(COPIES)
        self._console: subprocess.Popen[str] | None = None

    def manage(self, *arguments: str) -> str:
        if self._console is None:
            self._console = subprocess.Popen(
                [sys.executable, str(CONSOLE)],
                cwd=PROJECT,
                env=self.environment,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        assert self._console.stdin is not None
        assert self._console.stdout is not None
        print(json.dumps(arguments), file=self._console.stdin, flush=True)
        code, printed, error = json.loads(self._console.stdout.readline())
        if code != 0:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{error}")
        return str(printed).strip()

    def stop(self) -> None:
        super().stop()
        if self._console is not None:
            self._console.communicate()
            self._console = None


@contextmanager
def new_database(unblock: Unblock) -> Iterator[str | None]:
    """Make a database next to the tests' own; give its URL, or ``None`` for a SQLite file.

    :param unblock: allows access to databases, for as long as its result is entered
    """
    if connection.vendor == "sqlite":
        yield None
        return
    name = f"example_{uuid.uuid4().hex[:12]}"
    with unblock():
        execute(f"CREATE DATABASE {name}")
        if connection.vendor == "postgresql":  # as for the tests' own
            execute(f"ALTER DATABASE {name} SET synchronous_commit = off")
    try:
        yield url_of(name)
    finally:
        with unblock():
            execute(f"DROP DATABASE {name}")


def execute(statement: str) -> None:
    with connection._nodb_cursor() as cursor:
        cursor.execute(statement)


def url_of(name: str) -> str:
    server = connection.settings_dict
    login = f"{quote(server['USER'])}:{quote(server['PASSWORD'])}"
    return f"{SCHEMES[connection.vendor]}://{login}@{server['HOST']}:{server['PORT']}/{name}"
