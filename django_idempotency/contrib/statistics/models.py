"""How requests ended: one row per view and hour, and one per view and day (UTC)."""

from collections.abc import Collection, Iterator
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import or_
from time import time
from typing import NamedTuple

from django.db import models, router
from django.db.models import Q, Sum
from django.utils.translation import gettext_lazy as _

from ...fields import ExactCharField
from ...protocol.keys import short_scope
from .figures import DAY, HOUR, Reuse, Row, day_of

LONGEST_NAME = 200
"""Characters of a view's name that are kept."""

KEPT = {HOUR: timedelta(days=8), DAY: timedelta(days=400)}
"""How long rows are kept at least, by the hours that they are about."""

RECENT = 30
"""Days that the admin shows, today included."""


_CALLERS = 100
"""Callers, each with a view, that a list names."""


class Served(NamedTuple):
    """Replays of the whole project, from all stores."""

    today: int
    recently: int


class IdempotencyStatistics(models.Model):
    """Numbers of one view in one hour, or one day. Only :func:`.writing.write` writes these rows.

    Times are numbers, so that neither ``USE_TZ`` nor ``TIME_ZONE`` changes what they mean.
    """

    id = models.BigAutoField(primary_key=True)
    hours = models.PositiveSmallIntegerField(_("hours"))
    start = models.PositiveIntegerField(_("hours since 1970"))
    view = ExactCharField(_("view"), max_length=LONGEST_NAME)
    executed = models.PositiveBigIntegerField(_("executed"), default=0)
    recovered = models.PositiveBigIntegerField(_("recovered"), default=0)
    not_done = models.PositiveBigIntegerField(_("not done"), default=0)
    interrupted = models.PositiveBigIntegerField(_("interrupted"), default=0)
    replayed = models.PositiveBigIntegerField(_("replayed"), default=0)
    conflict = models.PositiveBigIntegerField(_("conflict"), default=0)
    mismatch = models.PositiveBigIntegerField(_("mismatch"), default=0)
    refused = models.PositiveBigIntegerField(_("refused"), default=0)
    failed_open = models.PositiveBigIntegerField(_("failed open"), default=0)
    unprotected = models.PositiveBigIntegerField(_("unprotected"), default=0)
    without_key = models.PositiveBigIntegerField(_("without key"), default=0)
    guard_1ms = models.PositiveBigIntegerField(_("guard: up to 1 ms"), default=0)
    guard_2ms = models.PositiveBigIntegerField(_("guard: up to 2 ms"), default=0)
    guard_5ms = models.PositiveBigIntegerField(_("guard: up to 5 ms"), default=0)
    guard_10ms = models.PositiveBigIntegerField(_("guard: up to 10 ms"), default=0)
    guard_20ms = models.PositiveBigIntegerField(_("guard: up to 20 ms"), default=0)
    guard_50ms = models.PositiveBigIntegerField(_("guard: up to 50 ms"), default=0)
    guard_200ms = models.PositiveBigIntegerField(_("guard: up to 200 ms"), default=0)
    guard_1000ms = models.PositiveBigIntegerField(_("guard: up to 1000 ms"), default=0)
    guard_slower = models.PositiveBigIntegerField(_("guard: slower"), default=0)
    guard_seconds = models.FloatField(_("guard: seconds, sum"), default=0)
    guard_longest = models.FloatField(_("guard: seconds, longest"), default=0)

    class Meta:
        verbose_name = _("idempotency statistics")
        verbose_name_plural = _("idempotency statistics")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=Row._fields, name="idempotency_statistics_row"),
        ]

    def __str__(self) -> str:
        return f"{self.view} {self.began:%Y-%m-%d %H:%M} UTC, {self.hours} h"

    @property
    def began(self) -> datetime:
        """When the hour or the day began, in UTC."""
        return time_of(self.start)

    @classmethod
    def rows(cls, using: str | None = None) -> "models.QuerySet[IdempotencyStatistics]":
        """Return all rows of one database.

        :param using: alias; by default the router decides
        """
        return cls._base_manager.using(using or cls.alias())

    @classmethod
    def alias(cls) -> str:
        """Return the alias for writes: a replica may lag."""
        return router.db_for_write(cls)

    @classmethod
    def served(cls) -> Served:
        """Return the replays of today and of the recent days, in one statement."""
        today = today_now()
        recent = cls.rows().filter(hours=DAY, start__gt=today - RECENT * DAY)
        is_today = Q(start=today)
        sums = recent.aggregate(today=Sum("replayed", filter=is_today), all=Sum("replayed"))
        return Served(sums["today"] or 0, sums["all"] or 0)

    @classmethod
    def outdated(cls) -> "models.QuerySet[IdempotencyStatistics]":
        """Return the rows that nobody looks at any more."""
        now, is_old = hour_now(), Q()
        for hours, kept in KEPT.items():
            is_old |= Q(hours=hours, start__lt=now - hours - kept // timedelta(hours=1))
        return cls.rows().filter(is_old)

    @staticmethod
    def purge(size: int) -> Iterator[int]:
        """Remove outdated rows of all tables in batches; yield the size of each.

        :param size: rows in one transaction
        """
        for model in (IdempotencyStatistics, ReusedKeys):
            while ids := list(model.outdated().values_list("pk", flat=True)[:size]):
                yield model.rows().filter(pk__in=ids).delete()[0]


class ReusedKeys(models.Model):
    """How often one caller has sent keys with other requests than before, in one day (UTC).

    Only :func:`.writing.write` writes these rows.
    """

    id = models.BigAutoField(primary_key=True)
    start = models.PositiveIntegerField(_("hours since 1970"))
    view = ExactCharField(_("view"), max_length=LONGEST_NAME)
    scope = ExactCharField(_("scope"), max_length=12)
    times = models.PositiveBigIntegerField(_("times"), default=0)

    class Meta:
        verbose_name = _("reused keys")
        verbose_name_plural = _("reused keys")
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=Reuse._fields, name="idempotency_reused_row"),
        ]

    def __str__(self) -> str:
        return f"{self.scope} {self.view}: {self.times}"

    @classmethod
    def rows(cls, using: str | None = None) -> "models.QuerySet[ReusedKeys]":
        """Return all rows of one database; by default, of that of the statistics."""
        return cls._base_manager.using(using or IdempotencyStatistics.alias())

    @classmethod
    def by_caller(cls) -> list[tuple[str, list[str], int]]:
        """Return the callers with most reused keys of the last 30 days: the digest of each (empty
        for those who were not told apart), the views, and how often."""
        first = today_now() - (RECENT - 1) * DAY
        rows = cls.rows().filter(start__gte=first).values_list("scope", "view")
        found: dict[str, tuple[list[str], int]] = {}
        for scope, view, times in rows.annotate(sum=Sum("times")).order_by("-sum")[:_CALLERS]:
            views, before = found.get(scope, ([], 0))
            found[scope] = [*views, view], before + times
        return [(scope, views, times) for scope, (views, times) in found.items()]

    @classmethod
    def of_scopes(cls, digests: Collection[str]) -> "models.QuerySet[ReusedKeys]":
        """Return the rows of callers, by digests of their scopes, or the first digits of them."""
        is_one = [Q(scope__startswith=short_scope(each)) for each in digests]
        return cls.rows().filter(reduce(or_, is_one)) if is_one else cls.rows().none()

    @classmethod
    def outdated(cls) -> "models.QuerySet[ReusedKeys]":
        """Return the rows that nobody looks at any more."""
        return cls.rows().filter(start__lt=today_now() - (RECENT + 1) * DAY)


def hour_now() -> int:
    """Return the present hour, counted from 1970 on (UTC)."""
    return int(time()) // 3600


def today_now() -> int:
    """Return the first hour of this day (UTC)."""
    return day_of(hour_now())


def time_of(hour: int) -> datetime:
    """Return when an hour began, in UTC."""
    return datetime.fromtimestamp(hour * 3600, UTC)
