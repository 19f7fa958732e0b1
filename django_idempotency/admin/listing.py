"""The list of records, made for millions: it never reads more of the table than a page needs.

What no index finds is looked for among :data:`~.overview.WIDTH` records at a time, newest first; a
link leads on to older ones. Nothing is counted beyond :data:`LIMIT`.
"""

from functools import cached_property
from typing import Any, cast

from django.contrib.admin.views.main import ALL_VAR, PAGE_VAR, ChangeList
from django.core.paginator import Paginator
from django.db.models import Count, Min, QuerySet
from django.http import HttpRequest

from ..stores.database.statistics import since
from .filters import AgeFilter, StateFilter
from .overview import WIDTH, Overview

BEFORE = "before"
LIMIT = 10_000


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
    older: int | None
    """Show records before this one to see older ones; ``None`` if there are none."""

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
        if self.before is not None:
            records = records.filter(pk__lt=self.before)
        if self.is_indexed:
            return records
        return records.filter(pk__gte=self.floor, pk__lt=self._range[1])

    def get_results(self, request: HttpRequest) -> None:
        super().get_results(request)
        self.result_list = list(self.result_list)
        self.overview.tell(self.result_list)
        count, last = self.paginator.counted
        self.older = None
        if count >= LIMIT:
            self.older = last
        elif not self.is_indexed and self.floor > self._range[0]:
            self.older = self.floor

    @cached_property
    def before(self) -> int | None:
        given = str(self.params.pop(BEFORE, ""))  # a new search does not take it along
        return int(given) if given.isascii() and given.isdecimal() and len(given) < 19 else None

    @cached_property
    def is_indexed(self) -> bool:
        """Whether an index finds the records: by key, or because they are claimed."""
        wanted = self.params.get(StateFilter.parameter_name)
        is_claimed = wanted in StateFilter.CLAIMED and self.overview.has_claimed_index
        return bool(self.query) or is_claimed

    @cached_property
    def floor(self) -> int:
        """The first number that is looked at."""
        low, high = self._range
        return max(low, min(high, self.before or high) - WIDTH)

    @cached_property
    def _range(self) -> tuple[int, int]:
        """Numbers of the records that the age filter allows."""
        whole = self.overview.table_statistics
        age = AgeFilter.AGES.get(str(self.params.get(AgeFilter.parameter_name)))
        if age is None:
            return whole.first, whole.last + 1
        low, high = since(self.overview.using, whole, age.length, WIDTH)
        return (whole.first, high) if age.is_older else (low, whole.last + 1)

    @property
    def older_link(self) -> str | None:
        return self.get_query_string({BEFORE: self.older}, [PAGE_VAR]) if self.older else None

    @property
    def newest_link(self) -> str | None:
        return self.get_query_string(remove=[PAGE_VAR]) if self.before else None
