"""Keys that are likely to come a second time for something else.

A key is to be unique among all that its caller ever sends. That cannot be seen in one key, but in
several of the same caller.
"""

import re
from collections import Counter
from collections.abc import Callable, Collection
from enum import StrEnum
from math import log2

ENOUGH = 5
"""Keys of a caller that are needed to say something about them."""

_MOST = 0.8
"""Part of the keys that must be alike."""

_BITS = 48
"""Of a random key: with fewer, two among some million keys are equal by chance
(https://en.wikipedia.org/wiki/Birthday_problem)."""

_GAP = 100
"""Between the numbers of a counter that other requests use up, too."""

_NUMBERED = re.compile(r"(.*?)([0-9]{1,18})([^0-9]*)")
_DATE = re.compile(r"20[0-9]{2}([-/.]?)[01][0-9]\1[0-3][0-9]")
_SECONDS = re.compile(r"1[5-9][0-9]{8}(?:[0-9]{3})?(?:[0-9]{3})?")
"""A time since 1970 in seconds, milliseconds or microseconds, from 2017 to 2033."""

_ALPHABETS = ((10, "0-9"), (16, "0-9a-fA-F-"), (36, "0-9a-z_-"), (62, "0-9A-Za-z_-"))
_REST = 4
"""Characters beside a time that still let it decide."""


class Weakness(StrEnum):
    """What is wrong with the keys of a caller."""

    COUNTER = "counter"
    TIME = "time"
    SHORT = "short"


def weakness_of(keys: Collection[str]) -> Weakness | None:
    """Return what is wrong with keys, or ``None``.

    :param keys: of one caller, all different
    """
    if len(keys) < ENOUGH:
        return None
    if _most(keys, _is_time):
        return Weakness.TIME
    if _count(keys):
        return Weakness.COUNTER
    return Weakness.SHORT if _most(keys, _is_short) else None


def _most(keys: Collection[str], is_one: Callable[[str], bool]) -> bool:
    return sum(map(is_one, keys)) >= _MOST * len(keys)


def _is_time(key: str) -> bool:
    found = _SECONDS.search(key) if key.isdecimal() else _DATE.search(key)
    if found is None:
        found = _SECONDS.search(key)
    rest = "" if found is None else key.replace(found[0], "", 1)
    # A time of day may follow; whatever else does tells keys of one moment apart.
    return found is not None and len(re.sub(r"[T:.Z+ -]|[0-9]{2}", "", rest)) <= _REST


def _count(keys: Collection[str]) -> bool:
    numbers: dict[tuple[str, str], list[int]] = {}
    for match in filter(None, map(_NUMBERED.fullmatch, keys)):
        numbers.setdefault((match[1], match[3]), []).append(int(match[2]))
    series = max(numbers.values(), key=len, default=[])
    if len(series) < _MOST * len(keys):
        return False
    return max(series) - min(series) <= _GAP * len(series)


def _is_short(key: str) -> bool:
    sizes = (size for size, letters in _ALPHABETS if re.fullmatch(f"[{letters}]+", key))
    return len(Counter(key)) <= 1 or len(key) * log2(next(sizes, 95)) < _BITS
