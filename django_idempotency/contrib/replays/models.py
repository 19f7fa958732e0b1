"""The number of replays, one row per day."""

from datetime import UTC, date, datetime
from typing import NamedTuple

from django.db import models, router
from django.db.models import F, Q, Sum
from django.utils.translation import gettext_lazy as _


class Served(NamedTuple):
    """Replays of the whole project, from all stores."""

    today: int
    total: int


class ReplayCount(models.Model):
    """Replays of one day (UTC). Only :meth:`add` writes these rows."""

    day = models.DateField(_("day"), primary_key=True)
    count = models.PositiveBigIntegerField(_("count"), default=0)

    class Meta:
        verbose_name = _("replay count")
        verbose_name_plural = _("replay counts")
        default_permissions = ()

    def __str__(self) -> str:
        return f"{self.day}: {self.count}"

    @classmethod
    def add(cls, number: int, using: str | None = None) -> None:
        """Count replays for today: one statement, and two more for the first of a day.

        :param using: alias of the table's database; by default the router decides
        """
        day, rows = _today(), cls._base_manager.using(using or cls.alias())
        if not rows.filter(day=day).update(count=F("count") + number):
            # Another process may insert the row first; both then add their number.
            rows.bulk_create([cls(day=day)], ignore_conflicts=True)
            rows.filter(day=day).update(count=F("count") + number)

    @classmethod
    def served(cls) -> Served:
        """Return the sums of the table, in one statement."""
        is_today = Q(day=_today())
        rows = cls._base_manager.using(cls.alias())
        sums = rows.aggregate(today=Sum("count", filter=is_today), total=Sum("count"))
        return Served(sums["today"] or 0, sums["total"] or 0)

    @classmethod
    def alias(cls) -> str:
        """Return the alias for writes: a replica may lag."""
        return router.db_for_write(cls)


def _today() -> date:
    return datetime.now(UTC).date()
