"""Filters of the list. None of them asks the table which values it holds."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from django.contrib import admin
from django.db import connections
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..protocol.record import State
from ..stores.database.clock import StoreTime
from .overview import Overview


class StateFilter(admin.SimpleListFilter):
    """By the state that a badge shows."""

    title = _("state")
    parameter_name = "state"
    CLAIMED = frozenset({"claimed", "in_flight", "interrupted"})

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        records = model_admin.get_queryset(request)
        claimed = [("in_flight", _("in flight")), ("interrupted", _("interrupted"))]
        if connections[records.db].vendor == "sqlite":
            claimed = [("claimed", _("in flight or interrupted"))]
        return [*claimed, ("completed", _("completed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.value()
        if wanted == "completed":
            return queryset.filter(state=State.COMPLETED)
        if wanted not in self.CLAIMED:
            return queryset
        claimed = queryset.filter(state=State.CLAIMED)
        overview = Overview.of(request, queryset.db)
        chosen = None if wanted == "claimed" else getattr(overview, str(wanted))
        return claimed if chosen is None else claimed.filter(pk__in=chosen)


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


@dataclass(frozen=True, slots=True)
class Age:
    """Records created within ``length``, or those that are older."""

    length: timedelta
    is_older: bool
    title: Any


class AgeFilter(admin.SimpleListFilter):
    """By the time of the claim, on the database's clock."""

    title = _("age")
    parameter_name = "age"
    AGES = {
        "hour": Age(timedelta(hours=1), False, _("Past hour")),
        "day": Age(timedelta(days=1), False, _("Past 24 hours")),
        "older-day": Age(timedelta(days=1), True, _("More than 24 hours")),
        "older-week": Age(timedelta(days=7), True, _("More than 7 days")),
    }

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(name, age.title) for name, age in self.AGES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        age = self.AGES.get(str(self.value()))
        if age is None:
            return queryset
        lookup = "created_at__lt" if age.is_older else "created_at__gte"
        return queryset.filter(**{lookup: StoreTime(-age.length)})


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


FILTERS = (StateFilter, MethodFilter, StatusFilter, AgeFilter, ExpiredFilter)
