"""The admin: a look at the records. Only the store writes them, so nothing can be changed here."""

from datetime import datetime
from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.formats import date_format
from django.utils.text import Truncator
from django.utils.timezone import is_aware, localtime
from django.utils.translation import gettext_lazy as _

from .conf import configuration
from .models import IdempotencyRecord
from .protocol.keys import InvalidKey, parse_key
from .protocol.record import State
from .stores.clock import StoreTime

_STATES = {
    (State.CLAIMED, False): _("claimed: in flight or interrupted"),
    (State.CLAIMED, True): _("claimed: in flight or interrupted (expired)"),
    (State.COMPLETED, False): _("completed"),
    (State.COMPLETED, True): _("completed (expired)"),
}


class MethodFilter(admin.SimpleListFilter):
    """By a fixed list: asking the table for its methods would read all of it."""

    title = _("method")
    parameter_name = "method"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(method, method) for method in ("POST", "PUT", "PATCH", "DELETE")]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        return queryset.filter(method=self.value()) if self.value() else queryset


class StatusFilter(admin.SimpleListFilter):
    """By the first digit of the stored status."""

    title = _("status")
    parameter_name = "status"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, str]]:
        return [(digit, f"{digit}xx") for digit in "2345"]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() not in set("2345"):
            return queryset
        first = int(str(self.value())) * 100
        return queryset.filter(response_status__gte=first, response_status__lt=first + 100)


class ExpiredFilter(admin.SimpleListFilter):
    """By the database's clock, which decides about expiry."""

    title = _("expired")
    parameter_name = "expired"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [("yes", _("Yes")), ("no", _("No"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        if self.value() == "yes":
            return queryset.filter(expires_at__lte=StoreTime())
        if self.value() == "no":
            return queryset.filter(expires_at__gt=StoreTime())
        return queryset


@admin.register(IdempotencyRecord)
class IdempotencyRecordAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """Lists and shows records, without what may be secret: no headers, no body.

    Made for large tables: the only search is by whole key, through the unique index; nothing is
    counted that need not be, and nothing can be sorted by a column without an index.
    """

    actions = None
    fields = (
        "key",
        "short_scope",
        "method",
        "path",
        "state_now",
        "attempt",
        "response_status",
        "body_size",
        "omitted",
        "created_at",
        "completed_at",
        "expires_at",
    )
    readonly_fields = fields
    list_display = (
        "short_key",
        "short_scope",
        "method",
        "path",
        "state_now",
        "attempt",
        "response_status",
        "created",
        "completed",
        "expires",
    )
    list_filter = ("state", MethodFilter, StatusFilter, ExpiredFilter)
    list_per_page = 50
    ordering = ("-id",)
    search_fields = ("key",)
    search_help_text = _("A whole key, as it was sent.")
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Only the filters on offer: by others, what is not shown could be guessed."""
        own = (MethodFilter, StatusFilter, ExpiredFilter)
        return lookup in {"state__exact", *(each.parameter_name for each in own)}

    def get_queryset(self, request: HttpRequest) -> QuerySet[Any]:
        """Records of the database that guarded views use, without what is not shown."""
        records = super().get_queryset(request).defer("response_headers", "response_body")
        using = configuration().policy.using
        if using:
            records = records.using(using)
        expired = ExpressionWrapper(Q(expires_at__lte=StoreTime()), BooleanField())
        annotated: QuerySet[Any] = records.annotate(expired=expired)
        return annotated

    def get_search_results(
        self, request: HttpRequest, queryset: QuerySet[Any], search_term: str
    ) -> tuple[QuerySet[Any], bool]:
        """Compare exactly: the admin's own lookups fold case, which no index here serves."""
        return (queryset.filter(key=_key(search_term)) if search_term else queryset), False

    @admin.display(description=_("key"))
    def short_key(self, record: Any) -> str:
        return Truncator(record.key).chars(40)

    @admin.display(description=_("scope"))
    def short_scope(self, record: Any) -> str:
        return str(record.scope[:8])

    @admin.display(description=_("state"))
    def state_now(self, record: Any) -> Any:
        return _STATES[State(record.state), bool(record.expired)]

    @admin.display(description=_("created"))
    def created(self, record: Any) -> str:
        return _short(record.created_at)

    @admin.display(description=_("completed"))
    def completed(self, record: Any) -> str | None:
        return record.completed_at and _short(record.completed_at)

    @admin.display(description=_("expires"))
    def expires(self, record: Any) -> str:
        return _short(record.expires_at)

    @admin.display(description=_("response omitted"))
    def omitted(self, record: Any) -> Any:
        return record.get_response_omitted_display() or self.get_empty_value_display()

    @admin.display(description=_("body size"))
    def body_size(self, record: Any) -> Any:
        """Its length alone is read, and only on the page of one record."""
        records = IdempotencyRecord._base_manager.using(record._state.db).filter(pk=record.pk)
        size = records.values_list(Length("response_body"), flat=True).first()
        return self.get_empty_value_display() if size is None else filesizeformat(size)


def _key(search_term: str) -> str:
    """Return the key in a header value, in quotes or without."""
    try:
        return parse_key(search_term)
    except InvalidKey:
        return search_term.strip()


def _short(moment: datetime) -> str:
    """A time in the reader's zone and format, short enough for the list to fit a screen."""
    local = localtime(moment) if is_aware(moment) else moment
    return date_format(local, "SHORT_DATETIME_FORMAT")
