"""What functions of a policy say about themselves, in their docstrings, for clients."""

from collections.abc import Callable
from inspect import getdoc
from typing import Any

from .policy import Policy


def described(function: Callable[..., Any], otherwise: str) -> str:
    """Return what a function of the project says of what it returns: a noun, in its docstring."""
    first = (getdoc(function) or "").partition("\n")[0].rstrip(".")
    return first[:1].lower() + first[1:] or otherwise


def key_source(policy: Policy, header: str) -> str:
    """Say where the key of a request comes from.

    :param header: how to name the header field; braces stand for its name
    """
    named = "" if policy.header is None else header.format(policy.header)
    if policy.key_from is None:
        return named
    found = described(policy.key_from, "a key as this API defines it")
    return f"{named}, or {found}" if named else found
