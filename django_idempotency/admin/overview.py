"""What the table holds, in a few figures that cost the same whatever its size."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

from django.apps import apps
from django.db import DatabaseError, connections
from django.http import HttpRequest
from django.utils.translation import gettext
from django.utils.translation import gettext_lazy as _

from ..fields import has_claimed_index
from ..models import IdempotencyRecord
from ..protocol.record import State
from ..stores.database.statistics import COUNTED, TableStatistics, table_statistics
from ..stores.database.store import DatabaseStore
from .presentation import at_most, number

WIDTH = 100_000
"""So many records, at most, does one statement look through where no index helps."""


@dataclass
class Overview:
    """The figures above the list; everything is asked for once per page.

    :param using: alias of the database
    """

    using: str
    _in_flight: dict[int, bool] = field(default_factory=dict)

    @classmethod
    def of(cls, request: HttpRequest, using: str) -> "Overview":
        """Return the overview that belongs to this request."""
        kept: Overview | None = getattr(request, _KEPT, None)
        if kept is None:
            kept = cls(using)
            setattr(request, _KEPT, kept)
        return kept

    @cached_property
    def table_statistics(self) -> TableStatistics:
        return table_statistics(self.using)

    @property
    def has_claimed_index(self) -> bool:
        return has_claimed_index(connections[self.using])

    @property
    def is_partial(self) -> bool:
        """Whether there may be claimed records further back than :data:`WIDTH`."""
        return (
            not self.has_claimed_index
            and self.table_statistics.last - self.table_statistics.first >= WIDTH
        )

    @cached_property
    def claimed(self) -> list[int]:
        """The newest claimed records, at most :attr:`limit` and one more."""
        claimed = IdempotencyRecord._base_manager.using(self.using).filter(state=State.CLAIMED)
        if not self.has_claimed_index:
            claimed = claimed.filter(pk__gt=self.table_statistics.last - WIDTH)
        newest = claimed.order_by("-pk").values_list("pk", flat=True)
        return list(newest[: self.limit + 1])

    @property
    def limit(self) -> int:
        """Where claimed records must be locked to learn about them, only a few are."""
        return 1000 if self.has_claimed_index else 200

    @property
    def is_more(self) -> bool:
        return len(self.claimed) > self.limit

    @cached_property
    def in_flight(self) -> frozenset[int] | None:
        """Those of :attr:`claimed` that are in flight; ``None`` if the database cannot say."""
        return self._probe(self.claimed)

    @property
    def interrupted(self) -> frozenset[int] | None:
        """Those of :attr:`claimed` that are not."""
        return None if self.in_flight is None else frozenset(self.claimed) - self.in_flight

    @property
    def figures(self) -> list[tuple[Any, str, str]]:
        """Titles, figures and names of styles, for the line above the list."""
        if self.in_flight is None or self.interrupted is None:
            claimed = [(_("In flight or interrupted"), len(self.claimed), "claimed")]
        else:
            claimed = [
                (_("In flight"), len(self.in_flight), "in-flight"),
                (_("Interrupted"), len(self.interrupted), "interrupted"),
            ]
        figures = [(title, self._so_far(count), name) for title, count, name in claimed]
        completed = (_("Completed"), self._completed(), "completed")
        return [*figures, completed, *self._replays()]

    def _so_far(self, count: int) -> str:
        shown = number(count)
        if self.is_more:
            text = gettext("%(count)s among the newest %(limit)s")
            return text % {"count": shown, "limit": number(self.limit + 1)}
        if self.is_partial:
            text = gettext("%(count)s in the newest %(limit)s records")
            return text % {"count": shown, "limit": number(WIDTH)}
        return shown

    def _completed(self) -> str:
        count = self.table_statistics.count
        if count is None:
            return at_most(COUNTED + 1, COUNTED)
        shown = number(max(0, count - len(self.claimed)))
        return (
            shown
            if self.table_statistics.is_exact
            else gettext("about %(count)s") % {"count": shown}
        )

    @staticmethod
    def _replays() -> Iterator[tuple[Any, str, str]]:
        """What the app that counts replays says, if it is installed."""
        app = apps.app_configs.get("django_idempotency_replays")
        if app is None:
            return
        try:
            counts: Any = app.get_model("ReplayCount")
            served = counts.served()
        except DatabaseError:  # its table may be elsewhere, or not made yet
            text = gettext("unknown")
        else:
            text = gettext("%(today)s today, %(total)s in all") % {
                "today": number(served.today),
                "total": number(served.total),
            }
        yield _("Replays served"), text, "replays"

    def tell(self, records: Iterable[Any]) -> None:
        """Set ``in_flight`` on records: true, false, or ``None`` if unknown or not claimed."""
        records = list(records)
        claimed = [record.pk for record in records if record.state == State.CLAIMED]
        known = {pk for pk in self.claimed if self.in_flight is not None}
        if set(claimed) - known:
            self._probe([pk for pk in claimed if pk not in known])
        for record in records:
            record.in_flight = self._in_flight.get(record.pk)

    def _probe(self, ids: list[int]) -> frozenset[int] | None:
        locked = DatabaseStore(self.using).locked(ids)
        if locked is not None:
            self._in_flight.update({pk: pk in locked for pk in ids})
        return locked


_KEPT = "_idempotency_overview"
