"""The figures above the list. Their cost does not depend on the size of the table."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.db import DatabaseError, connections
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..fields import has_open_index
from ..finding.clients import model_of_statistics
from ..protocol.record import State
from ..stores.database.statistics import (
    COUNTED,
    TableStatistics,
    claimed_limit,
    newest_claimed,
    table_statistics,
)
from ..stores.database.statistics import WIDTH as WIDTH
from ..stores.database.store import DatabaseStore
from .presentation import at_most, number


@dataclass
class Overview:
    """The figures of one page: each is read once.

    :param using: alias of the database
    """

    using: str
    _in_flight: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest, using: str) -> "Overview":
        """Return the overview of this request."""
        found: Overview | None = getattr(request, "_idempotency_overview", None)
        if found is None:
            found = request._idempotency_overview = cls(using)  # type: ignore[attr-defined]
        return found

    @cached_property
    def table_statistics(self) -> TableStatistics:
        return table_statistics(self.using)

    @property
    def has_open_index(self) -> bool:
        return has_open_index(connections[self.using])

    @property
    def is_partial(self) -> bool:
        """Whether there may be claimed records further back than :data:`WIDTH`."""
        whole = self.table_statistics
        return whole.last - whole.first >= WIDTH

    @cached_property
    def claimed(self) -> list[int]:
        """The newest claimed records, at most :attr:`limit` and one more."""
        return newest_claimed(self.using, self.table_statistics.last - WIDTH, self.limit + 1)

    @property
    def limit(self) -> int:
        return claimed_limit(self.using)

    @cached_property
    def in_flight(self) -> frozenset[int] | None:
        """Those of :attr:`claimed` that are in flight; ``None`` if the database cannot say."""
        return self._probe(self.claimed)

    @property
    def interrupted(self) -> frozenset[int] | None:
        """Those of :attr:`claimed` that are interrupted; ``None`` if the database cannot say."""
        return None if self.in_flight is None else frozenset(self.claimed) - self.in_flight

    @property
    def figures(self) -> Iterator[tuple[Any, str, str]]:
        """Titles, figures and names of styles."""
        if self.in_flight is None or self.interrupted is None:
            yield _("In flight or interrupted"), self._so_far(self.claimed), "claimed"
        else:
            yield _("In flight"), self._so_far(self.in_flight), "in-flight"
            yield _("Interrupted"), self._so_far(self.interrupted), "interrupted"
        yield _("Completed"), self._completed(), "completed"
        statistics = model_of_statistics("IdempotencyStatistics")
        if statistics is not None:
            yield _("Replays served"), _replays(statistics), "replays"

    def _so_far(self, found: Any) -> str:
        count = number(len(found))
        if len(self.claimed) > self.limit:
            text = gettext("%(count)s among the newest %(limit)s")
            return text % {"count": count, "limit": number(self.limit + 1)}
        if self.is_partial:
            text = gettext("%(count)s in the newest %(limit)s records")
            return text % {"count": count, "limit": number(WIDTH)}
        return count

    def _completed(self) -> str:
        whole = self.table_statistics
        if whole.count is None:
            return at_most(COUNTED + 1, COUNTED)
        count = number(max(0, whole.count - len(self.claimed)))
        return count if whole.is_exact else gettext("about %(count)s") % {"count": count}

    def tell(self, records: Iterable[Any]) -> None:
        """Set ``in_flight`` on records: true, false, or ``None`` if unknown or not claimed."""
        records = list(records)
        claimed = [record.pk for record in records if record.state == State.CLAIMED]
        known = {pk for pk in self.claimed if self.in_flight is not None}
        if set(claimed) - known:
            self._probe([pk for pk in claimed if pk not in known])
        for record in records:
            record.in_flight = self._in_flight.get(record.pk)

    def in_flight_among(self, ids: list[int]) -> frozenset[int] | None:
        """Return those of these claimed records that are in flight; ``None`` if unknown."""
        if self.in_flight is None:
            return None
        unknown = [pk for pk in ids if pk not in self._in_flight]
        if unknown and self._probe(unknown) is None:
            return None
        return frozenset(pk for pk in ids if self._in_flight[pk])

    def _probe(self, ids: list[int]) -> frozenset[int] | None:
        locked = DatabaseStore(self.using).locked(ids)
        if locked is not None:
            self._in_flight.update({pk: pk in locked for pk in ids})
        return locked


def _replays(statistics: Any) -> str:
    """Return what :mod:`django_idempotency.contrib.statistics` has counted."""
    try:
        served = statistics.served()
    except DatabaseError:  # its table may be in another database, or not exist yet
        return gettext("unknown")
    return gettext("%(today)s today, %(recently)s in 30 days") % {
        "today": number(served.today),
        "recently": number(served.recently),
    }
