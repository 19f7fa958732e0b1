"""A policy as plain data that may be published: no names of functions, hosts or databases."""

from typing import Any

from ..conf.policy import Errors, Fingerprint, OnInFlight, OnOutage, Policy, Scope
from ..guard.guard import UNPROTECTED, Status
from ..protocol.problems import Problem
from . import words
from .problems import problems_of

Facts = dict[str, Any]

_STATUSES = ", ".join(f"`{status}`" for status in Status)


def facts(policy: Policy) -> Facts:
    """Return what a client may rely on. Times are in seconds."""
    return {
        "header": policy.header,
        "required": policy.required,
        "key": _key(policy),
        "scope": _named(policy.scope, Scope),
        "scope_description": words.scope(policy),
        "per_tenant": policy.tenant is not None,
        "anonymous": str(policy.anonymous),
        "same_request": _named(policy.fingerprint, Fingerprint),
        "compared_fields": _sorted(policy.fingerprint_fields),
        "ignored_fields": _sorted(policy.fingerprint_ignored_fields),
        "retention": policy.retention.total_seconds(),
        "refused_after_retention": policy.tombstone.total_seconds(),
        "atomic": policy.atomic,
        "interrupted": "undone" if policy.atomic else str(policy.on_interrupted),
        "not_stored": words.statuses(policy.not_stored),
        "replayed": policy.store_body,
        "redacted_fields": sorted(policy.redacted_fields),
        "max_response_size": policy.max_response_size,
        "in_flight": str(policy.in_flight),
        "wait": policy.wait_timeout.total_seconds() if policy.in_flight is OnInFlight.WAIT else 0,
        "outage": str(policy.outage),
        "response_headers": response_headers(policy),
        "problem_json": policy.errors is Errors.PROBLEM,
        "errors": [_error(problem) for problem in problems_of(policy)],
        "documentation": policy.docs_url,
    }


def response_headers(policy: Policy) -> dict[str, str]:
    """Return the names of the response headers that a policy adds, each with its meaning."""
    marker = policy.replay_header if policy.store_body else None
    named = {
        marker: f"`{policy.replay_value}` on a replay, and only there.",
        policy.key_header: "The key of the request.",
        policy.completed_header: "When the original response was made (an HTTP date).",
        policy.expires_header: "Until when the response is replayed (an HTTP date).",
        policy.status_header: f"What became of the key: {_STATUSES}.",
    }
    if policy.outage is OnOutage.OPEN:
        named[UNPROTECTED] = "The key could not be recorded: a retry may be executed again."
    return {name: meaning for name, meaning in named.items() if name is not None}


def _key(policy: Policy) -> Facts:
    return {
        "format": str(policy.key_format),
        "max_length": policy.key_max_length,
        "pattern": None if policy.key_pattern is None else policy.key_pattern.pattern,
    }


def _named(value: object, known: type) -> str:
    return str(value) if isinstance(value, known) else "custom"


def _sorted(names: frozenset[str] | None) -> list[str] | None:
    return None if names is None else sorted(names)


def _error(problem: Problem) -> Facts:
    return {
        "code": str(problem.code),
        "status": problem.status,
        "title": problem.title,
        "retryable": problem.retryable,
        "retry_after": problem.retry_after,
    }
