"""The page "Clients" beside the list of records: those that use keys wrongly."""

from itertools import groupby
from typing import Any
from urllib.parse import urlencode

from django.contrib.admin.views.main import SEARCH_VAR
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.urls import reverse
from django.utils.html import format_html, format_html_join
from django.utils.translation import gettext_lazy as _

from ..conf.settings import configuration
from ..finding.callers import caller_of, user_named
from ..finding.clients import ADVICE, NEWEST, WITHIN, Finding, findings
from ..models import IdempotencyRecord
from ..protocol.keys import named
from . import pages
from .actions import page
from .presentation import breakable, number, table
from .searching import may_view_users


def clients(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show what callers do wrong, what it means, and what to tell them."""
    may_ask = may_view_users(request)
    asked = request.GET.get("user", "").strip() if may_ask else ""
    user = user_named(asked) if asked else None
    names = [] if user is None else [(str(user), caller_of(user).digests)]
    found = findings(IdempotencyRecord.alias(configuration().policy.using), names=names)
    groups = [
        (ADVICE[kind], _table(model_admin, list(group)))
        for kind, group in groupby(found, key=lambda each: each.kind)
    ]
    context = {
        "title": _("Clients"),
        "media": model_admin.media + Media(css={"all": ("django_idempotency/pages.css",)}),
        "groups": groups,
        "newest": number(NEWEST),
        "within": f"{WITHIN.total_seconds():.0f}",
        "may_ask": may_ask,
        "asked": asked,
        "is_unknown": bool(asked) and user is None,
        "is_named": any(each.user for each in found),
    }
    return page(model_admin, request, "clients", context)


pages.register(pages.Page("clients", _("Clients"), clients))


def _table(model_admin: Any, found: list[Finding]) -> Any:
    titles = (_("scope"), _("times"), _("requests"), _("records"))
    return table(titles, (_row(model_admin, each) for each in found))


def _scope(model_admin: Any, digest: str) -> Any:
    """Return the digest of a caller, which leads to all of its records."""
    if not digest:
        return _("others")
    address = reverse(
        f"{model_admin.admin_site.name}:django_idempotency_idempotencyrecord_changelist"
    )
    query = urlencode({SEARCH_VAR: named("", digest)})
    return format_html('<a href="{}?{}"><code>{}</code></a>', address, query, digest)


def _row(model_admin: Any, found: Finding) -> Any:
    change = f"{model_admin.admin_site.name}:django_idempotency_idempotencyrecord_change"
    links = ((reverse(change, args=[pk]), pk) for pk in found.records)
    whose = format_html(" <strong>{}</strong>", found.user) if found.user else ""
    return (
        format_html("{}{}", _scope(model_admin, found.scope), whose),
        number(found.times),
        format_html_join(", ", "<code>{}</code>", ((breakable(each),) for each in found.where)),
        format_html_join(", ", '<a href="{}">{}</a>', links),
    )
