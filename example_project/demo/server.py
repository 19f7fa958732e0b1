"""The example under gunicorn or uvicorn, with a database, a folder and a port of its own."""

import json
import os
import socket
import subprocess
import sys
from base64 import b64encode
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import quote

from .client import Address, Client
from .sessions import log_in

PROJECT = Path(__file__).resolve().parent.parent
Account = dict[str, Any]
"""Name, password, token and API keys."""

STOP_TIMEOUT = 20
"""Seconds that a server gets to stop by itself."""


class Example:
    """The example project as its operator sees it.

    :param folder: for the log, the SQLite database, and what the provisioner tells the demo
    :param database: URL of another database than a new SQLite file
    :param asgi: serve the ASGI application, with uvicorn
    """

    def __init__(self, folder: Path, database: str | None = None, asgi: bool = False) -> None:
        self.folder = folder
        self.asgi = asgi
        self.log = folder / "server.log"
        self.environment = {
            **os.environ,
            "DJANGO_SETTINGS_MODULE": "project.settings",
            "EXAMPLE_DATABASE": database or f"sqlite://{quote(str(folder.resolve()))}/db.sqlite3",
            "EXAMPLE_PROVISIONER": "demo.provisioning.place",
            "EXAMPLE_REHEARSAL": "demo.rehearsal.reached",
            "EXAMPLE_EMAIL_BACKEND": "demo.postbox.Backend",
            "DEMO_FOLDER": str(folder.resolve()),
            "PYTHONPATH": os.pathsep.join(
                filter(None, [_package_folder(), os.getenv("PYTHONPATH")])
            ),
        }
        self._process: subprocess.Popen[bytes] | None = None
        self._address: Address | None = None

    def __enter__(self) -> "Example":
        self.manage("migrate", "--verbosity", "0")
        self.start()
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    @property
    def address(self) -> Address:
        if self._address is None:
            raise RuntimeError("The server is not running.")
        return self._address

    @property
    def url(self) -> str:
        return "http://{}:{}".format(*self.address)

    def manage(self, *arguments: str) -> str:
        """Run a management command and return what it printed.

        :raises RuntimeError: if it fails; the message is what it wrote to stderr
        """
        command = [sys.executable, "manage.py", *arguments]
        done = subprocess.run(  # noqa: S603  (our own command)
            command, cwd=PROJECT, env=self.environment, capture_output=True, text=True, check=False
        )
        if done.returncode != 0:
            raise RuntimeError(f"manage.py {arguments[0]} failed:\n{done.stderr}")
        return done.stdout.strip()

    def start(self) -> None:
        """Start the server on a port that the kernel chooses.

        The socket is opened here and handed over, so nobody can take the port in between, and
        requests that come before the workers are up wait in its queue.
        """
        with socket.create_server(("127.0.0.1", 0)) as listener, self.log.open("ab") as log:
            self._address = listener.getsockname()
            number = listener.fileno()
            gunicorn = ["gunicorn", "--bind", f"fd://{number}", "project.wsgi"]
            uvicorn = ["uvicorn", "--fd", str(number), "project.asgi:application"]
            self._process = subprocess.Popen(  # noqa: S603  (our own command)
                [sys.executable, "-m", *(uvicorn if self.asgi else gunicorn)],
                cwd=PROJECT,
                env=self.environment,
                pass_fds=[listener.fileno()],
                stdout=log,
                stderr=log,
                # Ctrl-C is for the demo, which then stops the server.
                start_new_session=True,
            )

    def wait(self) -> None:
        """Wait until the server ends by itself."""
        if self._process is not None:
            self._process.wait()

    def stop(self) -> None:
        """Stop the server and its workers."""
        process, self._process, self._address = self._process, None, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(STOP_TIMEOUT)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, 9)
            process.wait()

    def accounts(self, *names: str, admin: bool = False) -> list[Account]:
        """Create accounts with all their credentials."""
        options = ["--admin"] if admin else []
        created = json.loads(self.manage("create_account", *names, *options))
        return [created[name] for name in names]

    def bearer(self, credential: str) -> Client:
        """Return a client with an account's token, or with an API key in its place."""
        return Client(self.address, {"Authorization": f"Bearer {credential}"})

    def api_key(self, key: str) -> Client:
        return Client(self.address, {"x-api-key": key})

    def merchant(self, account: Account) -> Client:
        """Return a client with HTTP Basic authentication."""
        pair = f"{account['name']}:{account['api_keys'][0]}".encode()
        return Client(self.address, {"Authorization": f"Basic {b64encode(pair).decode()}"})

    def browser(self, account: Account) -> Client:
        """Return a client that has logged in with a password and sends forms."""
        return log_in(self.address, account["name"], account["password"])


def _package_folder() -> str:
    """Where ``django_idempotency`` is imported from here: the server uses the same one."""
    spec = find_spec("django_idempotency")
    if spec is None or spec.origin is None:
        raise RuntimeError("django_idempotency is not installed.")
    return str(Path(spec.origin).parent.parent)
