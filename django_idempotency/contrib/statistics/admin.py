"""The page "Statistics" beside the admin's list of records."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any

from django.db import DatabaseError, transaction
from django.forms import Media
from django.http import HttpRequest, HttpResponse
from django.utils.formats import date_format, number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timezone import get_current_timezone, get_current_timezone_name
from django.utils.translation import gettext, pgettext
from django.utils.translation import gettext_lazy as _

from ...admin import pages
from ...admin.actions import page
from ...admin.presentation import breakable, number, table
from ...admin.runbooks import explained
from . import charts, reading
from .figures import LARGEST, LIMITS, OTHER, OUTCOMES, RANGES, UNPROTECTED, WITHOUT_KEY
from .models import IdempotencyStatistics
from .reading import Period, named

TITLES = {
    "executed": _("executed"),
    "recovered": _("recovered"),
    "replayed": _("replayed"),
    "conflict": _("conflict"),
    "mismatch": _("mismatch"),
    "interrupted": _("interrupted"),
    "refused": _("refused"),
    "failed_open": _("failed open"),
    UNPROTECTED: _("unprotected"),
}
"""From the bottom of a bar to its top: what is usual comes first."""

RUNBOOKS = {
    "recovered": "attempt-recovered",
    "mismatch": "key-reused",
    "interrupted": "attempt-recovered",
    "failed_open": "failed-open",
}
"""What to do about outcomes that are not as usual."""

_ROOM = 6
"""Bars from one tick to the next."""


def statistics(model_admin: Any, request: HttpRequest) -> HttpResponse:
    """Show how requests ended, by charts with their numbers as tables."""
    try:
        # An error leaves the block of ATOMIC_REQUESTS usable.
        with transaction.atomic(IdempotencyStatistics.alias()):
            shown = _figures()
    except DatabaseError:
        shown = {"is_missing": True}
    css = Media(css={"all": ("django_idempotency/pages.css",)})
    context = {"title": _("Statistics"), "media": model_admin.media + css, **shown}
    return page(model_admin, request, "statistics", context)


PAGES = (pages.Page("statistics", _("Statistics"), statistics),)

for _page in PAGES:
    pages.register(_page)


def _figures() -> dict[str, Any]:
    since = reading.counted_since()
    if since is None:
        return {"since": None}
    hours, days = reading.last_hours(), reading.last_days()
    return {
        "since": date_format(since.date()),
        "zone": get_current_timezone_name(),
        "patterns": charts.patterns(TITLES),
        "sections": [_outcomes("hours", _("Last 24 hours"), hours, _hour), _last_days(days)],
        "views": _views(),
        "keys": _keys(days),
        "guard": _guard(hours, days),
    }


def _last_days(days: Period) -> dict[str, Any]:
    return _outcomes("days", _("Last 30 days"), days, _day)


def _hour(time: datetime) -> str:
    return date_format(time.astimezone(get_current_timezone()), "H:i")


def _day(time: datetime) -> str:
    return date_format(time.astimezone(UTC), pgettext("a day in a chart", "j M"))


def _outcomes(name: str, title: Any, period: Period, labelled: Any) -> dict[str, Any]:
    """Return the bars of a period, their legend, and their table: of what has occurred."""
    total = named(period.total)
    names = [each for each in TITLES if total[each]]
    series = [charts.Series(each, TITLES[each]) for each in names]
    columns = [[named(numbers)[each] for each in names] for _, numbers in period.bars]
    labels = [labelled(time) for time, _ in period.bars]
    described = gettext("Requests with a key: %(requests)s. %(parts)s.") % {
        "requests": number(int(sum(total[each] for each in names))),
        "parts": ", ".join(f"{TITLES[each]} {number(int(total[each]))}" for each in names),
    }
    drawn = charts.chart(name, title, described, series, _bars(labels, columns))
    return {
        "title": title,
        "chart": drawn if names else None,
        "legend": [
            (charts.swatch(each), TITLES[each], _count(each, total[each])) for each in names
        ],
        "table": _numbers([TITLES[each] for each in names], labels, columns),
    }


def _count(name: str, count: float) -> Any:
    shown = format_html("<strong>{}</strong>", number(int(count)))
    return explained(shown, RUNBOOKS.get(name))


def _bars(labels: Sequence[str], columns: Iterable[Sequence[float]]) -> list[charts.Bar]:
    last = len(labels) - 1
    ticks = {*range(0, last - _ROOM // 2, _ROOM), last}
    return [
        charts.Bar(label, values, label if index in ticks else "")
        for index, (label, values) in enumerate(zip(labels, columns, strict=True))
    ]


def _numbers(
    titles: Iterable[Any], labels: Iterable[str], columns: Iterable[Sequence[float]]
) -> SafeString:
    rows = [
        [label, *(number(int(value)) for value in values)]
        for label, values in zip(labels, columns, strict=True)
    ]
    return table([_("time"), *titles], rows)


def _views() -> SafeString | None:
    """Return the views with most conflicts and mismatches."""
    found = reading.worst_views()
    if not found:
        return None
    titles = (_("view"), TITLES["conflict"], TITLES["mismatch"], _("with a key"))
    rows = [
        (_view(each.name), number(each.conflicts), number(each.mismatches), _percent(each.share))
        for each in found
    ]
    return table(titles, rows)


def _view(name: str) -> Any:
    if name == OTHER:
        return _("other views")
    return format_html("<code>{}</code>", breakable(name)) if name else _("no view")


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{share:.0%}"


def _keys(days: Period) -> dict[str, Any]:
    """Return the share of writes to guarded views that had a key."""
    total = named(days.total)
    shares = [reading.share_with_key(named(numbers)) for _, numbers in days.bars]
    labels = [_day(time) for time, _ in days.bars]
    columns = [[round(100 * (share or 0))] for share in shares]
    title = _("Percentage of requests with a key")
    series = [charts.Series("executed", _("percent with a key"))]
    share = _percent(reading.share_with_key(total))
    counts = {
        "share": share,
        "keyed": number(int(sum(total[name] for name in OUTCOMES))),
        "without": number(int(total[WITHOUT_KEY])),
    }
    text = gettext(
        "%(share)s of the writes to guarded views had a key in the last 30 days: %(keyed)s with, "
        "%(without)s without."
    )
    told = text % counts
    rows = [(label, _percent(share)) for label, share in zip(labels, shares, strict=True)]
    return {
        "text": told,
        "chart": charts.chart("keys", title, told, series, _bars(labels, columns), top=100),
        "table": table((_("time"), title), rows),
    }


def _guard(hours: Period, days: Period) -> dict[str, Any]:
    """Return how long the guard took."""
    total = named(days.total)
    columns = [[total[name]] for name in RANGES]
    labels = [_at_most(limit) for limit in (*LIMITS, None)]
    ticks = [_time(LIMITS[0]), *map(str, LIMITS[1:-1]), _time(LIMITS[-1]), labels[-1]]
    title, measured = _("Requests by what the guard added"), _("requests")
    bars = [charts.Bar(*each) for each in zip(labels, columns, ticks, strict=True)]
    rows = zip(
        (_("mean"), _("half of the requests"), _("95 %"), _("99 %"), _("longest")),
        *(_durations(named(period.total)) for period in (hours, days)),
        strict=True,
    )
    series = [charts.Series("executed", measured)]
    return {
        "chart": charts.chart("guard", title, "", series, bars),
        "summary": table((_("duration"), _("last 24 hours"), _("last 30 days")), rows),
        "table": _numbers([measured], labels, columns),
    }


def _durations(total: dict[str, float]) -> list[str]:
    mean = reading.mean(total)
    if mean is None:
        return ["-"] * 5
    limits = (_at_most(reading.limit_of(total, part)) for part in (0.5, 0.95, 0.99))
    return [_milliseconds(mean), *limits, _milliseconds(total[LARGEST])]


def _at_most(limit: int | None) -> str:
    sign, milliseconds = (">", LIMITS[-1]) if limit is None else ("≤", limit)
    return f"{sign}\N{NO-BREAK SPACE}{_time(milliseconds)}"


def _milliseconds(seconds: float) -> str:
    return _time(round(seconds * 1000, 1 if seconds < 0.01 else None))


def _time(milliseconds: float) -> str:
    """Return a duration that no line breaks."""
    if milliseconds >= 1000:
        return f"{number_format(f'{milliseconds / 1000:.3g}')}\N{NO-BREAK SPACE}s"
    return f"{number_format(f'{milliseconds:.3g}')}\N{NO-BREAK SPACE}ms"
