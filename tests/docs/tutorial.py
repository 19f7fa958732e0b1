"""Does what a reader of the tutorial does: a new project from the page's text alone."""

import os
import re
import socket
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

FENCE = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
PORT = "8000"
"""The port on the page; every run takes a free one."""


@dataclass
class Reader:
    """Somebody with an empty folder.

    :param folder: the empty folder
    :param checkout: the clone to install
    """

    folder: Path
    checkout: Path
    port: str = ""
    seen: list[str] = field(default_factory=list)
    """What each command printed."""
    _server: subprocess.Popen[bytes] | None = None

    def __post_init__(self) -> None:
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = str(free.getsockname()[1])

    def __enter__(self) -> "Reader":
        return self

    def __exit__(self, *error: object) -> None:
        self.stop()

    def follow(self, page: str) -> None:
        """Do what the page's blocks say, one after the other."""
        for language, block in FENCE.findall(page):
            getattr(self, f"do_{language}")(block)

    def do_python(self, block: str) -> None:
        """The first line names the file; the running server takes it, as its reloader would."""
        title, _, code = block.partition("\n")
        end, name = re.fullmatch(r"# (at the end of )?([\w/]+\.py)", title).groups()  # type: ignore[union-attr]
        path = self.folder / name
        path.write_text(path.read_text() + code if end else code)
        if self._server is not None:
            self.stop()
            self.serve()

    def do_sh(self, block: str) -> None:
        commands, runserver, _ = block.partition("python manage.py runserver\n")
        if commands:
            self.seen.append(self.shell(commands))
        if runserver:
            self.stop()
            self.serve()

    def do_console(self, block: str) -> None:
        """Lines after ``$`` are entered; what follows must be printed, other headers beside it."""
        for entered, expected in re.findall(r"^\$ (.*)\n((?:(?!\$ ).*\n)*)", block, re.MULTILINE):
            printed = self.shell(entered.replace(PORT, self.port)).replace("\r", "")
            self.seen.append(printed)
            lines = printed.splitlines()
            missing = [line for line in expected.splitlines() if line not in lines]
            assert missing == [], f"{missing} not in:\n{printed[:2000]}"
            marker = "Idempotency-Replayed: true"
            assert (marker in printed) is (marker in expected), printed

    def shell(self, code: str) -> str:
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", code],
            cwd=self.folder,
            env=self.environment,
            capture_output=True,
            text=True,
            check=False,
        )
        printed = f"{done.stdout}\n{done.stderr}"
        assert done.returncode == 0, f"{code}\n{printed}"
        return printed

    @property
    def environment(self) -> dict[str, str]:
        kept = {name: os.environ[name] for name in ("HOME", "LANG") if name in os.environ}
        kept |= {name: value for name, value in os.environ.items() if name.startswith("PIP_")}
        binaries = [str(self.folder / "venv/bin"), os.environ["PATH"]]
        return kept | {"PATH": os.pathsep.join(binaries), "CHECKOUT": str(self.checkout)}

    def serve(self) -> None:
        """Start the server and wait until it answers."""
        self._server = subprocess.Popen(
            ["python", "manage.py", "runserver", "--noreload", self.port],
            executable=self.folder / "venv/bin/python",
            cwd=self.folder,
            env=self.environment | {"PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        printed = b""
        assert self._server.stdout is not None
        for line in self._server.stdout:
            printed += line
            if b"Quit the server" in line:
                break
        else:
            raise AssertionError(printed.decode())
        self._wait_for_the_port()

    def _wait_for_the_port(self) -> None:
        while self._server is not None and self._server.poll() is None:
            try:
                socket.create_connection(("127.0.0.1", int(self.port)), 5).close()
            except ConnectionRefusedError:
                continue
            return
        raise AssertionError("the server died")

    def stop(self) -> None:
        server, self._server = self._server, None
        if server is not None:
            server.terminate()  # Ctrl-C is ignored by what a shell runs in the background
            server.communicate(timeout=30)
