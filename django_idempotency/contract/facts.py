"""A policy as plain data that may be published: no names of functions, hosts or databases."""

from datetime import timedelta
from enum import StrEnum
from typing import Any

from ..conf.described import key_source
from ..conf.policy import (
    POLICY_OPTIONS,
    Anonymous,
    Errors,
    OnInFlight,
    OnOutage,
    Policy,
    key_alone,
)
from ..guard.status import UNPROTECTED, Status
from ..http.problem_json import problem_of
from ..protocol.problems import Code, Problem
from . import words

Facts = dict[str, Any]

_STATUSES = ", ".join(f"`{status}`" for status in Status)


def facts(policy: Policy) -> Facts:
    """Return what a client may rely on. Times are in seconds."""
    waits = policy.in_flight is OnInFlight.WAIT
    return {
        **{
            setting.published: _plain(getattr(policy, name))
            for name, setting in POLICY_OPTIONS.items()
            if setting.published
        },
        "key": {
            "source": key_source(policy, "the header {}"),
            "format": str(policy.key_format),
            "max_length": policy.key_max_length,
            "pattern": None if policy.key_pattern is None else policy.key_pattern.pattern,
        },
        "scope_description": words.scope(policy),
        "per_tenant": policy.tenant is not None,
        "interrupted": "undone" if policy.atomic else str(policy.on_interrupted),
        "wait": policy.wait_timeout.total_seconds() if waits else 0,
        "response_headers": response_headers(policy),
        "problem_json": policy.errors is Errors.PROBLEM,
        "errors": [
            {
                "code": str(problem.code),
                "status": problem.status,
                "title": problem.title,
                "retryable": problem.retryable,
                "retry_after": problem.retry_after,
            }
            for problem in problems_of(policy)
        ],
    }


def _plain(value: object) -> object:
    if isinstance(value, timedelta):
        return value.total_seconds()
    if isinstance(value, frozenset):
        is_codes = all(isinstance(each, int) for each in value)
        return words.statuses(value) if is_codes else sorted(value)
    if isinstance(value, StrEnum):
        return str(value)
    return "custom" if callable(value) else value


def response_headers(policy: Policy) -> dict[str, str]:
    """Return the names of the response headers that a policy adds, each with its meaning."""
    named = {
        getattr(policy, name): setting.sent.format(policy=policy, statuses=_STATUSES)
        for name, setting in POLICY_OPTIONS.items()
        if setting.sent and (policy.store_body or name != "replay_header")
    }
    if policy.outage is OnOutage.OPEN:
        named[UNPROTECTED] = "The key could not be recorded: a retry may be executed again."
    return {name: meaning for name, meaning in named.items() if name is not None}


def problems_of(policy: Policy) -> list[Problem]:
    """Return one example of every error that can be met under a policy."""
    possible = {
        # About the request alone.
        Code.KEY_MISSING: policy.required,
        Code.KEY_INVALID: True,
        Code.KEY_AMBIGUOUS: policy.header is not None and policy.key_from is not None,
        Code.ANONYMOUS: policy.anonymous is Anonymous.REFUSE,
        Code.CALLER_REQUIRED: policy.required and policy.anonymous is Anonymous.IGNORE,
        Code.REQUEST_TOO_LARGE: policy.max_request_size is not None,
        Code.TOO_MANY_KEYS: policy.new_keys_per_hour is not None,
        # About the record of the key.
        Code.KEY_EXPIRED: policy.tombstone > timedelta(0),
        Code.KEY_REUSED: policy.fingerprint is not key_alone,
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
