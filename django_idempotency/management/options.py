"""Options that commands have in common."""

import re
from datetime import timedelta

from django.core.management.base import CommandError
from django.db import connections, router

from ..conf.settings import configuration
from ..models import IdempotencyRecord

_UNITS = {"ms": 0.001, "": 1, "s": 1, "m": 60, "h": 3600, "d": 86400}
_LONGEST = timedelta(days=3660)


def duration(option: str, value: object) -> timedelta:
    """Return what was given, for example ``90``, ``30m`` or ``7d``.

    :raises CommandError: if it is something else
    """
    match = re.fullmatch(r"([0-9]{1,12})(ms|[smhd]?)", str(value), re.ASCII)
    if match is None:
        raise CommandError(
            f"{option}: {value!r} is not a duration. Give seconds, or a whole number with a "
            "unit: 90, 50ms, 30m, 12h, 7d."
        )
    duration = timedelta(seconds=int(match[1]) * _UNITS[match[2]])
    if duration > _LONGEST:
        raise CommandError(f"{option}: {value!r} is too long. Give at most {_LONGEST.days}d.")
    return duration


def number(option: str, value: object, unit: str, highest: int) -> int:
    """Return a whole number from one on.

    :param unit: what it says, for people: "a number of records"
    :raises CommandError: if it is something else
    """
    text = str(value)
    if re.fullmatch(r"[0-9]{1,19}", text, re.ASCII) and 1 <= int(text) <= highest:
        return int(text)
    raise CommandError(
        f"{option}: {value!r} is not {unit}. Give a whole number from 1 to {highest}."
    )


def alias(value: str | None) -> str:
    """Return the alias of a database: the one given, or where guarded views keep their records.

    :raises CommandError: if there is no such database
    """
    found = value or configuration().policy.using or router.db_for_write(IdempotencyRecord)
    if found not in connections:
        known = ", ".join(connections)
        raise CommandError(
            f"--database: there is no database {found!r} in DATABASES. Give one of: {known}."
        )
    return found
