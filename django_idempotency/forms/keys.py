"""The keys of forms: in a hidden field, made when the page is."""

import re
from secrets import token_urlsafe
from typing import Any

from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest
from django.utils.html import format_html
from django.utils.safestring import SafeString

from ..compat.django import keep_out_of_cache
from ..conf.settings import configuration
from ..http.principal import STABLE, name_of
from ..http.session import scope_id
from ..protocol.keys import InvalidKey, keyed_digest, parse_key

FIELD = "idempotency_key"
"""Name of the hidden field."""

HEADER = "Idempotency-Key"
"""Where scripts may send the key instead."""

_NAME = re.compile(r"[A-Za-z0-9_-]{1,50}").fullmatch

_THING = "~="
"""In the keys of things, and in no other key that a page has made."""

_PURPOSE = b"django_idempotency.form:"


def key_in_form(request: Any) -> str | None:
    """The form's hidden field `idempotency_key`, or else the `Idempotency-Key` header."""
    # Not both: browsers may add a header of their own (Firefox, behind a preference).
    found: str | None = request.POST.get(FIELD)
    if found:
        return found
    sent: str | None = request.headers.get(HEADER)
    if sent is None:
        return None
    try:
        return parse_key(sent)
    except InvalidKey:
        return sent  # which the guard says, too


def idempotency_key_input(
    request: HttpRequest, for_: Any = None, *, name: str = "", fresh: bool = False, **more: Any
) -> SafeString:
    """Return the hidden field with the key of a form, for template languages without the tag.

    Without ``for_`` the key is new each time the page is made, except on a page that answers a
    guarded POST: a form that is shown again has the key with which it was sent.

    :param for_: what the form is for: text, a number, a UUID, or a saved model. All forms for the
        same thing are one operation
    :param name: tells apart the forms of one page, or what is done with one thing: letters, digits,
        hyphens and underscores
    :param fresh: a new key also on a page that answers a guarded POST: its form is for the next
        operation
    :param more: further values that make up the thing, as ``for_``
    :raises ImproperlyConfigured: if a value has no stable text, or there are no sessions
    """
    if not isinstance(name, str) or (name and not _NAME(name)):
        raise ImproperlyConfigured(
            "The name of a form's idempotency key must be 1 to 50 letters, digits, hyphens and "
            f"underscores, not {name!r}."
        )
    scope_id(request)  # or the form that comes back would have no caller
    keep_out_of_cache(request)  # or many pages would have one key
    things = {"for": for_, **more} if for_ is not None or more else {}
    if things:
        return field_with(_key_for(things, name))
    known = "" if fresh else _shown_again(request, name)
    return field_with(known or _new_key(name))


def field_with(key: str) -> SafeString:
    """Return the hidden field with a key."""
    # Firefox would put the key of the page before into one that is loaded again.
    return format_html('<input type="hidden" name="{}" value="{}" autocomplete="off">', FIELD, key)


def is_of_a_thing(key: str) -> bool:
    """Whether ``for=`` made this key: a second operation of its thing would be a mistake."""
    return _THING in key


def another_key_input(request: Any) -> SafeString:
    """Return the hidden field with a new key for the form that this request has sent."""
    name = (request.POST.get(FIELD) or "").partition("~")[2]
    return idempotency_key_input(request, name=name if _NAME(name) else "", fresh=True)


def _new_key(name: str) -> str:
    return f"{token_urlsafe(16)}~{name}" if name else token_urlsafe(16)


def _shown_again(request: Any, name: str) -> str:
    """Return the key of the guarded POST that this page answers, if it came from this form."""
    operation = getattr(request, "idempotency", None)
    if not operation:
        return ""
    key: str = operation.key
    return key if key.partition("~")[2] == name else ""


def _key_for(things: dict[str, Any], name: str) -> str:
    """Return a key that depends on what a form is for.

    Not on the caller: the same key of two callers makes two operations.

    :raises ImproperlyConfigured: if a value has no stable text
    """
    parts = [name]
    for each, thing in sorted(things.items()):
        text = name_of(thing)
        if text is None:
            raise ImproperlyConfigured(
                f"{each}= of a form's idempotency key is {_described(thing)}, which has no stable "
                f"text: each page could have another key, or all of them one. Give it {STABLE}."
            )
        parts += [each, text]
    digest = keyed_digest(_PURPOSE + configuration().secret, tuple(parts)).hex()
    return f"{digest[:32]}{_THING}{name}"


def _described(thing: Any) -> str:
    if thing is None or isinstance(thing, bool):
        return str(thing)
    if isinstance(thing, str):
        return "empty text (a variable that the template does not know?)"
    return f"an instance of {thing.__class__.__module__}.{thing.__class__.__qualname__}"
