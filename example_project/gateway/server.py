"""The gateway's end: it counts, and can lose answers."""

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


class Gateway(ThreadingHTTPServer):
    """Keeps charges in memory: one per key, however often it is asked.

    :ivar charges: by key
    :ivar lost: so many answers of the next charges get lost on their way
    """

    daemon_threads = True

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), Handler)
        self.charges: dict[str, dict[str, Any]] = {}
        self.lost = 0
        self.lock = threading.Lock()

    def charge(self, key: str, amount: int) -> dict[str, Any]:
        with self.lock:
            new = {"id": f"ch_{len(self.charges) + 1}", "amount": amount}
            return self.charges.setdefault(key, new)

    def loses_this(self) -> bool:
        with self.lock:
            self.lost, lost = max(0, self.lost - 1), self.lost > 0
            return lost


class Handler(BaseHTTPRequestHandler):
    """``POST /charges``, ``GET /charges`` and ``/charges/{key}``, ``POST /accidents``."""

    server: Gateway
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        key = self.path.removeprefix("/charges").lstrip("/")
        if not key:
            self._answer(200, list(self.server.charges.values()))
        elif key in self.server.charges:
            self._answer(200, self.server.charges[key])
        else:
            self._answer(404, None)

    def do_POST(self) -> None:
        wanted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        if self.path == "/accidents":
            self.server.lost = wanted["lost"]
            self._answer(200, wanted)
            return
        charge = self.server.charge(self.headers["Idempotency-Key"], wanted["amount"])
        if self.server.loses_this():
            self.close_connection = True
            return
        self._answer(201, charge)

    def _answer(self, status: int, document: Any) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *arguments: Any) -> None:
        """Nobody reads it."""
