"""The pages that a visitor sees where a form is not carried out."""

import re
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured, RequestDataTooBig, SuspiciousOperation
from django.http import HttpRequest, HttpResponse
from django.http.multipartparser import MultiPartParserError
from django.http.request import UnreadablePostError
from django.shortcuts import render
from django.templatetags.static import static
from django.utils.functional import Promise
from django.utils.http import escape_leading_slashes, url_has_allowed_host_and_scheme
from django.utils.translation import gettext_lazy as _

from ..guard.factory import record_of
from ..guard.request_state import state_of
from ..http.body import CSRF_FIELD
from ..http.claim import claim_of
from ..http.principal import scope_of
from ..http.responses import deserialize
from ..http.session import scope_id
from ..protocol.codecs import Owner, Unreadable
from ..protocol.problems import Code, Problem
from ..protocol.record import Omitted, Replay, decide
from ..stores.base import Outage
from .keys import FIELD, another_key_input, field_with, is_of_a_thing

STYLESHEET = "django_idempotency/forms.css"

LARGEST = 256 * 1024
"""Characters of names and values that a page takes up, to send them once more."""

MOST = 5000
"""Fields that a page takes up."""

_SECRET = re.compile(
    r"pass_?(word|wd|phrase|code)|pwd|secret|cvc|cvv|csc|card_?(num|no)|(credit|debit)_?card"
    r"|security_?code|(^|[_\W])(pin|otp|totp|card|cc|iban|ssn)([_\W]|num|no|$)",
    re.IGNORECASE,
).search
"""Names of fields that the visitor types again, because a page must not show what is in them."""


@dataclass(frozen=True, slots=True)
class Words:
    """What a page says, and what it offers.

    :ivar button: sends what was typed; empty for a page that offers nothing
    :ivar is_new: as a new operation, with a new key; else with the same key
    """

    title: Promise
    text: Promise
    button: Promise | str = ""
    is_new: bool = False


_AGAIN = _("Try again")
_SEND = _("Send the form")
_ANEW = _("Send it as a new one")

_INCOMPLETE = Words(
    _("Please send the form once more"),
    _(
        "The page with the form was too old or incomplete, so nobody can tell whether you have "
        "sent it before. Nothing was carried out."
    ),
    _SEND,
    is_new=True,
)
_NO_SESSION = Words(
    _("Please send the form once more"),
    _(
        "Your session has ended. Nothing was carried out. If you see this page again, allow this "
        "site to set cookies."
    ),
    # With the same key: the new session has a scope now, so a reload of this page, or the second
    # click of a double click, carries the form out, too.
    _SEND,
)
_ONCE = Words(
    _("You have already sent this form"),
    _(
        "You sent it before with other content. It can be carried out only once: what you have "
        "sent now was not carried out."
    ),
)
_UNAVAILABLE = Words(
    _("The form cannot be taken at the moment"),
    _("Nothing was carried out, and nothing is lost: try again in a moment."),
    _AGAIN,
)

WORDS = {
    Code.KEY_MISSING: _INCOMPLETE,
    Code.KEY_INVALID: _INCOMPLETE,
    Code.KEY_AMBIGUOUS: _INCOMPLETE,
    Code.KEY_REUSED: Words(
        _("You have already sent this form"),
        _(
            "You sent it before with other content. What you have sent now was not carried out: "
            "choose whether it should be, too."
        ),
        _ANEW,
        is_new=True,
    ),
    Code.IN_FLIGHT: Words(
        _("Your form is still being processed"),
        _("It arrived more than once. It is carried out once. Ask again in a moment."),
        _("Ask again"),
    ),
    Code.RESPONSE_UNAVAILABLE: Words(
        _("This was already done"),
        _("Your form was carried out before, and is not carried out again."),
    ),
    Code.ANONYMOUS: _NO_SESSION,
    Code.CALLER_REQUIRED: _NO_SESSION,
    Code.REQUEST_TOO_LARGE: Words(
        _("The form is too large"),
        _("Nothing was carried out. Go back, and send less at once."),
    ),
    Code.TOO_MANY_KEYS: Words(
        _("Too many forms in a short time"),
        _("Nothing was carried out, and nothing is lost: try again later."),
        _AGAIN,
    ),
    Code.KEY_EXPIRED: Words(
        _("You sent this form some time ago"),
        _(
            "What became of it is no longer kept here. Look it up before you send the form as a "
            "new one."
        ),
        _ANEW,
        is_new=True,
    ),
    Code.STORE_BUSY: _UNAVAILABLE,
    Code.STORE_UNAVAILABLE: _UNAVAILABLE,
    Code.OUTCOME_UNKNOWN: Words(
        _("It is not yet known whether your form was carried out"),
        _(
            "It was interrupted, and is not carried out a second time until that is known. Try "
            "again later, and do not send it as a new one."
        ),
        _AGAIN,
    ),
    Code.OPERATION_REFUSED: Words(
        _("Your form is not carried out"),
        _(
            "It was interrupted, and it was decided not to carry it out again. Look up what became "
            "of it before you send it as a new one."
        ),
        _ANEW,
        is_new=True,
    ),
}
"""What visitors are told, by error."""

PROBLEM = "idempotency/problem.html"
"""Template of all errors but these."""

_TEMPLATES = {
    Code.IN_FLIGHT: "idempotency/in_flight.html",
    Code.KEY_REUSED: "idempotency/mismatch.html",
}

_NOT_READ = (
    *(RequestDataTooBig, SuspiciousOperation, UnreadablePostError, MultiPartParserError),
    OSError,
)


@dataclass(frozen=True, slots=True)
class Resent:
    """The form on a page that sends once more what was sent.

    :ivar action: where to
    :ivar button: what to press
    :ivar key: the hidden field with the key
    :ivar fields: names and values, which are hidden
    :ivar secrets: names of fields that are typed again
    :ivar files: names of fields whose files are chosen again, and whether there were several
    """

    action: str
    button: Promise | str
    key: str
    fields: list[tuple[str, str]]
    secrets: list[str]
    files: list[tuple[str, bool]]


@dataclass(frozen=True, slots=True)
class First:
    """What is known of the first request with a key.

    :ivar is_done: it was answered; else it is running, or was interrupted
    :ivar url: where its answer sent the visitor, if it did
    :ivar showed_form: its answer was a page with a form: perhaps one with errors
    """

    is_done: bool
    url: str = ""
    showed_form: bool = False


def page_of(problem: Problem, request: Any) -> HttpResponse:
    """Return the page of an error."""
    words = _words_for(problem, request)
    context: dict[str, Any] = {
        "problem": problem,
        "title": words.title,
        "text": words.text,
        "stylesheet": _stylesheet(),
        "form_url": _form_url(request),
        "is_debug": settings.DEBUG,
        "first": _first(request) if problem.code is Code.KEY_REUSED else None,
        "resent": _resent(request, words) if words.button else None,
        "is_offered": bool(words.button),
    }
    template = _TEMPLATES.get(problem.code, PROBLEM)
    response = render(request, template, context, status=problem.status)
    response["Cache-Control"] = "no-store"
    if problem.retry_after is not None:
        response["Retry-After"] = str(problem.retry_after)
    return response


def _words_for(problem: Problem, request: Any) -> Words:
    if problem.code is Code.KEY_REUSED and is_of_a_thing(state_of(request).adapter.guard.key):
        return _ONCE  # a new key would be the second operation that `for=` rules out
    return WORDS[problem.code]


def _stylesheet() -> str:
    """Return the address of the styles; empty if there is none: the page can be read without."""
    try:
        return static(STYLESHEET)
    except (ImproperlyConfigured, ValueError):  # not collected
        return ""


def _form_url(request: HttpRequest) -> str:
    """Return the address of the page with the form, if the browser says it."""
    referrer = request.META.get("HTTP_REFERER", "")
    hosts = {request.get_host()}
    if not url_has_allowed_host_and_scheme(referrer, hosts, require_https=request.is_secure()):
        return ""
    return str(referrer)


def _resent(request: HttpRequest, words: Words) -> Resent | None:
    """Return the form that sends the same once more; ``None`` if a page cannot hold it."""
    try:
        sent, files = request.POST, list(request.FILES.lists())
    except _NOT_READ:
        return None
    hidden = getattr(request, "sensitive_post_parameters", ())
    if hidden == "__ALL__":
        return None
    typed = [
        (name, str(value))
        for name, values in sent.lists()
        if name not in {CSRF_FIELD, FIELD}
        for value in values
    ]
    texts = [text for pair in typed for text in pair] + [name for name, _ in files]
    if len(typed) > MOST or sum(map(len, texts)) > LARGEST or not all(map(_can_be_sent, texts)):
        return None
    secrets = {name for name, value in typed if name in hidden or _SECRET(name)}
    if words.is_new:
        key = another_key_input(request)
    else:
        key = field_with(state_of(request).adapter.guard.key)
        if words is _NO_SESSION:
            scope_id(request)
    return Resent(
        escape_leading_slashes(request.get_full_path()),  # //example.com/ would be another site
        words.button,
        key,
        [each for each in typed if each[0] not in secrets],
        [name for name, value in typed if name in secrets],
        [(name, len(several) > 1) for name, several in files],
    )


def _can_be_sent(text: str) -> bool:
    """Whether it has no halves of characters, which some encodings of forms can bring in."""
    return text.isascii() or not any("\ud800" <= each <= "\udfff" for each in text)


def _first(request: Any) -> First | None:
    """Return what is known of the first request with the key of this one, by one read."""
    adapter = state_of(request).adapter
    policy, key = adapter.policy, adapter.guard.key
    try:
        scope = scope_of(request, policy)
        if scope is None:
            return None
        claim = claim_of(request, policy, key, scope, request, lambda: None)
        record = record_of(policy, claim)
    except Outage:
        return None
    answer = None if record is None else decide(record, record.fingerprint)
    if not isinstance(answer, Replay):
        return First(is_done=False)
    stored = answer.response
    if stored.omitted:
        is_form = stored.omitted is Omitted.CSRF_TOKEN and stored.status < 300
        return First(is_done=True, showed_form=is_form)
    try:
        response: Any = deserialize(stored, policy, Owner(claim.scope, claim.key))
    except Unreadable:
        return First(is_done=True)
    return First(is_done=True, url=_safe(getattr(response, "url", "")))


def _safe(url: str) -> str:
    """Return an address that a link may have: as the redirect's, but no script."""
    try:
        return url if urlsplit(url.strip()).scheme in {"", "http", "https"} else ""
    except ValueError:
        return ""
