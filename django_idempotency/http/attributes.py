"""What outer middlewares read off a response object, beside its headers.

Decorators of views leave notes for middlewares on the response: ``xframe_options_exempt`` of
Django, ``_csp_exempt`` of django-csp, a flag of the project's own. A replay never runs what is
below the guard, so it would lose them.
"""

import re
from collections.abc import Iterator, Mapping
from typing import Any

from django.http import HttpResponse
from django.http.response import HttpResponseBase

from ..protocol.plain import plain_text

REASON = "reason_phrase"
"""The attribute under which a reason phrase is stored that is not the status's usual one."""

_STRUCTURED = {
    f"{name}{suffix}"
    for name in ("_csp_config", "_csp_update", "_csp_replace", "_csp_exempt")
    for suffix in ("", "_ro")
} | {"_csp_ro_config", "_csp_ro_update"}
"""Notes that are more than a flag: Django's and django-csp's decorators for a view's policy."""

DATA = "idempotency_data"
"""What a response of Django REST framework was rendered from, where its body does not say so."""

_OWN = {"closed", "exception", "_is_rendered", "_has_been_logged"}
"""Flags that Django and Django REST framework keep about one object, not about the answer."""

_NAME = re.compile(r"[A-Za-z_]\w*", re.ASCII).fullmatch


def attributes_of(response: HttpResponseBase) -> dict[str, Any]:
    """Return the notes on a response: its reason phrase and flags, and what CSP is told.

    Flags are true or false, so none can be a credential. Other values are stored under known names
    only, and only if they are plain data.
    """
    found = {name: value for name, value in vars(response).items() if _is_note(name, value)}
    reason = getattr(response, "_reason_phrase", None)
    if reason is not None:
        found[REASON] = str(reason)
    return found


def _is_note(name: str, value: Any) -> bool:
    if name in _STRUCTURED or name == DATA:
        return plain_text(value) is not None
    if not isinstance(value, bool) or name in _OWN or name.startswith("_idempotency"):
        return False
    return not hasattr(HttpResponse, name)


def restore(response: HttpResponseBase, attributes: Mapping[str, Any]) -> None:
    """Put the notes on a replay. What :func:`attributes_of` cannot have stored is left out."""
    for name, value in _known(attributes):
        setattr(response, name, value)


def _known(attributes: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    for name, value in attributes.items():
        if name == REASON:
            if isinstance(value, str) and not re.search(r"[\r\n\0]", value):
                yield name, value
        elif _NAME(name) and _is_note(name, value):
            yield name, value
