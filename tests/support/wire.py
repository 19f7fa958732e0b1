"""The wire between a client and a server, which counts round trips and can be made long.

It is a small proxy on loopback: in a thread of the process that counts, or a process of its own::

    python -m tests.support.wire 127.0.0.1:5432 --delay 0.00025

It reads no protocol, so it serves any database and Redis; TLS is off on loopback. It carries
statements, not floods: what one side does not read holds the other one up.
"""

import argparse
import ctypes
import selectors
import socket
import sys
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from time import monotonic
from types import TracebackType

from django.db import connections

from django_idempotency.stores.database import connections as own_connections

_CHUNK = 1 << 16
_PR_SET_TIMERSLACK = 29


class Direction:
    """What one side has sent, and the other has not got yet.

    :ivar is_open: there may be more
    """

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        self.source, self.target = source, target
        self.pending: deque[tuple[float, bytes]] = deque()
        self.is_open = True


class Connection:
    """One client, its own connection to the server, and how often it has waited for an answer.

    :ivar round_trips: how often the direction has changed to the client. What a client sends before
        it has the answer to what it sent before travels with it.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        for each in (client, server):
            each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.there = Direction(client, server)
        self.back = Direction(server, client)
        self.round_trips = 0
        self._is_asked = False

    def receive(self, direction: Direction, due: float) -> None:
        try:
            data = direction.source.recv(_CHUNK)
        except OSError:
            data = b""
        direction.is_open = bool(data)
        direction.pending.append((due, data))
        if direction is self.there and data:
            self._is_asked = True

    def deliver(self, direction: Direction, now: float) -> float | None:
        """Hand over what is due; return when the next is."""
        while direction.pending and direction.pending[0][0] <= now:
            _, data = direction.pending.popleft()
            if direction is self.back and data and self._is_asked:
                self._is_asked = False
                self.round_trips += 1
            with suppress(OSError):  # the other side has gone: its own end says so
                if data:
                    direction.target.sendall(data)
                else:
                    direction.target.shutdown(socket.SHUT_WR)
        return direction.pending[0][0] if direction.pending else None

    @property
    def is_over(self) -> bool:
        return not any(way.is_open or way.pending for way in (self.there, self.back))

    def close(self) -> None:
        self.there.source.close()
        self.back.source.close()


class Wire:
    """A proxy to a server, as a context manager: its thread runs inside.

    :param server: host and port
    :param delay: seconds that everything takes in each direction
    :ivar port: where clients connect, on loopback
    :ivar connections: all that there were
    """

    def __init__(self, server: tuple[str, int], delay: float = 0.0) -> None:
        self._server, self._delay = server, delay
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.SelectSelector()  # epoll sleeps for whole milliseconds
        self._open: list[Connection] = []
        self._thread = threading.Thread(target=self.run, name="wire", daemon=True)
        self.port: int = self._listener.getsockname()[1]
        self.connections: list[Connection] = []

    @property
    def round_trips(self) -> int:
        """Of all connections, since the beginning."""
        return sum(each.round_trips for each in self.connections)

    @contextmanager
    def counted(self) -> Iterator["Trips"]:
        """Count the round trips that are made inside."""
        trips, before = Trips(), {id(each): each.round_trips for each in self.connections}
        yield trips
        trips.each = [each.round_trips - before.get(id(each), 0) for each in list(self.connections)]

    def __enter__(self) -> "Wire":
        self._thread.start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._waker.close()
        self._thread.join()

    def run(self) -> None:
        """Serve until the end."""
        if self._delay and sys.platform == "linux":
            # By default the kernel lets a thread sleep 50 microseconds longer than it asks for.
            ctypes.CDLL(None).prctl(_PR_SET_TIMERSLACK, 1, 0, 0, 0)
        self._selector.register(self._listener, selectors.EVENT_READ, self._accept)
        self._selector.register(self._woken, selectors.EVENT_READ)
        try:
            while self._serve():
                pass
        finally:
            for connection in self._open:
                connection.close()
            for each in (self._listener, self._woken, self._selector):
                each.close()

    def _serve(self) -> bool:
        """Wait for the next event, whatever it is; return whether there will be more."""
        due = self._deliver()
        wait = None if due is None else max(0.0, due - monotonic())
        for key, _ in self._selector.select(wait):
            if key.data is None:
                return False
            key.data()
        return True

    def _deliver(self) -> float | None:
        """Hand over what is due; return when the next is."""
        now, dues = monotonic(), []
        for connection in self._open:
            for direction in (connection.there, connection.back):
                due = connection.deliver(direction, now)
                if due is not None:
                    dues.append(due)
        for connection in [each for each in self._open if each.is_over]:
            self._open.remove(connection)
            connection.close()
        return min(dues, default=None)

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()  # as a server that is not there
            return
        connection = Connection(client, server)
        self._open.append(connection)
        self.connections.append(connection)
        for direction in (connection.there, connection.back):
            receive = partial(self._receive, connection, direction)
            self._selector.register(direction.source, selectors.EVENT_READ, receive)

    def _receive(self, connection: Connection, direction: Direction) -> None:
        connection.receive(direction, monotonic() + self._delay)
        if not direction.is_open:
            self._selector.unregister(direction.source)


class Trips:
    """Round trips between two moments.

    :ivar each: of every connection
    """

    def __init__(self) -> None:
        self.each: list[int] = []

    @property
    def total(self) -> int:
        return sum(self.each)


@contextmanager
def wire_to_database(using: str = "default", delay: float = 0.0) -> Iterator[Wire]:
    """Put a wire between this process and a database, also for claims on connections of their own.

    Connections are made anew inside, and again after it. Other threads must have none.
    """
    settings = connections.settings[using]
    with Wire((settings["HOST"], int(settings["PORT"])), delay) as wire:
        changed = {"HOST": "127.0.0.1", "PORT": str(wire.port)}
        if settings["ENGINE"].endswith("postgresql"):
            plain = {"sslmode": "disable", "gssencmode": "disable"}
            changed["OPTIONS"] = {**settings["OPTIONS"], **plain}
        before = {name: settings[name] for name in changed}
        _disconnect(using)
        settings.update(changed)
        try:
            yield wire
        finally:
            _disconnect(using)
            settings.update(before)


def _disconnect(using: str) -> None:
    connections[using].close()
    for pool in own_connections._pools.values():
        for each in pool._idle:
            each.close()
        pool._idle.clear()


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m tests.support.wire", description=__doc__)
    parser.add_argument("server", help="host:port")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds in each direction")
    options = parser.parse_args()
    host, _, port = options.server.rpartition(":")
    wire = Wire((host, int(port)), options.delay)
    print(wire.port, flush=True)
    wire.run()


if __name__ == "__main__":
    main()
