"""What the admins of records and of effects share."""

from collections.abc import Callable
from typing import Any

from django.contrib import admin
from django.http import HttpRequest
from django.utils.html import format_html


def field(title: Any, show: Callable[[Any, Any], Any]) -> Any:
    """Return a field of the page of one row; what shows nothing is displayed as empty.

    :param show: called with the admin and the row
    """

    @admin.display(description=title)
    def display(self: Any, row: Any) -> Any:
        shown = show(self, row)
        return self.get_empty_value_display() if shown in {None, ""} else shown

    return display


def column(title: Any, show: Callable[[Any, Any], Any]) -> Any:
    """Return a column of a list: a field with its title, which is for narrow screens only.

    There each row is a card, and the row of titles is not shown.
    """
    plain = field(title, show)

    @admin.display(description=title)
    def display(self: Any, row: Any) -> Any:
        label = '<span class="idempotency-label">{}</span> {}'
        return format_html(label, title, plain(self, row))

    return display


class ReadOnlyAdmin(admin.ModelAdmin):  # type: ignore[type-arg]
    """A list that nobody can add to, edit or delete from, except by the actions of its class."""

    list_per_page = 50
    show_facets = admin.ShowFacets.NEVER
    show_full_result_count = False
    sortable_by = ()

    class Media:
        css = {"all": ("django_idempotency/admin.css",)}
        js = ("django_idempotency/admin.js",)

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Django's own deletion ignores locks: see :mod:`.actions`."""
        return False

    def lookup_allowed(self, lookup: str, value: Any, request: Any = None) -> bool:
        """Allow only the filters on offer: others could be used to guess hidden values."""
        filters: Any = self.list_filter
        return lookup in {getattr(each, "parameter_name", each) for each in filters}

    def get_actions(self, request: HttpRequest) -> Any:
        """Offer the actions of the class, and none that a project adds to all models."""
        own: Any = self.actions
        offered: dict[str, Any] = super().get_actions(request)
        return {name: found for name, found in offered.items() if found[0] in own}
