"""Duplicates that wait for the first one."""

import time

from tests.conftest import in_thread
from tests.support.sessions import lock_waits


def until_somebody_waits() -> None:
    """Ask the database whether a session waits for a lock on a record."""

    def ask() -> None:
        deadline = time.monotonic() + 60
        while not lock_waits():
            assert time.monotonic() < deadline, "nobody waits"
            time.sleep(0.01)

    in_thread(ask).result()
