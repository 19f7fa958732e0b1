"""The list of records and the page of one. Nothing can be changed here."""

from typing import Any

from django.contrib import admin
from django.db.models import BooleanField, ExpressionWrapper, Q, QuerySet
from django.db.models.functions import Length
from django.http import HttpRequest
from django.template.defaultfilters import filesizeformat
from django.utils.text import Truncator
from django.utils.translation import gettext_lazy as _

from ..conf import configuration
from ..models import IdempotencyRecord
from ..stores.clock import StoreTime
from . import presentation
from .filters import ExpiredFilter, MethodFilter, StatusFilter


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
        return (
            queryset.filter(key=presentation.key_of(search_term)) if search_term else queryset
        ), False

    @admin.display(description=_("key"))
    def short_key(self, record: Any) -> str:
        return Truncator(record.key).chars(40)

    @admin.display(description=_("scope"))
    def short_scope(self, record: Any) -> str:
        return str(record.scope[:8])

    @admin.display(description=_("state"))
    def state_now(self, record: Any) -> Any:
        return presentation.state(record)

    @admin.display(description=_("created"))
    def created(self, record: Any) -> str:
        return presentation.short(record.created_at)

    @admin.display(description=_("completed"))
    def completed(self, record: Any) -> str | None:
        return record.completed_at and presentation.short(record.completed_at)

    @admin.display(description=_("expires"))
    def expires(self, record: Any) -> str:
        return presentation.short(record.expires_at)

    @admin.display(description=_("response omitted"))
    def omitted(self, record: Any) -> Any:
        return record.get_response_omitted_display() or self.get_empty_value_display()

    @admin.display(description=_("body size"))
    def body_size(self, record: Any) -> Any:
        """Its length alone is read, and only on the page of one record."""
        records = IdempotencyRecord._base_manager.using(record._state.db).filter(pk=record.pk)
        size = records.values_list(Length("response_body"), flat=True).first()
        return self.get_empty_value_display() if size is None else filesizeformat(size)
