"""Responses that people give to interrupted operations."""

import json

from ..conf.settings import configuration
from ..operations.resolution import ManualResolution
from ..protocol.record import StoredResponse

JSON = "application/json"


def desk_of(using: str) -> ManualResolution:
    """Return the desk at which answers are encrypted if the settings say so by now.

    :param using: alias of the database
    """
    settings = configuration()
    return ManualResolution(using, settings.keyring, settings.policy.codec)


def answer_of(status: int, body: bytes, content_type: str = JSON) -> StoredResponse:
    """Return the response that somebody gives; one without a body has no ``Content-Type``."""
    headers = (("Content-Type", content_type),) if body else ()
    return StoredResponse(status, headers, body)


def is_json_text(text: str) -> bool:
    """Whether clients can parse a body that is sent as JSON: RFC 8259, or nothing at all."""
    try:
        json.loads(text or "null", parse_constant=_not_json)
    except (ValueError, RecursionError):
        return False
    return True


def _not_json(name: str) -> None:
    """``NaN`` and ``Infinity``, which Python would accept."""
    raise ValueError(name)
