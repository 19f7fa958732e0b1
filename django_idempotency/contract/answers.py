"""Responses that people give to interrupted operations, as their views would have them stored."""

import json
from urllib.parse import unquote

from ..codecs import encode
from ..conf import configuration
from ..models import IdempotencyRecord
from ..protocol.record import StoredResponse
from .endpoints import policy_behind

JSON = "application/json"


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


def answered(using: str, record_id: int, response: StoredResponse) -> StoredResponse:
    """Return a response as the policy of the record's view has it stored: see ``codec``.

    A view that is not found any more (its URL changed) counts as one without options of its own.

    :param using: alias of the database
    :raises NoKeys: if it cannot be encrypted
    """
    records = IdempotencyRecord._base_manager.using(using).filter(pk=record_id)
    policy = configuration().policy
    for method, path in records.values_list("method", "path"):
        policy = policy_behind(method, unquote(path))
    return encode(response, policy.codec, configuration().keyring)
