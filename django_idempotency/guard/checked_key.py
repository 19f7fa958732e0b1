"""The key that the policy's function has found in a request."""

from ..conf.policy import Policy
from ..http.problem_json import problem_of
from ..protocol.keys import InvalidKey, key_of
from ..protocol.problems import Code, Problem


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
