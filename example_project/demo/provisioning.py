"""A provisioner that can be held or told to refuse: ``EXAMPLE_PROVISIONER``.

Held, it says which process it runs in, and stays there. At that point the order and the machine
are written, and nothing is answered.
"""

import os
import time
from pathlib import Path
from typing import Any

POLL = 0.02
"""Seconds between two looks."""


class Hold:
    """The demo's end. Inside the ``with`` block every provisioning stops and waits.

    :param folder: the example's folder
    """

    def __init__(self, folder: Path) -> None:
        self._held = folder / "held"
        self._worker = folder / "worker"

    def __enter__(self) -> "Hold":
        self._worker.unlink(missing_ok=True)
        self._held.touch()
        return self

    def __exit__(self, *error: object) -> None:
        self.release()

    def release(self) -> None:
        self._held.unlink(missing_ok=True)

    def worker(self, timeout: float = 60) -> tuple[int, int]:
        """Wait until a worker is held; return its process id and the row that it has written.

        :raises TimeoutError: after ``timeout`` seconds
        """
        end = time.monotonic() + timeout
        while not self._worker.exists():
            if time.monotonic() > end:
                raise TimeoutError("No request has reached the provisioner.")
            time.sleep(POLL)
        process, row = self._worker.read_text().split()
        return int(process), int(row)

    def stay(self, row: int) -> None:
        """The server's end: wait here if held."""
        if not self._held.exists():
            return
        draft = self._worker.with_suffix(f".{os.getpid()}")
        draft.write_text(f"{os.getpid()} {row}")
        draft.replace(self._worker)
        while self._held.exists():
            time.sleep(POLL)


class Refusal:
    """The demo's end. Inside the ``with`` block every provisioning is refused.

    :param folder: the example's folder
    :param status: HTTP status of the refusal
    """

    def __init__(self, folder: Path, status: int) -> None:
        self._refused = refusals(folder)
        self._status = status

    def __enter__(self) -> None:
        self._refused.write_text(str(self._status))

    def __exit__(self, *error: object) -> None:
        self._refused.unlink()


def refusals(folder: Path) -> Path:
    """The file with the status of refusals; there is none if nothing is refused."""
    return folder / "refused"


def place(row: Any) -> None:
    """The server's end. Prepare the row as usual, unless refused, and not while held."""
    from cloud import provisioning

    folder = Path(os.environ["DEMO_FOLDER"])
    Hold(folder).stay(row.pk)
    refused = refusals(folder)
    if refused.exists():
        raise provisioning.Refused(int(refused.read_text()))
    provisioning.place(row)
