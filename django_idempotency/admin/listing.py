"""The list of records, made for millions: no page reads more of the table than it needs.

What no index finds is searched among :data:`~.overview.WIDTH` records at a time, newest first; a
link leads on to older ones. Nothing is counted beyond :data:`LIMIT`.
"""

from dataclasses import dataclass
from datetime import timedelta
from functools import cached_property
from typing import Any, ClassVar, cast

from django.contrib import admin
from django.contrib.admin.views.main import ALL_VAR, PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, Min, QuerySet
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from ..protocol.record import State
from ..stores.database.dialects import StoreTime
from ..stores.database.statistics import since
from .overview import WIDTH, Overview
from .searching import Search

BEFORE = "before"
LIMIT = 10_000


class StateFilter(admin.SimpleListFilter):
    """By the state that a badge shows."""

    title = _("state")
    parameter_name = "state"
    CLAIMED = frozenset({"claimed", "in_flight", "interrupted"})
    OPEN = "open"

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        overview = Overview.of(request, model_admin.get_queryset(request).db)
        claimed = [("in_flight", _("in flight")), ("interrupted", _("interrupted"))]
        if overview.in_flight is None:
            claimed = [("claimed", _("in flight or interrupted"))]
        return [*claimed, (self.OPEN, _("outcome open")), ("completed", _("completed"))]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        wanted = self.value()
        if wanted == "completed":
            return queryset.filter(state=State.COMPLETED)
        if wanted == self.OPEN:
            return queryset.filter(outcome_open=True, state=State.CLAIMED)
        # RecordList finds out which of them are in flight: it knows where to look.
        return queryset.filter(state=State.CLAIMED) if wanted in self.CLAIMED else queryset


class ChoiceFilter(admin.SimpleListFilter):
    """By fixed choices: asking the table which values it holds would read all of it."""

    CHOICES: ClassVar[dict[str, tuple[Any, dict[str, Any]]]]
    """Titles and lookups, by the value in the address."""

    def lookups(self, request: HttpRequest, model_admin: Any) -> list[tuple[str, Any]]:
        return [(value, title) for value, (title, _lookups) in self.CHOICES.items()]

    def queryset(self, request: HttpRequest, queryset: QuerySet[Any]) -> QuerySet[Any]:
        _title, lookups = self.CHOICES.get(str(self.value()), ("", {}))
        return queryset.filter(**lookups)


class MethodFilter(ChoiceFilter):
    title = _("method")
    parameter_name = "method"
    CHOICES = {each: (each, {"method": each}) for each in ("POST", "PUT", "PATCH", "DELETE")}


class StatusFilter(ChoiceFilter):
    """By the first digit of the stored status."""

    title = _("status")
    parameter_name = "status"
    CHOICES = {
        str(digit): (
            f"{digit}xx",
            {"response_status__gte": digit * 100, "response_status__lt": digit * 100 + 100},
        )
        for digit in (2, 3, 4, 5)
    }


@dataclass(frozen=True, slots=True)
class Age:
    """Records created within ``length``, or those that are older."""

    title: Any
    length: timedelta
    is_older: bool = False

    @property
    def lookup(self) -> str:
        return "lt" if self.is_older else "gte"


AGES = {
    "hour": Age(_("Past hour"), timedelta(hours=1)),
    "day": Age(_("Past 24 hours"), timedelta(days=1)),
    "older-day": Age(_("More than 24 hours"), timedelta(days=1), is_older=True),
    "older-week": Age(_("More than 7 days"), timedelta(days=7), is_older=True),
}


class AgeFilter(ChoiceFilter):
    """By the time of the claim, on the database's clock."""

    title = _("age")
    parameter_name = "age"
    CHOICES = {
        name: (
            age.title,
            {f"created_at__{'lt' if age.is_older else 'gte'}": StoreTime(-age.length)},
        )
        for name, age in AGES.items()
    }


class ExpiredFilter(ChoiceFilter):
    """By the database's clock, which decides about expiry."""

    title = _("expired")
    parameter_name = "expired"
    CHOICES = {
        "yes": (_("Yes"), {"expires_at__lte": StoreTime()}),
        "no": (_("No"), {"expires_at__gt": StoreTime()}),
    }


FILTERS = (StateFilter, MethodFilter, StatusFilter, AgeFilter, ExpiredFilter)


class BoundedPaginator(Paginator):  # type: ignore[type-arg]
    """Pages of the first ``LIMIT`` records."""

    @cached_property
    def counted(self) -> tuple[int, int | None]:
        """How many records the pages hold, and the number of the last one."""
        records = cast(QuerySet[Any], self.object_list)
        numbers = records.order_by("-pk").values("pk")[:LIMIT]
        found = numbers.aggregate(count=Count("pk"), last=Min("pk"))
        return found["count"], found["last"]

    @property
    def count(self) -> int:
        return self.counted[0]


class RecordList(ChangeList):
    """One window of the table, with the figures above it."""

    overview: Overview
    search: Search
    older: int | None
    """Show records before this one to see older ones; ``None`` if there are none."""
    _last_asked: int | None = None
    """The last record whose lock was asked for, if there are more claimed ones."""

    def get_filters_params(self, params: Any = None) -> Any:
        lookups = super().get_filters_params(params)
        lookups.pop(BEFORE, None)
        return lookups

    def get_query_string(self, new_params: Any = None, remove: Any = None) -> str:
        """Another filter starts from the newest records again; another page does not."""
        if not {ALL_VAR, BEFORE, PAGE_VAR} & set(new_params or ()):
            remove = [*(remove or ()), BEFORE]
        return super().get_query_string(new_params, remove)

    def get_queryset(self, request: HttpRequest, exclude_parameters: Any = None) -> Any:
        records = super().get_queryset(request, exclude_parameters)
        self.overview = Overview.of(request, records.db)
        self.search = Search.of(request, records.db, self.query)
        if self.before is not None:
            records = records.filter(pk__lt=self.before)
        if not self.is_indexed:
            records = records.filter(pk__gte=self.floor, pk__lt=self._range[1])
        return self._by_lock(records)

    def _by_lock(self, claimed: QuerySet[Any]) -> QuerySet[Any]:
        """Choose those that are in flight, or those that are not, if that is wanted."""
        wanted = self.params.get(StateFilter.parameter_name)
        if wanted not in StateFilter.CLAIMED or wanted == "claimed":
            return claimed
        limit = self.overview.limit
        ids = list(claimed.order_by("-pk").values_list("pk", flat=True)[: limit + 1])
        if len(ids) > limit:
            self._last_asked = ids[limit - 1]
        in_flight = self.overview.in_flight_among(ids[:limit])
        if in_flight is None:
            return claimed
        chosen = in_flight if wanted == "in_flight" else set(ids[:limit]) - in_flight
        return claimed.filter(pk__in=chosen)

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        self.overview.tell(self.result_list)
        count, last = self.paginator.counted
        self.older = self._last_asked
        if count >= LIMIT:
            self.older = last
        elif not (self.older or self.is_indexed) and self.floor > self._range[0]:
            self.older = self.floor

    @cached_property
    def before(self) -> int | None:
        given = str(self.params.pop(BEFORE, ""))  # a new search does not take it along
        return int(given) if given.isascii() and given.isdecimal() and len(given) < 19 else None

    @cached_property
    def is_indexed(self) -> bool:
        """Whether an index finds the records: by key, or because their outcome is open."""
        is_open = self.params.get(StateFilter.parameter_name) == StateFilter.OPEN
        return self.search.is_indexed or (is_open and self.overview.has_open_index)

    @cached_property
    def floor(self) -> int:
        """The lowest number that this page looks at."""
        low, high = self._range
        return max(low, min(high, self.before or high) - WIDTH)

    @cached_property
    def _range(self) -> tuple[int, int]:
        """Numbers of the records that the age filter allows."""
        whole = self.overview.table_statistics
        age = AGES.get(str(self.params.get(AgeFilter.parameter_name)))
        if age is None:
            return whole.first, whole.last + 1
        low, high = since(self.overview.using, whole, age.length, WIDTH)
        return (whole.first, high) if age.is_older else (low, whole.last + 1)

    @property
    def is_empty_table(self) -> bool:
        """Whether there is no record at all."""
        return not (self.query or self.has_active_filters or self.before or self.older)

    @property
    def older_link(self) -> str | None:
        return self.get_query_string({BEFORE: self.older}, [PAGE_VAR]) if self.older else None

    @property
    def newest_link(self) -> str | None:
        return self.get_query_string(remove=[PAGE_VAR]) if self.before else None
