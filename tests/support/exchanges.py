"""Requests to Django's ASGI application as a server makes them: a task and a thread for each."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from django.core.handlers.asgi import ASGIHandler
from django.db import connections

Script = Callable[["Server"], Awaitable[Any]]


class Exchange:
    """One request and its answer; the client can go away meanwhile."""

    def __init__(self, application: ASGIHandler, path: str, headers: dict[str, str], body: bytes):
        self._gone = asyncio.Event()
        self._request = [{"type": "http.request", "body": body, "more_body": False}]
        self._sent: list[dict[str, Any]] = []
        scope = {
            "type": "http",
            "method": "POST",
            "path": path,
            "query_string": b"",
            "headers": [(name.encode(), value.encode()) for name, value in headers.items()],
        }
        self._task = asyncio.create_task(application(scope, self._receive, self._send))

    async def _receive(self) -> Any:
        if self._request:
            return self._request.pop()
        await self._gone.wait()
        return {"type": "http.disconnect"}

    async def _send(self, message: Any) -> None:
        self._sent.append(message)

    def disconnect(self) -> None:
        """The client goes away: the server says so to the application."""
        self._gone.set()

    def cancel(self) -> None:
        """The server ends the application itself, as at the end of a graceful shutdown."""
        self._task.cancel()

    async def end(self) -> "Exchange":
        with suppress(asyncio.CancelledError):
            await asyncio.wait_for(asyncio.shield(self._task), 60)
        return self

    @property
    def status(self) -> int | None:
        """``None`` if no answer was sent."""
        return self._sent[0]["status"] if self._sent else None

    @property
    def body(self) -> bytes:
        return b"".join(message.get("body", b"") for message in self._sent[1:])

    @property
    def replayed(self) -> bool:
        return (b"Idempotency-Replayed", b"true") in self._sent[0]["headers"]


class Server:
    """The application, and clients that carry a token."""

    def __init__(self, token: str) -> None:
        self._application = ASGIHandler()
        self._token = token

    def post(
        self,
        path: str,
        data: Any = None,
        key: str | None = "k-1",
        header: str = "idempotency-key",
    ) -> Exchange:
        headers = {"authorization": f"Token {self._token}", "content-type": "application/json"}
        if key is not None:
            headers[header] = key
        body = json.dumps(data or {}).encode()
        headers["content-length"] = str(len(body))
        return Exchange(self._application, path, headers, body)


def serve(token: str, script: Script) -> Any:
    """Run what clients do against a server; every request has a thread and connections of its own.

    As in a process of its own: connections end with their request.
    """

    async def run() -> Any:
        return await script(Server(token))

    with suppress(KeyError):
        connections["default"].close_if_unusable_or_obsolete()
    return asyncio.run(run())
