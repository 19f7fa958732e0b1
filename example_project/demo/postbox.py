"""A mail server that can be down: ``EXAMPLE_EMAIL_BACKEND``."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from uuid import uuid4

from .rehearsal import reached

BEFORE, AFTER = "before the receipt is sent", "after the receipt is sent"
"""Points where a worker can die."""


class Postbox:
    """The demo's end. Inside the ``with`` block the mail server is down.

    :param folder: the example's folder
    """

    def __init__(self, folder: Path) -> None:
        self._down = folder / "mail-server-down"
        self._mails = folder / "mails"

    def __enter__(self) -> None:
        self._down.touch()

    def __exit__(self, *error: object) -> None:
        self._down.unlink()

    def mails(self, order: int | str, kind: str = "Receipt") -> list[str]:
        """Return the Message-IDs of the mails of a kind that were sent for an order."""
        found = (each.read_text().splitlines() for each in self._mails.glob("*.txt"))
        return [message_id for subject, message_id in found if subject == f"{kind} {order}"]

    def deliver(self, subject: str, message_id: str) -> None:
        """The server's end."""
        if self._down.exists():
            raise ConnectionRefusedError("The mail server is down.")
        self._mails.mkdir(exist_ok=True)
        (self._mails / f"{uuid4()}.txt").write_text(f"{subject}\n{message_id}")


class Backend:
    """The server's end, as Django's backend for mails."""

    def __init__(self, **options: Any) -> None:
        self._postbox = Postbox(Path(os.environ["DEMO_FOLDER"]))

    def send_messages(self, messages: Sequence[Any]) -> int:
        for each in messages:
            reached(BEFORE)
            self._postbox.deliver(each.subject, each.extra_headers["Message-ID"])
            reached(AFTER)
        return len(messages)
