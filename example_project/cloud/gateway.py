"""The payment gateway, as its client sees it."""

import json
from http.client import HTTPConnection, HTTPException
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings

TIMEOUT = 10
"""Seconds."""


class NoAnswer(Exception):
    """Nobody can tell whether the gateway has done what it was asked."""


def charge(amount: int, key: str) -> str:
    """Charge once per key; return the charge's id."""
    answer = _send("POST", "/charges", {"amount": amount}, key)
    return str(answer["id"])


def find(key: str) -> dict[str, Any] | None:
    """Return the charge under a key, if there is one."""
    found: dict[str, Any] | None = _send("GET", f"/charges/{key}")
    return found


def _send(method: str, path: str, data: object = None, key: str = "") -> Any:
    connection = HTTPConnection(urlsplit(settings.CLOUD_GATEWAY).netloc, timeout=TIMEOUT)
    try:
        connection.request(method, path, json.dumps(data), {"Idempotency-Key": key})
        return json.loads(connection.getresponse().read())
    except (HTTPException, OSError) as error:
        raise NoAnswer(str(error)) from error
    finally:
        connection.close()
