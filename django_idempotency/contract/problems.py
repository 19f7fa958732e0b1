"""The errors that callers can meet under a policy."""

from datetime import timedelta

from ..conf.policy import Anonymous, OnOutage, Policy
from ..http.problems import problem_of
from ..protocol.problems import Code, Problem
from . import words


def problems_of(policy: Policy) -> list[Problem]:
    """Return one example of every error that can be met under a policy."""
    possible = {
        # About the request, whatever is known about its key.
        Code.KEY_MISSING: policy.required,
        Code.KEY_INVALID: True,
        Code.ANONYMOUS: policy.anonymous is Anonymous.REFUSE,
        Code.CALLER_REQUIRED: policy.required and policy.anonymous is Anonymous.IGNORE,
        Code.REQUEST_TOO_LARGE: policy.max_request_size is not None,
        Code.TOO_MANY_KEYS: policy.new_keys_per_hour is not None,
        # About what is known under the key.
        Code.KEY_EXPIRED: policy.tombstone > timedelta(0),
        Code.KEY_REUSED: True,
        Code.IN_FLIGHT: True,
        Code.RESPONSE_UNAVAILABLE: True,
        Code.OUTCOME_UNKNOWN: words.may_be_unknown(policy),
        Code.OPERATION_REFUSED: not policy.atomic,
        Code.STORE_UNAVAILABLE: policy.outage is OnOutage.CLOSED,
        Code.STORE_BUSY: True,
    }
    return [_example(code, policy) for code, can_be_met in possible.items() if can_be_met]


def _example(code: Code, policy: Policy) -> Problem:
    if code is Code.RESPONSE_UNAVAILABLE:
        return problem_of(code, policy, reason="too large", original_status=201)
    return problem_of(code, policy, reason=words.key(policy))
