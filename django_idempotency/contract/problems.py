"""The errors that callers can meet under a policy, and what they do about each."""

from collections.abc import Iterator
from datetime import timedelta

from ..conf.policy import Anonymous, OnOutage, Policy
from ..protocol import problems
from ..protocol.problems import Code, Problem
from . import words

ADVICE = {
    Code.KEY_MISSING: "send a key: a new one per operation, the same one with every retry",
    Code.KEY_INVALID: "correct the key",
    Code.KEY_REUSED: "use a new key for the new operation, or send the original request again",
    Code.IN_FLIGHT: "wait `Retry-After` seconds, then send the same again; back off",
    Code.RESPONSE_UNAVAILABLE: "read the result elsewhere; it is done and does not run again",
    Code.ANONYMOUS: "authenticate, or leave the header out",
    Code.CALLER_REQUIRED: "authenticate, then send the same again",
    Code.REQUEST_TOO_LARGE: "send less at once, each part with a key of its own",
    Code.TOO_MANY_KEYS: "wait `Retry-After` seconds, then send the same again",
    Code.KEY_EXPIRED: "look up what became of the operation; use a new key for a new one",
    Code.STORE_BUSY: "wait `Retry-After` seconds, then send the same again",
    Code.STORE_UNAVAILABLE: "wait `Retry-After` seconds, then send the same again",
    Code.OUTCOME_UNKNOWN: "wait `Retry-After` seconds, then send the same again; "
    "do not use a new key",
    Code.OPERATION_REFUSED: "look up what became of the operation; use a new key for a new one",
}
"""What a client does about each error."""

MEANING = {
    Code.KEY_MISSING: "the operation requires a key, and there is none",
    Code.KEY_INVALID: "the header is not one key: empty, too long, sent twice, or spelled wrongly",
    Code.KEY_REUSED: "the key first came with another request",
    Code.IN_FLIGHT: "the first request with this key is still running",
    Code.RESPONSE_UNAVAILABLE: "the operation was completed, but its response was not kept",
    Code.ANONYMOUS: "a key came without credentials",
    Code.CALLER_REQUIRED: "the operation requires a key, and the request came without credentials",
    Code.REQUEST_TOO_LARGE: "the body is larger than this API accepts with a key",
    Code.TOO_MANY_KEYS: "the caller has used as many new keys within this hour as are granted",
    Code.KEY_EXPIRED: "the key was used before, and its response is no longer kept",
    Code.STORE_BUSY: "the key could not be recorded; nothing has run",
    Code.STORE_UNAVAILABLE: "keys cannot be recorded at the moment; nothing has run",
    Code.OUTCOME_UNKNOWN: "the first request was interrupted, and it is not yet known what it did",
    Code.OPERATION_REFUSED: "the first request was interrupted, and will not be executed again",
}
"""What has happened."""


def problems_of(policy: Policy) -> list[Problem]:
    """Return one example of every error that can be met under a policy."""
    return [*_of_the_request(policy), *_of_the_key(policy)]


def _of_the_request(policy: Policy) -> Iterator[Problem]:
    """What is wrong with a request, whatever is known about its key."""
    header = policy.header
    if policy.required:
        yield problems.key_missing(header)
    yield problems.key_invalid(header, words.key(policy))
    if policy.anonymous is Anonymous.REFUSE:
        yield problems.anonymous_refused(header)
    elif policy.required and policy.anonymous is Anonymous.IGNORE:
        yield problems.caller_required(header)
    if policy.max_request_size is not None:
        yield problems.request_too_large(header, policy.max_request_size)
    if policy.new_keys_per_hour is not None:
        yield problems.too_many_keys(header, 3600)


def _of_the_key(policy: Policy) -> Iterator[Problem]:
    header = policy.header
    if policy.tombstone > timedelta(0):
        yield problems.key_expired(header, policy.expired_status)
    yield problems.key_reused(header, policy.mismatch_status)
    yield problems.in_flight(policy.in_flight_status, policy.retry_after)
    yield problems.response_unavailable(201, "too large")
    if words.may_be_unknown(policy):
        yield problems.outcome_unknown()
    if not policy.atomic:
        yield problems.operation_refused()
    if policy.outage is OnOutage.CLOSED:
        yield problems.store_unavailable(policy.retry_after)
    yield problems.store_busy(policy.retry_after)
