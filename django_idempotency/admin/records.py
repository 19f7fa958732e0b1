"""The list of records and the page of one."""

from collections.abc import Callable
from typing import Any

from django.apps import apps
from django.contrib import admin
from django.db import transaction
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest, HttpResponse
from django.urls import path, reverse
from django.utils.html import format_html
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ..conf.settings import configuration
from ..models import IdempotencyRecord
from ..protocol.codecs import Owner, Unreadable, decode
from ..protocol.record import StoredResponse
from ..stores.database.dialects import StoreTime
from ..stores.database.step_log import StepLog
from ..stores.database.store import DatabaseStore
from . import actions, pages, presentation, resolving
from .listing import FILTERS, BoundedPaginator, RecordList
from .read_only import ReadOnlyAdmin

_RECORD = ("key", "short_scope", "method", "path")
_STATE = ("state_now", "attempt", "created", "completed", "expires")
_RESPONSE = ("response_status", "body_size", "omitted")
_STORED = ("stored_headers", "stored_body")


def _field(title: Any, show: Callable[[Any, Any], Any]) -> Any:
    """Return a column of the list or a field of the page; what shows nothing is displayed as empty.

    :param show: called with the admin and the record
    """

    @admin.display(description=title)
    def field(self: Any, record: Any) -> Any:
        shown = show(self, record)
        return self.get_empty_value_display() if shown in {None, ""} else shown

    return field


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(ReadOnlyAdmin):
    """Shows records, and removes them through the store. Nobody can add or edit records.

    Made for large tables: see :mod:`.listing`. Headers and bodies of stored responses may be
    secret, so they need a separate permission.
    """

    actions = (actions.discard, actions.evict)
    list_display = (
        "short_key",
        "state_now",
        "request",
        "response_status",
        "attempt",
        "created_short",
        "expires_short",
        "short_scope",
    )
    list_filter = FILTERS
    ordering = ("-id",)
    paginator = BoundedPaginator
    readonly_fields = (*_RECORD, *_STATE, "unresolved", *_RESPONSE, *_STORED, "effects")
    search_fields = ("key",)
    search_help_text = _("A whole key, as it was sent.")

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
        extra = {"idempotency_links": list(pages.links(self, request))}
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
        """Search for the exact key: Django's own lookups fold case, which no index serves."""
        if search_term:
            queryset = queryset.filter(key=presentation.key_of(search_term))
        return queryset, False

    def get_fieldsets(self, request: HttpRequest, obj: Any = None) -> Any:
        may = self.has_response_permission(request)
        closed = _("To see headers and body, you need the permission to view stored responses.")
        response = {
            "fields": (*_RESPONSE, *_STORED) if may else _RESPONSE,
            "description": None if may else closed,
        }
        state = (*_STATE, "unresolved") if self._may_resolve(request, obj) else _STATE
        sections = (
            (None, {"fields": _RECORD}),
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

    short_key = _field(_("key"), lambda self, record: Truncator(record.key).chars(40))
    request = _field(_("request"), lambda self, record: f"{record.method} {record.path}")
    short_scope = _field(_("scope"), lambda self, record: record.scope[:8])
    created_short = _field(
        _("created"), lambda self, record: presentation.moment(record.created_at)
    )
    expires_short = _field(_("expires"), lambda self, record: presentation.age(record.expires_at))
    created = _field(_("created"), lambda self, record: presentation.full(record.created_at))
    completed = _field(_("completed"), lambda self, record: presentation.full(record.completed_at))
    expires = _field(_("expires"), lambda self, record: presentation.full(record.expires_at))
    omitted = _field(
        _("response omitted"), lambda self, record: record.get_response_omitted_display()
    )
    body_size = _field(_("body size"), lambda self, record: presentation.size(self._size(record)))
    stored_headers = _field(
        _("headers"), lambda self, record: presentation.headers(self._response(record))
    )
    stored_body = _field(_("body"), lambda self, record: presentation.body(self._response(record)))

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


def _stored(record: Any) -> StoredResponse | None:
    response = DatabaseStore(record._state.db).response(record.pk)
    if response is None or response.omitted:
        return None
    try:
        return decode(response, configuration().keyring, Owner(record.scope, record.key))
    except Unreadable:
        return None
