"""What can be done to records: each needs a permission, asks back, and leaves a log entry.

All of it goes through the store: what is locked is never touched, and what has changed since it
was looked at stays.
"""

import time
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, cast

from django.contrib import admin, messages
from django.contrib.admin.helpers import ACTION_CHECKBOX_NAME
from django.contrib.admin.models import DELETION, LogEntry
from django.contrib.contenttypes.models import ContentType
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse, HttpResponseRedirect
from django.template.response import TemplateResponse
from django.urls import reverse
from django.utils.text import Truncator
from django.utils.timesince import timesince
from django.utils.timezone import now
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..contract.tombstones import longest_tombstone
from ..models import IdempotencyRecord
from ..protocol.keys import short_digest
from ..protocol.record import State
from ..stores.base import Busy, Outage
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from ..stores.database.transactions import write_transaction
from . import presentation
from .overview import Overview

PURGE = "django_idempotency_idempotencyrecord_purge"
PURGE_SECONDS = 10
"""A request is not the place for more; the next one goes on."""
BATCH = 1000
COUNTED = 10_000


@dataclass(frozen=True, slots=True)
class Removal:
    """One way to remove chosen records.

    :ivar name: of the action
    :ivar consequence: what the confirmation page says
    :ivar logged: the log entry, with ``key`` and ``scope`` shortened
    """

    name: str
    title: Any
    consequence: Any
    logged: Any
    only_claimed: bool


DISCARD = Removal(
    "discard",
    _("Discard interrupted records"),
    _(
        "An interrupted record keeps its key for the request that was interrupted: a retry of that "
        "runs at once, another request with the same key is refused. Discarded, the key is as "
        "good as new for any request. Completed records, those in flight, and those outside of a "
        "transaction whose outcome is unknown stay."
    ),
    _("Discarded: key %(key)s, scope %(scope)s."),
    only_claimed=True,
)
EVICT = Removal(
    "evict",
    _("Evict records"),
    _(
        "What was remembered is forgotten: a retry with one of these keys runs again, also if the "
        "operation succeeded. Records in flight, and those outside of a transaction whose outcome "
        "is unknown stay."
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
    chosen = [pk for pk in request.POST.getlist(ACTION_CHECKBOX_NAME) if pk.isdecimal()]
    records = list(model_admin.get_queryset(request).filter(pk__in=chosen))
    if "confirmed" in request.POST:
        return _remove(model_admin, request, removal, records)
    using = model_admin.get_queryset(request).db
    Overview(using).tell(records)
    unresolved = StepLog(using).unresolved([each.pk for each in records])
    stay = [each for each in records if each.pk in unresolved or not _may_go(removal, each)]
    context = {
        "title": removal.title,
        "consequence": removal.consequence,
        "action": removal.name,
        "going": _described(each for each in records if each not in stay),
        "staying": _described(stay),
        "checkbox": ACTION_CHECKBOX_NAME,
    }
    return _confirmation(model_admin, request, context)


def _may_go(removal: Removal, record: Any) -> bool:
    if removal.only_claimed and record.state != State.CLAIMED:
        return False
    return not getattr(record, "in_flight", False)


def _described(records: Iterable[Any]) -> list[dict[str, Any]]:
    return [
        {
            "pk": record.pk,
            "seen": f"{record.pk}:{record.state}:{record.attempt}",
            "name": f"{record.method} {record.path}",
            "key": Truncator(record.key).chars(40),
            "badge": presentation.badge(record),
        }
        for record in records
    ]


def _remove(
    model_admin: Any, request: HttpRequest, removal: Removal, records: list[Any]
) -> HttpResponse:
    seen = set(request.POST.getlist("seen"))
    removed = busy = 0
    for record in records:
        as_seen = f"{record.pk}:{record.state}:{record.attempt}" in seen
        if not as_seen or (removal.only_claimed and record.state != State.CLAIMED):
            continue
        if _remove_one(request, removal, record):
            removed += 1
        else:
            busy += 1
    _report(model_admin, request, removed, busy, len(seen) - removed - busy)
    return HttpResponseRedirect(request.get_full_path())


def _remove_one(request: HttpRequest, removal: Removal, record: Any) -> bool:
    """Remove a record and log it, in one transaction if they are in one database."""
    store = DatabaseStore(record._state.db)
    try:
        with write_transaction(store.using):
            removed = store.remove(record.pk, State(record.state), record.attempt)
            if removed:
                words = {"key": short_digest(record.key), "scope": record.scope[:8]}
                _log(request, str(record.pk), str(record), removal.logged % words)
            return removed
    except (Busy, Outage):
        return False


def _report(model_admin: Any, request: HttpRequest, removed: int, busy: int, changed: int) -> None:
    gone = ngettext("%(count)s record removed.", "%(count)s records removed.", removed)
    left = ngettext(
        "%(count)s record left: in flight, of unknown outcome, or in a cache that is down.",
        "%(count)s records left: in flight, of unknown outcome, or in a cache that is down.",
        busy,
    )
    other = ngettext(
        "%(count)s record left: it has changed or is gone.",
        "%(count)s records left: they have changed or are gone.",
        changed,
    )
    for text, count, level in (
        (gone, removed, messages.SUCCESS),
        (left, busy, messages.WARNING),
        (other, changed, messages.WARNING),
    ):
        if count:
            model_admin.message_user(request, text % {"count": count}, level)
    if not (removed or busy or changed):
        model_admin.message_user(request, _("No records removed."), messages.WARNING)


def purge(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Ask, then remove expired records for a few seconds."""
    if not model_admin.has_purge_permission(request):
        raise PermissionDenied
    store = DatabaseStore(model_admin.get_queryset(request).db)
    older_than = longest_tombstone()
    if request.method == "POST":
        removed = _purge(store, older_than)
        text = ngettext(
            "Purged %(count)s expired record.", "Purged %(count)s expired records.", removed
        ) % {"count": presentation.number(removed)}
        _log(request, None, text, "")
        model_admin.message_user(request, text, messages.SUCCESS)
        return HttpResponseRedirect(reverse(f"{model_admin.admin_site.name}:{_LIST}"))
    expired = store.expired(older_than)[: COUNTED + 1].count()
    lag = store.lag(older_than)
    context = {
        "title": _("Purge expired records"),
        "consequence": _(
            "Expired records are as good as absent; they only take space. Those that a running "
            "request has locked stay. This stops after %(seconds)s seconds; the command "
            "purge_idempotency_records does not."
        )
        % {"seconds": PURGE_SECONDS},
        "expired": presentation.at_most(expired, COUNTED),
        "is_needed": expired > 0,
        "lag": timesince(now() - lag) if lag else None,
    }
    return _confirmation(model_admin, request, context)


_LIST = "django_idempotency_idempotencyrecord_changelist"


def _purge(store: DatabaseStore, older_than: Any) -> int:
    removed, end = 0, time.monotonic() + PURGE_SECONDS
    for batch in store.purge(BATCH, older_than):
        removed += batch
        if time.monotonic() > end:
            break
    return removed


def _log(request: HttpRequest, object_id: str | None, name: str, message: str) -> None:
    LogEntry.objects.create(
        user_id=cast(int, request.user.pk),
        content_type=ContentType.objects.get_for_model(IdempotencyRecord),
        object_id=object_id,
        object_repr=name[:200],
        action_flag=DELETION,
        change_message=message,
    )


def _confirmation(model_admin: Any, request: HttpRequest, context: Any) -> HttpResponse:
    request.current_app = model_admin.admin_site.name
    common = model_admin.admin_site.each_context(request)
    own = {"opts": model_admin.opts, "media": model_admin.media, "subtitle": None}
    template = "admin/django_idempotency/idempotencyrecord/confirmation.html"
    return TemplateResponse(request, template, {**common, **own, **context})
