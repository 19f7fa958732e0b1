"""Receivers of signals: each tells the counter about one request.

They count nothing under Django's test runner, which has an outbox: no project expects a thread to
write into its test database.
"""

from typing import Any

from django.core import mail

from ...conf.memoize import MAX_VIEWS
from ...conf.settings import configuration
from ...contract.endpoints import protection_of
from ...protocol.problems import Code
from ...signals import Outcome
from . import counting
from .figures import UNPROTECTED, WITHOUT_KEY


def count_outcome(event: Any, **kwargs: Any) -> None:
    """Receive every outcome. A request that was refused because it has no key is one without."""
    if not hasattr(mail, "outbox"):
        name = WITHOUT_KEY if event.reason == Code.KEY_MISSING else str(event.outcome)
        reused_by = event.scope_digest if event.outcome == Outcome.MISMATCH else None
        counting.counter.count(event.view, name, event.guard_duration, reused_by)


def count_unprotected(request: Any, **kwargs: Any) -> None:
    """Receive ``unprotected``: a key was sent, and no record was made."""
    if not hasattr(mail, "outbox"):
        match = request.resolver_match
        counting.counter.count("" if match is None else match.view_name, UNPROTECTED)


def count_without_key(request: Any, **kwargs: Any) -> None:
    """Receive ``without_key``, from the middleware: a write has come without a key."""
    match = request.resolver_match
    if match is None or hasattr(mail, "outbox"):
        return
    try:
        is_guarded = _is_guarded(match, request)
    except TypeError:  # a view that cannot be hashed
        return
    if is_guarded:
        counting.counter.count(match.view_name, WITHOUT_KEY)


def _is_guarded(match: Any, request: Any) -> bool:
    """Whether a key would have been looked at: asked once for a route and a method."""
    global _known
    settings = configuration()
    source, known = _known
    if source is not settings or len(known) >= MAX_VIEWS:
        _known = (settings, known := {})
    what = (match.func, match.route, request.method)
    found = known.get(what)
    if found is None:
        policy = protection_of(match.func, request.method, request.path_info).guards
        found = known[what] = policy is not None
    return found


_known: tuple[Any, dict[Any, bool]] = (None, {})
"""What is known under which settings. One assignment replaces it: threads need no lock."""
