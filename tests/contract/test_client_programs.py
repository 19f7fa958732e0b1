"""The programs of ``docs/how-to/clients.md`` buy in the example, over a connection that breaks."""

import json
import os
import subprocess
import sys
import threading
from collections.abc import Iterator
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tests.__main__ import why_left_out
from tests.docs.pages import DOCS, blocks, text_of
from tests.support.example import WarmExample

pytestmark = [
    pytest.mark.processes,
    pytest.mark.once,
    pytest.mark.skipif(
        bool(why_left_out("programs of clients")), reason=why_left_out("programs of clients")
    ),
]

PAGE = text_of(DOCS / "how-to/clients.md")
ORDERS = "/api/billing/v1/orders"
BODY = {"item": "small"}
CANNED = {"busy": (503, True), "in flight": (409, True), "reused": (422, False)}

PROGRAMS = [
    pytest.param((sys.executable, "buy.py", *blocks(PAGE, "python")), id="httpx"),
    pytest.param(("node", "buy.mjs", *blocks(PAGE, "js")), id="fetch"),
]
every_program = pytest.mark.parametrize("program", PROGRAMS)


class FaultyProxy(ThreadingHTTPServer):
    """Answers as the script says; after its end the example's answers pass.

    ``lost``: the example has answered, the client gets nothing.
    """

    def __init__(self, address: Any) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.example = address
        self.script: list[str] = []
        self.keys: list[str] = []
        threading.Thread(target=self.serve_forever, daemon=True).start()


class Handler(BaseHTTPRequestHandler):
    server: FaultyProxy

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.server.keys.append(self.headers["Idempotency-Key"])
        fault = self.server.script.pop(0) if self.server.script else ""
        if fault in CANNED:
            status, retryable = CANNED[fault]
            self.answer(status, json.dumps({"retryable": retryable}).encode())
            return
        upstream = HTTPConnection(*self.server.example)
        names = ("Authorization", "Content-Type", "Idempotency-Key")
        upstream.request("POST", self.path, body, {name: self.headers[name] for name in names})
        response = upstream.getresponse()
        content = response.read()
        upstream.close()
        if fault != "lost":
            self.answer(response.status, content)

    def answer(self, status: int, content: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Retry-After", "0")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


@pytest.fixture(scope="module")
def example(tmp_path_factory: Any) -> Iterator[WarmExample]:
    with WarmExample(tmp_path_factory.mktemp("example")) as running:
        yield running


@pytest.fixture(scope="module")
def token(example: WarmExample) -> str:
    return str(example.accounts("alice")[0]["token"])


@pytest.fixture
def proxy(example: WarmExample) -> Iterator[FaultyProxy]:
    running = FaultyProxy(example.address)
    yield running
    running.shutdown()
    running.server_close()


def run(program: tuple[str, ...], proxy: FaultyProxy, token: str, folder: Path) -> str:
    """Run a program to its end; return the status it printed."""
    command, name, code = program
    (folder / name).write_text(code)
    environment = os.environ | {
        "API_URL": f"http://127.0.0.1:{proxy.server_port}{ORDERS}",
        "API_TOKEN": token,
        "BODY": json.dumps(BODY),
        "NO_PROXY": "127.0.0.1",
    }
    done = subprocess.run(
        [command, name], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.split()[0]


def orders(example: WarmExample, token: str) -> int:
    return len(example.bearer(token).get(ORDERS).json)


@every_program
@pytest.mark.parametrize("faults", [["lost"], ["busy", "lost", "in flight"]], ids=", ".join)
def test_it_buys_once(
    program: Any, faults: Any, proxy: Any, example: Any, token: str, tmp_path: Path
) -> None:
    """I1, seen by a client: whatever is lost, there is one order, and one key."""
    before = orders(example, token)
    proxy.script = list(faults)
    assert run(program, proxy, token, tmp_path) == "201"
    assert orders(example, token) == before + 1
    assert (len(proxy.keys), len(set(proxy.keys))) == (len(faults) + 1, 1)


@every_program
def test_a_restart_continues(
    program: Any, proxy: Any, example: Any, token: str, tmp_path: Path
) -> None:
    before = orders(example, token)
    for _ in range(2):
        assert run(program, proxy, token, tmp_path) == "201"
    assert len(set(proxy.keys)) == 1
    assert orders(example, token) == before + 1


@every_program
def test_it_gives_up_on_422(program: Any, proxy: Any, token: str, tmp_path: Path) -> None:
    proxy.script = ["reused"]
    assert run(program, proxy, token, tmp_path) == "422"
    assert len(proxy.keys) == 1


@every_program
def test_it_gives_up_if_the_error_says_so(
    program: Any, proxy: Any, token: str, tmp_path: Path
) -> None:
    """The example answers 409, and ``"retryable": false``: the key has another body."""
    run(program, proxy, token, tmp_path)
    kept = json.loads((tmp_path / "operation.json").read_text())
    (tmp_path / "operation.json").write_text(json.dumps(kept | {"body": '{"item": "large"}'}))
    assert run(program, proxy, token, tmp_path) == "409"
    assert len(proxy.keys) == 2
