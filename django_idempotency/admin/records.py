"""The list of records and the page of one."""

from typing import Any
from urllib.parse import urlencode

from django.apps import apps
from django.contrib import admin
from django.contrib.admin.views.main import SEARCH_VAR
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.text import capfirst
from django.utils.translation import gettext_lazy as _
from django.utils.translation import ngettext

from ..conf.settings import configuration
from ..models import IdempotencyRecord
from ..protocol.codecs import Owner, Unreadable, decode
from ..protocol.keys import named, short_digest, short_scope
from ..protocol.record import State, StoredResponse
from ..stores.database.dialects import StoreTime
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from . import actions, pages, presentation, resolving, runbooks, times
from .listing import FILTERS, BoundedPaginator, RecordList
from .read_only import ReadOnlyAdmin, column, field
from .searching import Search

_RECORD = ("request_line", "whole_key", "key_digest", "scope_digest")
_STATE = ("state_explained", "attempt", "created", "completed", "took", "expires")
_RESPONSE = ("response_status", "body_size")
_STORED = ("stored_headers", "stored_body")


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Shows records, and removes them through the store. Nobody can add or edit records.

    Made for large tables: see :mod:`.listing`. Headers and bodies of stored responses may be
    secret, so they need a separate permission.
    """

    actions = (actions.discard, actions.evict)
    list_display = (
        "short_key",
        "copy_key",
        "state_now",
        "request",
        "status",
        "attempts",
        "age",
        "expiry",
    )
    list_filter = FILTERS
    ordering = ("-id",)
    paginator = BoundedPaginator
    readonly_fields = (
        *(*_RECORD, "request_id", *_STATE, "unresolved"),
        *(*_RESPONSE, "omitted", *_STORED, "effects"),
    )
    search_fields = ("key",)
    search_help_text = _(
        "A key, a digest or line of the log, a path, user:NAME, status:422, request:ID; or several."
    )

    def has_evict_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.evict_idempotencyrecord")

    def has_discard_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.discard_idempotencyrecord")

    def has_purge_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.purge_idempotencyrecord")

    def has_resolve_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.resolve_idempotencyrecord")

    def has_response_permission(self, request: HttpRequest) -> bool:
        return request.user.has_perm("django_idempotency.view_response")

    def get_changelist(self, request: HttpRequest, **kwargs: Any) -> type[RecordList]:
        return RecordList

    # What an action decides commits before the request ends.
    @transaction.non_atomic_requests
    def changelist_view(self, request: HttpRequest, extra_context: Any = None) -> HttpResponse:
        extra = {
            "title": capfirst(self.opts.verbose_name_plural),
            "idempotency_links": list(pages.links(self, request)),
        }
        return super().changelist_view(request, extra | (extra_context or {}))

    # The decision commits before the request ends.
    @transaction.non_atomic_requests
    def resolve_view(self, request: HttpRequest, pk: int) -> HttpResponse:
        return resolving.resolve_view(self, request, pk)

    def get_urls(self) -> Any:
        resolve = self.admin_site.admin_view(self.resolve_view)
        own = [path("<int:pk>/resolve/", resolve, name=resolving.RESOLVE)]
        return [*pages.url_patterns(self), *own, *super().get_urls()]

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Return records of the database that guarded views use, without hidden columns."""
        records = super().get_queryset(request).defer("response_headers", "response_body")
        # Not a replica's: it knows no locks.
        using = IdempotencyRecord.alias(configuration().policy.using)
        expired = ExpressionWrapper(Q(expires_at__lte=StoreTime()), BooleanField())
        annotated: QuerySet[Any] = records.using(using).annotate(expired=expired)
        return annotated

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Search by :mod:`.searching`: Django's own lookups fold case, which no index serves."""
        if search_term:
            queryset = Search.of(request, queryset.db, search_term).narrow(queryset)
        return queryset, False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        may = self.has_response_permission(request)
        closed = _("To see headers and body, you need the permission to view stored responses.")
        omitted = ("omitted",) if obj and obj.response_omitted else ()
        response = {
            "fields": (*_RESPONSE, *omitted, *(_STORED if may else ())),
            "description": None if may else closed,
        }
        state = (*_STATE, "unresolved") if self._may_resolve(request, obj) else _STATE
        request_id = ("request_id",) if obj and obj.request_id else ()
        sections = (
            (None, {"fields": (*_RECORD, *request_id)}),
            (_("State"), {"fields": state}),
            (_("Response"), response),
        )
        if obj is None or not self._effects(obj):
            return sections
        return (*sections, (_("Effects"), {"fields": ("effects",)}))

    def _effects(self, record: Any) -> list[Any]:
        """Return the effects that an operation has staged, read once, for the page of one."""
        if not apps.is_installed("django_idempotency.effects"):
            return []
        from .effects import effects_of

        if not hasattr(record, "effects"):
            record.effects = effects_of(record)
        found: list[Any] = record.effects
        return found

    @admin.display(description=_("staged"))
    def effects(self, record: Any) -> Any:
        from .effects import table_of

        return table_of(self._effects(record), self.admin_site)

    def _may_resolve(self, request: HttpRequest, record: Any) -> bool:
        if record is None or not self.has_resolve_permission(request):
            return False
        return bool(StepLog(record._state.db).unresolved([record.pk]))

    @admin.display(description=_("unknown outcome"))
    def unresolved(self, record: Any) -> Any:
        url = reverse(f"{self.admin_site.name}:{resolving.RESOLVE}", args=[record.pk])
        return format_html('<a href="{}">{}</a>', url, _("Resolve this operation"))

    @admin.display(description=_("state"))
    def state_now(self, record: Any) -> Any:
        if not hasattr(record, "in_flight"):  # the list has set it
            locked = DatabaseStore(record._state.db).locked([record.pk])
            record.in_flight = None if locked is None else record.pk in locked
        return presentation.badge(record)

    @admin.display(description=_("state"))
    def state_explained(self, record: Any) -> Any:
        return runbooks.explained(self.state_now(record), _runbook_of(record))

    short_key = field(_("key"), lambda self, record: presentation.shortened(record.key, 8, 5))
    copy_key = field(
        _("copy"), lambda self, record: presentation.copyable(record.key, _("Copy the key"))
    )
    request = column(_("request"), lambda self, record: presentation.request(record))
    status = column(_("status"), lambda self, record: record.response_status)
    attempts = column(_("attempt"), lambda self, record: record.attempt)
    age = column(_("age"), lambda self, record: times.age(record.created_at))
    expiry = column(_("expires"), lambda self, record: times.until(record.expires_at))

    request_line = field(_("request"), lambda self, record: f"{record.method} {record.path}")
    whole_key = field(_("key"), lambda self, record: presentation.code(record.key))
    key_digest = field(
        _("digest of the key"), lambda self, record: presentation.code(short_digest(record.key))
    )
    scope_digest = field(_("digest of the scope"), lambda self, record: self._scope(record))
    created = field(_("created"), lambda self, record: times.full(record.created_at))
    completed = field(_("completed"), lambda self, record: times.full(record.completed_at))
    expires = field(_("expires"), lambda self, record: times.full(record.expires_at))
    took = field(_("claimed to completed"), lambda self, record: _took(record))
    omitted = field(
        _("response omitted"), lambda self, record: record.get_response_omitted_display()
    )
    body_size = field(_("body size"), lambda self, record: presentation.size(self._size(record)))
    stored_headers = field(
        _("headers"), lambda self, record: presentation.headers(self._response(record))
    )
    stored_body = field(_("body"), lambda self, record: presentation.body(self._response(record)))

    def _scope(self, record: Any) -> Any:
        """Return the digest of the scope, and a link to all records that have it."""
        digest = short_scope(record.scope)
        address = reverse(f"{self.admin_site.name}:django_idempotency_idempotencyrecord_changelist")
        query = urlencode({SEARCH_VAR: named("", digest)})
        code, words = presentation.code(digest), _("All records of this scope")
        return format_html('{} &nbsp;<a href="{}?{}">{}</a>', code, address, query, words)

    def _size(self, record: Any) -> int | None:
        """Return the length of the body, without reading it; for the page of one record."""
        if not hasattr(record, "size"):
            records = IdempotencyRecord.rows(record._state.db).filter(pk=record.pk)
            record.size = records.values_list(Length("response_body"), flat=True).first()
        size: int | None = record.size
        return size

    def _response(self, record: Any) -> StoredResponse | None:
        """Return the response, read once for both fields; ``None`` if it is very large."""
        if not hasattr(record, "stored"):
            is_small = (self._size(record) or 0) <= presentation.READ
            record.stored = _stored(record) if is_small else None
        response: StoredResponse | None = record.stored
        return response


def _runbook_of(record: Any) -> str | None:
    """Return the runbook of what is the matter with a record, after its state was asked for."""
    if record.response_omitted:
        return "response-unavailable"
    if record.state != State.CLAIMED or record.in_flight:
        return None
    return "outcome-unknown" if record.outcome_open else "attempt-recovered"


def _took(record: Any) -> str | None:
    if record.completed_at is None:
        return None
    took = times.duration(record.completed_at - record.created_at)
    if record.attempt == 1:
        return took
    words = ngettext("%(time)s, %(count)s attempt", "%(time)s, %(count)s attempts", record.attempt)
    return words % {"time": took, "count": record.attempt}


def _stored(record: Any) -> StoredResponse | None:
    response = DatabaseStore(record._state.db).response(record.pk)
    if response is None or response.omitted:
        return None
    try:
        return decode(response, configuration().keyring, Owner(record.scope, record.key))
    except Unreadable:
        return None
