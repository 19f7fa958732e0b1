"""Where a request goes: the part of its fingerprint that is not its body."""

from functools import lru_cache
from typing import Any

from django.conf import settings
from django.core.exceptions import DisallowedHost, SuspiciousOperation
from django.http import HttpRequest, QueryDict
from django.http.request import split_domain_port

from ..conf.policy import CountHost, Fingerprint, Policy
from ..protocol.fingerprint import Target, query_values

_LOCAL = frozenset({"localhost", ".localhost", "127.0.0.1", "[::1]", "testserver"})
"""Entries of ``ALLOWED_HOSTS`` for health checks, development and tests: no host of its own."""


def target_of(request: HttpRequest, policy: Policy, caller: Any) -> Target:
    """Return where a request goes, as far as policy compares it.

    :param caller: the request that knows the version of the API: in a DRF view, DRF's
    """
    compares = policy.fingerprint is not Fingerprint.NONE
    return Target(
        request.method or "",
        request.path,
        _query(request, policy) if compares else "",
        _host(request) if _host_counts(policy) else "",
        _version(caller) if compares else "",
    )


def _query(request: HttpRequest, policy: Policy) -> str:
    """Return the query string by value: neither order nor spelling counts."""
    sent: str = request.META.get("QUERY_STRING", "")
    if not sent:
        return ""
    ignored = policy.fingerprint_ignored_parameters
    by_bytes = policy.fingerprint is Fingerprint.BYTES
    if by_bytes and not ignored:
        return f"bytes {sent}"
    try:
        # One character per byte, so that bytes that are no text stay different.
        values = QueryDict(sent, encoding="latin-1")
    except (SuspiciousOperation, ValueError):  # more of them than the project accepts
        return f"bytes {sent}"
    wanted = [
        (name, (str(value),))
        for name, items in values.lists()
        if name not in ignored
        for value in items
    ]
    return query_values(wanted) if wanted else ""


def _host_counts(policy: Policy) -> bool:
    if policy.fingerprint_host is CountHost.AUTO:
        return _are_many(tuple(settings.ALLOWED_HOSTS))
    return policy.fingerprint_host is CountHost.ALWAYS


@lru_cache(maxsize=8)
def _are_many(allowed: tuple[str, ...]) -> bool:
    """Whether a project answers under more than one name, as far as it says."""
    names = {name.lower() for name in allowed} - _LOCAL
    return len(names) > 1 or any(name == "*" or name.startswith(".") for name in names)


def _host(request: HttpRequest) -> str:
    """Return the host without its port. What is no host of ours is compared as it was sent: to
    refuse it is up to whoever asks Django for it."""
    try:
        return split_domain_port(request.get_host())[0]
    except DisallowedHost:
        return str(request.META.get("HTTP_HOST", ""))


def _version(caller: Any) -> str:
    """Return what a versioning scheme of DRF has found: in the path, in the query, or in a header,
    which is not compared otherwise."""
    version = getattr(caller, "version", None) if hasattr(caller, "_request") else None
    return version if isinstance(version, str) else ""
