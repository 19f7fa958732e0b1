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

_CHUNK = 1 << 16
_PR_SET_TIMERSLACK = 29


class Direction:
    """One way between the two sides.

    :ivar is_open: there may be more to come
    """

    def __init__(self, source: socket.socket, target: socket.socket) -> None:
        source.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.source, self.target = source, target
        self.is_open = True


class Connection:
    """One client, its own connection to the server, and how often it has waited for an answer.

    :ivar round_trips: how often the direction has changed to the client. What a client sends before
        it has the answer to what it sent before travels with it.
    """

    def __init__(self, client: socket.socket, server: socket.socket) -> None:
        self.there = Direction(client, server)
        self.back = Direction(server, client)
        self.round_trips = 0
        self._is_asked = False

    def receive(self, direction: Direction) -> bytes:
        """Return what has arrived; nothing at the end."""
        try:
            data = direction.source.recv(_CHUNK)
        except OSError:
            data = b""
        if direction is self.there and data:
            self._is_asked = True
        return data

    def deliver(self, direction: Direction, data: bytes) -> None:
        if direction is self.back and data and self._is_asked:
            self._is_asked = False
            self.round_trips += 1
        with suppress(OSError):  # the other side has gone: its own end says so
            if data:
                direction.target.sendall(data)
            else:
                direction.is_open = False
                direction.target.shutdown(socket.SHUT_WR)

    def close_if_over(self) -> None:
        if not (self.there.is_open or self.back.is_open):
            self.close()

    def close(self) -> None:
        self.there.source.close()
        self.back.source.close()


class Wire:
    """A proxy to a server, as a context manager: its thread runs inside.

    :param server: host and port
    :param delay: seconds that everything takes in each direction
    :param port: where clients connect; 0 for a free one
    :ivar port: where clients connect, on loopback
    :ivar connections: all that there were
    """

    def __init__(self, server: tuple[str, int], delay: float = 0.0, port: int = 0) -> None:
        self._server, self._delay = server, delay
        self._listener = socket.create_server(("127.0.0.1", port))
        self._waker, self._woken = socket.socketpair()
        self._selector = selectors.SelectSelector()  # epoll sleeps for whole milliseconds
        # Everything takes the same time, so what was sent first arrives first.
        self._under_way: deque[tuple[float, Connection, Direction, bytes]] = deque()
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
            for connection in self.connections:
                connection.close()
            for each in (self._listener, self._woken, self._selector):
                each.close()

    def _serve(self) -> bool:
        """Wait for the next event, whatever it is; return whether there will be more."""
        wait = None
        if self._under_way:
            wait = max(0.0, self._under_way[0][0] - monotonic())
        for key, _ in self._selector.select(wait):
            if key.data is None:
                return False
            key.data()
        while self._under_way and self._under_way[0][0] <= monotonic():
            _, connection, direction, data = self._under_way.popleft()
            connection.deliver(direction, data)
            connection.close_if_over()
        return True

    def _accept(self) -> None:
        client, _ = self._listener.accept()
        try:
            server = socket.create_connection(self._server)
        except OSError:
            client.close()  # as a server that is not there
            return
        connection = Connection(client, server)
        self.connections.append(connection)
        for direction in (connection.there, connection.back):
            receive = partial(self._receive, connection, direction)
            self._selector.register(direction.source, selectors.EVENT_READ, receive)

    def _receive(self, connection: Connection, direction: Direction) -> None:
        data = connection.receive(direction)
        if not data:
            self._selector.unregister(direction.source)
        self._under_way.append((monotonic() + self._delay, connection, direction, data))


class Trips:
    """Round trips between two moments.

    :ivar each: of every connection
    """

    def __init__(self) -> None:
        self.each: list[int] = []

    @property
    def total(self) -> int:
        return sum(self.each)


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
