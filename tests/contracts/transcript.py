"""Transcripts of a shell with ``curl``: read from the documentation, and made by running them."""

import json
import re
import subprocess
from dataclasses import dataclass
from email import message_from_string
from email.message import Message
from typing import Any

from example_project.demo.client import TIMEOUT
from example_project.demo.provisioning import Hold
from tests.contracts.shop import Shop

ADDRESS = "http://127.0.0.1:8000"
LATER = "# 60 minutes later"
STEP = re.compile(r"^\$ ((?:.*\\\n)*.*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
VARIES = {"id", "address", "transactionId", "instance"}
"""Members whose values are new in every answer."""


@dataclass(frozen=True)
class Printed:
    """An answer as ``curl -i`` prints it."""

    status: str
    headers: Message
    body: str

    @classmethod
    def read(cls, text: str) -> "Printed":
        head, _, body = text.replace("\r\n", "\n").partition("\n\n")
        status, _, headers = head.partition("\n")
        return cls(status, message_from_string(headers), body.strip())

    @property
    def json(self) -> Any:
        return json.loads(self.body)


Step = tuple[str, Printed | None]
"""A command and what it prints; ``None`` if that is nothing."""


def scenarios(page: str) -> dict[str, list[Step]]:
    """Return the steps of each section of a page."""
    sections = re.findall(r"^## (.*?)$(.*?)(?=^## |\Z)", page, re.DOTALL | re.MULTILINE)
    return {title: steps(text) for title, text in sections}


def steps(section: str) -> list[Step]:
    [block] = re.findall(r"^```console\n(.*?)^```$", section, re.DOTALL | re.MULTILINE)
    assert "".join(f"$ {command}\n{text}" for command, text in STEP.findall(block)) == block
    return [
        (command, Printed.read(text) if text else None) for command, text in STEP.findall(block)
    ]


class Shell:
    """Somebody with a new account who enters commands.

    What is sent to the background is held by the server until ``wait``.
    """

    def __init__(self, shop: Shop, environment: dict[str, str]) -> None:
        self._shop = shop
        self._environment = environment
        self._hold: Hold = shop.hold()
        self._background: subprocess.Popen[str] | None = None
        self._last_key = ""

    def __enter__(self) -> "Shell":
        return self

    def __exit__(self, *error: object) -> None:
        self._hold.release()
        if self._background is not None:
            self._background.communicate(timeout=TIMEOUT)

    def enter(self, command: str) -> Printed | None:
        variable = re.fullmatch(r"(\w+)=(\S+)", command)
        if variable is not None:
            self._environment[variable[1]] = variable[2]
        elif command == LATER:
            self._shop.expire(self._last_key)
        elif command == "wait":
            return self._wait()
        elif command.endswith(" &"):
            self._send_to_background(command.removesuffix(" &"))
        else:
            return self._printed(self._start(command))
        return None

    def _send_to_background(self, command: str) -> None:
        self._hold.__enter__()
        self._background = self._start(command)
        self._hold.worker()

    def _wait(self) -> Printed:
        assert self._background is not None
        self._hold.release()
        return self._printed(self._background)

    def _start(self, command: str) -> subprocess.Popen[str]:
        assert ADDRESS in command
        found = re.search(r"Idempotency-Key: ([\w-]+)", command)
        self._last_key = found[1] if found else ""
        return subprocess.Popen(
            ["bash", "-c", command.replace(ADDRESS, self._shop.example.url)],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )

    def _printed(self, process: subprocess.Popen[str]) -> Printed:
        text, _ = process.communicate(timeout=TIMEOUT)
        assert process.returncode == 0
        return Printed.read(text)


def alike(documented: Any, seen: Any) -> bool:
    """Whether two bodies differ in nothing but the values that are new each time."""
    if not isinstance(documented, dict):
        return bool(documented == seen)
    return documented.keys() == seen.keys() and all(
        type(value) is type(seen[name]) if name in VARIES else alike(value, seen[name])
        for name, value in documented.items()
    )
