"""Decisions of operators about interrupted operations, under the settings of the project."""

import json

from ..conf.settings import configuration
from ..operations.resolution import ManualResolution, ResolutionOutcome
from ..protocol.record import StoredResponse

JSON = "application/json"


def resolve(
    using: str, record_id: int, decision: str, answer: StoredResponse | None = None
) -> ResolutionOutcome:
    """Carry out a decision about an interrupted operation.

    :param using: alias of the database
    :param decision: ``rerun``, ``answer`` or ``refuse``
    :param answer: the response to ``answer`` with; encrypted if the settings say so today
    :raises NoKeys: if the answer must be encrypted and there is no key
    """
    settings = configuration()
    resolution = ManualResolution(using, settings.keyring, settings.policy.codec)
    if decision == "rerun":
        return resolution.rerun(record_id)
    retention = settings.policy.retention
    if decision == "refuse":
        return resolution.refuse(record_id, retention)
    if answer is None:
        raise ValueError(f"No decision is called {decision!r}, or its answer is missing")
    return resolution.answer(record_id, answer, retention)


def answer_of(status: int, body: bytes, content_type: str = JSON) -> StoredResponse:
    """Return the response that an operator gives; one without a body has no ``Content-Type``."""
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
    """Refuse ``NaN`` and ``Infinity``, which Python would accept."""
    raise ValueError(name)
