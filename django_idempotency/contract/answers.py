"""Responses that people give to interrupted operations, as their views would have them stored."""

from urllib.parse import unquote

from ..codecs import encode
from ..conf import configuration
from ..models import IdempotencyRecord
from ..protocol.record import StoredResponse
from .endpoints import policy_behind


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
