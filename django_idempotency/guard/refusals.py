"""Why the guard refuses a request: its key is wrong, or the record under it stands in the way."""

from typing import assert_never

from ..conf.policy import Policy
from ..http.problem_json import problem_of
from ..operations.base import InFlight, OutcomeUnknown, Unavailable
from ..protocol.keys import InvalidKey, key_of
from ..protocol.problems import Code, Problem
from ..protocol.record import Mismatch, Tombstone

Obstacle = Mismatch | Tombstone | InFlight | OutcomeUnknown | Unavailable
"""Why the view does not run, and nothing replays."""


def code_of(obstacle: Obstacle) -> Code:
    """Return the error that a client gets."""
    match obstacle:
        case Mismatch():
            return Code.KEY_REUSED
        case Tombstone():
            return Code.KEY_EXPIRED
        case InFlight():
            return Code.IN_FLIGHT
        case OutcomeUnknown():
            return Code.OUTCOME_UNKNOWN
        case Unavailable():
            return Code.STORE_BUSY
    assert_never(obstacle)


def checked_key(policy: Policy, found: object, in_header: str) -> str | Problem:
    """Return the key of a request: the one that was found, or else the header's.

    :param found: what the policy's function has returned
    :param in_header: the key in the header; empty if there is none
    :return: empty if the request has no key, and needs none
    """
    if found is None:
        is_missing = policy.required and not in_header
        return problem_of(Code.KEY_MISSING, policy) if is_missing else in_header
    try:
        key = key_of(found, policy.key_format, policy.key_max_length, policy.key_pattern)
    except InvalidKey as error:
        return problem_of(Code.KEY_INVALID, policy, reason=str(error))
    return problem_of(Code.KEY_AMBIGUOUS, policy) if in_header not in {"", key} else key
