"""Actions on records: each needs a permission, asks for confirmation, and writes a log entry.

All of them go through the store, which never touches a locked record, nor one that has changed
since the operator saw it.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..contract.endpoints import longest_tombstone
from ..models import IdempotencyRecord
from ..protocol.keys import short_digest, short_scope
from ..protocol.record import State
from ..stores.base import Busy, Outage
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import write_transaction
from . import presentation, times
from .overview import Overview
from .pages import Page, register

PURGE_SECONDS = 10
"""A request takes no longer; the next one goes on."""
BATCH = 1000
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Removal:
    """One way to remove chosen records.

    :ivar name: of the action
    :ivar consequence: what the confirmation page says
    :ivar logged: the log entry, with ``key`` and ``scope`` shortened
    :ivar only_claimed: completed records are kept
    """

    name: str
    title: Any
    consequence: Any
    logged: Any
    only_claimed: bool

    def applies_to(self, record: Any) -> bool:
        return not self.only_claimed or record.state == State.CLAIMED


DISCARD = Removal(
    "discard",
    _("Discard interrupted records"),
    _(
        "An interrupted record keeps its key for the request that was interrupted: a retry of that "
        "request runs at once, and another request with the same key is refused. Discard the "
        "record, and any request can use the key. Completed records, records in flight and records "
        "with an unknown outcome (non-atomic mode) are kept."
    ),
    _("Discarded: key %(key)s, scope %(scope)s."),
    only_claimed=True,
)
EVICT = Removal(
    "evict",
    _("Evict records"),
    _(
        "The stored responses are lost: a retry with one of these keys runs again, also if the "
        "operation succeeded. Records in flight and records with an unknown outcome (non-atomic "
        "mode) are kept."
    ),
    _("Evicted: key %(key)s, scope %(scope)s."),
    only_claimed=False,
)


@admin.action(permissions=["discard"], description=DISCARD.title)
def discard(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    """Remove chosen records that are interrupted."""
    return _ask_or_remove(model_admin, request, DISCARD)


@admin.action(permissions=["evict"], description=EVICT.title)
def evict(model_admin: Any, request: HttpRequest, queryset: QuerySet[Any]) -> Any:
    """Remove chosen records, unless they are in flight."""
    return _ask_or_remove(model_admin, request, EVICT)


def _ask_or_remove(model_admin: Any, request: HttpRequest, removal: Removal) -> Any:
    # Those on the page that were chosen: never "all that match", which may be millions.
    given = request.POST.getlist(ACTION_CHECKBOX_NAME)
    chosen = [
        pk for pk in given if pk.isdecimal() and len(pk) < 19
    ]  # a column takes no longer ones
    found = model_admin.get_queryset(request).filter(pk__in=chosen)
    records = list(found)
    if "confirmed" in request.POST:
        return _remove(model_admin, request, removal, records)
    Overview(found.db).tell(records)
    unresolved = StepLog(found.db).unresolved([each.pk for each in records])
    choices = []
    for record in records:
        stays = record.pk in unresolved or record.in_flight or not removal.applies_to(record)
        row = {
            "pk": record.pk,
            "seen": _seen(record),
            "name": f"{record.method} {record.path}",
            "key": presentation.shortened(record.key, 24, 15),
            "badge": presentation.badge(record),
        }
        choices.append((not stays, row))
    titles = (_("Records to remove"), _("Records to keep"))
    return confirmation(model_admin, request, removal, titles, choices)


def _seen(record: Any) -> str:
    """Return what tells whether a record has changed since the operator saw it."""
    return f"{record.pk}:{record.state}:{record.attempt}"


def _remove(
    model_admin: Any, request: HttpRequest, removal: Removal, records: list[Any]
) -> HttpResponse:
    seen = set(request.POST.getlist("seen"))
    tried = [each for each in records if _seen(each) in seen and removal.applies_to(each)]
    removed = sum(_remove_one(request, removal, record) for record in tried)
    busy, changed = len(tried) - removed, len(seen) - len(tried)
    for text, count, level in (
        (
            ngettext("%(count)s record removed.", "%(count)s records removed.", removed),
            removed,
            messages.SUCCESS,
        ),
        (
            ngettext(
                "%(count)s record kept: it is in flight, its outcome is unknown, or the cache does "
                "not answer.",
                "%(count)s records kept: they are in flight, their outcome is unknown, or the "
                "cache does not answer.",
                busy,
            ),
            busy,
            messages.WARNING,
        ),
        (
            ngettext(
                "%(count)s record not removed: it has changed or is gone.",
                "%(count)s records not removed: they have changed or are gone.",
                changed,
            ),
            changed,
            messages.WARNING,
        ),
    ):
        if count:
            model_admin.message_user(request, text % {"count": count}, level)
    if not seen:
        model_admin.message_user(request, _("No records removed."), messages.WARNING)
    return HttpResponseRedirect(request.get_full_path())


def _remove_one(request: HttpRequest, removal: Removal, record: Any) -> bool:
    """Remove a record and log it, in one transaction if they are in one database."""
    store = DatabaseStore(record._state.db)
    try:
        with write_transaction(store.using):
            removed = store.remove(record.pk, State(record.state), record.attempt)
            if removed:
                words = {"key": short_digest(record.key), "scope": short_scope(record.scope)}
                log(request, DELETION, removal.logged % words, record)
            return removed
    except (Busy, Outage):
        return False


# Each batch of the purge commits, and lets go of its locks, before the request ends.
@transaction.non_atomic_requests
def purge(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Ask for confirmation, then remove expired records for a few seconds."""
    store = DatabaseStore(model_admin.get_queryset(request).db)
    older_than = longest_tombstone()
    if request.method == "POST":
        removed, end = 0, time.monotonic() + PURGE_SECONDS
        for batch in store.purge(BATCH, older_than):
            removed += batch
            if time.monotonic() > end:
                break
        text = ngettext(
            "Purged %(count)s expired record.", "Purged %(count)s expired records.", removed
        ) % {"count": presentation.number(removed)}
        log(request, DELETION, "", name=text)
        model_admin.message_user(request, text, messages.SUCCESS)
        records = "django_idempotency_idempotencyrecord_changelist"
        return HttpResponseRedirect(reverse(f"{model_admin.admin_site.name}:{records}"))
    expired = store.count_expired(older_than, COUNTED)
    lag = store.lag(older_than)
    context = {
        "title": _("Purge expired records"),
        "consequence": _(
            "Expired records do not replay any more; they only take space. Records that a running "
            "request has locked are kept. The purge stops after %(seconds)s seconds; the command "
            "purge_idempotency_records has no such limit."
        )
        % {"seconds": PURGE_SECONDS},
        "expired": presentation.at_most(expired, COUNTED),
        "is_needed": expired > 0,
        "lag": times.duration(lag) if lag else None,
    }
    return page(model_admin, request, "confirmation", context)


def _may_purge(model_admin: Any, request: HttpRequest) -> bool:
    return bool(model_admin.has_purge_permission(request))


register(Page("purge", _("Purge expired"), purge, _may_purge))


def log(request: HttpRequest, flag: int, message: Any, record: Any = None, name: str = "") -> None:
    """Write an entry about a record or an effect, or about all records, into the admin's log."""
    LogEntry.objects.create(
        user_id=cast(int, request.user.pk),
        content_type=ContentType.objects.get_for_model(record or IdempotencyRecord),
        object_id=record and str(record.pk),
        object_repr=str(record or name)[:200],
        action_flag=flag,
        change_message=message,
    )


def confirmation(
    model_admin: Any,
    request: HttpRequest,
    decision: Any,
    titles: tuple[Any, Any],
    choices: Sequence[tuple[bool, dict[str, Any]]],
) -> HttpResponse:
    """Return the page that asks before an action.

    :param decision: has a name, a title and a consequence
    :param titles: of what it is about, and of what stays as it is
    :param choices: what was chosen: whether the decision is about it, and its row
    """
    going, staying = ([row for goes, row in choices if goes is kind] for kind in (True, False))
    context = {
        "title": decision.title,
        "consequence": decision.consequence,
        "action": decision.name,
        "going_title": titles[0],
        "going": going,
        "staying_title": titles[1],
        "staying": staying,
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return page(model_admin, request, "confirmation", context)


def page(model_admin: Any, request: HttpRequest, template: str, context: Any) -> HttpResponse:
    """Return a page of the admin that is not one of Django's own."""
    request.current_app = model_admin.admin_site.name
    common = model_admin.admin_site.each_context(request)
    own = {"opts": model_admin.opts, "media": model_admin.media, "subtitle": None}
    file = f"admin/django_idempotency/idempotencyrecord/{template}.html"
    return TemplateResponse(request, file, {**common, **own, **context})
