"""Times and durations as text and HTML: with seconds and zone, to be compared with logs."""

from datetime import datetime, timedelta
from typing import Any

from django.utils.formats import number_format
from django.utils.html import format_html
from django.utils.safestring import SafeString
from django.utils.timesince import timesince
from django.utils.timezone import get_default_timezone, is_aware, localtime, now
from django.utils.translation import gettext, ngettext

_MINUTE = timedelta(minutes=1)


def moment(time: datetime) -> str:
    """Return a time in the reader's zone, such as ``2026-03-04 23:30:07 UTC``.

    It is the same in every language: people copy it into a search of logs.
    """
    # Without zones, the database's times are those of TIME_ZONE.
    local = localtime(time) if is_aware(time) else time.replace(tzinfo=get_default_timezone())
    return f"{local:%Y-%m-%d %H:%M:%S %Z}"


def distance(time: datetime) -> str:
    """Return how far away a time is: ``12 seconds`` or ``3 hours``."""
    present = now()
    length = abs(present - time)
    if length >= _MINUTE:
        return timesince(present - length, present, depth=1)
    count = int(length.total_seconds())
    return ngettext("%(count)s second", "%(count)s seconds", count) % {"count": count}


def away(time: datetime) -> str:
    """Return how long ago a time is, or how long it is until then."""
    words = gettext("in %(time)s") if time > now() else gettext("%(time)s ago")
    return words % {"time": distance(time)}


def age(time: datetime) -> SafeString:
    """Return how long ago a time is and, below it, the time itself."""
    return _two_lines(distance(time), time)


def until(time: datetime) -> SafeString:
    """Return how long it is until a time, or how long ago, and, below it, the time itself."""
    return _two_lines(away(time), time)


def _two_lines(words: str, time: datetime) -> SafeString:
    day, _, rest = moment(time).partition(" ")
    return format_html(
        '<time class="idempotency-time" datetime="{}">{} '
        '<span class="idempotency-exact"><span>{}</span> <span>{}</span></span></time>',
        time.isoformat(),
        words,
        day,
        rest,
    )


def full(time: datetime | None) -> SafeString | None:
    """Return a time and how far away it is, in one line."""
    if time is None:
        return None
    return format_html(
        '<time datetime="{}">{}</time> ({})', time.isoformat(), moment(time), away(time)
    )


def duration(length: timedelta) -> str:
    """Return a duration: in milliseconds below a second, else to the tenth of a second."""
    seconds: Any = length.total_seconds()
    if seconds < 1:
        return gettext("%(count)s ms") % {"count": number_format(round(seconds * 1000))}
    if seconds < 60:
        return gettext("%(count)s s") % {"count": number_format(seconds, 1)}
    minutes, seconds = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, gettext("d")), (hours, gettext("h")), (minutes, gettext("min"))]
    words = [f"{count}\xa0{unit}" for count, unit in parts if count]
    return " ".join([*words, f"{seconds}\xa0s"] if seconds else words)
