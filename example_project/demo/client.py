"""A small HTTP client."""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.message import Message
from http.client import HTTPConnection
from typing import Any
from urllib.parse import urlencode

Address = tuple[str, int]

TIMEOUT = 60
"""Seconds without an answer after which a server is taken for broken."""


@dataclass(frozen=True)
class Answer:
    """What the server sent."""

    status: int
    headers: Message
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)


@dataclass(frozen=True)
class Client:
    """Sends requests with the headers that say who it is."""

    address: Address
    headers: Mapping[str, str] = field(default_factory=dict)

    def get(self, path: str) -> Answer:
        return self.send("GET", path)

    def post(self, path: str, data: object, key: str | None = None) -> Answer:
        return self.send("POST", path, data, key)

    def send(self, method: str, path: str, data: object = None, key: str | None = None) -> Answer:
        """Send JSON, or a form if the client's headers say so, and wait for the answer."""
        connection = self.begin(method, path, data, key)
        try:
            return self.end(connection)
        finally:
            connection.close()

    def begin(
        self, method: str, path: str, data: object = None, key: str | None = None
    ) -> HTTPConnection:
        """Send a request and return the connection that its answer will come from."""
        headers = {"Content-Type": "application/json", **self.headers}
        if key is not None:
            headers["Idempotency-Key"] = key
        connection = HTTPConnection(*self.address, timeout=TIMEOUT)
        connection.request(method, path, None if data is None else self._encoded(data), headers)
        return connection

    def _encoded(self, data: Any) -> bytes:
        form = "form" in self.headers.get("Content-Type", "")
        return (urlencode(data) if form else json.dumps(data)).encode()

    def end(self, connection: HTTPConnection) -> Answer:
        response = connection.getresponse()
        return Answer(response.status, response.headers, response.read())
