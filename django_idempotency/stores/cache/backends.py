"""Where single records are kept, and what is done to one at a time; how Redis does it."""

from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Protocol

from ...extras import require
from ...protocol.record import Claim, State
from . import scripts


@dataclass(frozen=True, slots=True)
class Cell:
    """A record as one step saw it, and as the step left it."""

    id: int
    state: State
    attempt: int
    fingerprint: str
    response: bytes | None
    is_held: bool = False
    is_expired: bool = False
    is_tombstone: bool = False


@dataclass(frozen=True, slots=True)
class Seen:
    """A record that somebody only looked at.

    :ivar is_open: an attempt has not said how it ended
    :ivar expires: seconds since the epoch
    """

    cell: Cell
    is_open: bool
    expires: float


@dataclass(frozen=True, slots=True)
class Taken:
    """A record that nobody else holds.

    :ivar attempt: number of the attempt before us
    :ivar holder: our number among all who have held the record
    :ivar is_open: that attempt has not said how it ended
    """

    state: State
    attempt: int
    holder: int
    is_open: bool
    response: bytes | None


class RecordBackend(Protocol):
    """Each step is atomic. All may raise :class:`~.base.Outage`.

    :meth:`complete` and :meth:`release` do nothing, and return ``False``, unless the record is
    claimed and its last attempt has the given number; :meth:`renew` unless this holder has it, or
    nobody has and this attempt is the last one.
    """

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> Cell: ...

    def look(self, name: str) -> Seen | None: ...

    def take(self, name: str, record_id: int, lease: timedelta) -> Taken | None: ...

    def start(
        self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta
    ) -> int | None: ...

    def renew(
        self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta
    ) -> bool: ...

    def complete(
        self, name: str, record_id: int, attempt: int, response: bytes, retention: timedelta
    ) -> bool: ...

    def release(
        self, name: str, record_id: int, attempt: int, holder: int, is_open: bool | None
    ) -> bool: ...


class RedisBackend:
    """In Redis, by scripts.

    :param alias: of a cache made by django-redis
    """

    def __init__(self, alias: str) -> None:
        require("django_redis", "redis", 'The store "cache"')
        from .redis import Redis

        self._redis = Redis(alias)

    def claim(self, name: str, record_id: int, claim: Claim, lease: timedelta) -> Cell:
        times = (_milliseconds(each) for each in (lease, claim.retention, claim.tombstone))
        about = (claim.fingerprint, claim.method, claim.path)
        return _cell(self._redis.run(scripts.CLAIM, name, record_id, *times, *about))

    def look(self, name: str) -> Seen | None:
        found = self._redis.run(scripts.LOOK, name)
        if not found:
            return None
        *cell, is_open, expires = found
        return Seen(_cell(cell), is_open == b"1", int(expires) / 1000)

    def take(self, name: str, record_id: int, lease: timedelta) -> Taken | None:
        found = self._redis.run(scripts.TAKE, name, record_id, _milliseconds(lease), "")
        state, attempt, holder, is_open, response = found
        if state is None:
            return None
        return Taken(State(state.decode()), int(attempt), int(holder), is_open == b"1", response)

    def start(
        self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta
    ) -> int | None:
        ours = (record_id, attempt, holder, _milliseconds(lease))
        return int(self._redis.run(scripts.START, name, *ours)) or None

    def renew(self, name: str, record_id: int, attempt: int, holder: int, lease: timedelta) -> bool:
        ours = (record_id, attempt, holder, _milliseconds(lease))
        return bool(self._redis.run(scripts.RENEW, name, *ours))

    def complete(
        self, name: str, record_id: int, attempt: int, response: bytes, retention: timedelta
    ) -> bool:
        ours = (record_id, attempt, response, _milliseconds(retention))
        return bool(self._redis.run(scripts.COMPLETE, name, *ours, at_once=True))

    def release(
        self, name: str, record_id: int, attempt: int, holder: int, is_open: bool | None
    ) -> bool:
        ours = (record_id, attempt, holder, "" if is_open is None else int(is_open))
        return bool(self._redis.run(scripts.RELEASE, name, *ours, at_once=True))


def _cell(found: list[Any]) -> Cell:
    found_id, state, attempt, fingerprint, response, *flags = found
    return Cell(
        int(found_id),
        State(state.decode()),
        int(attempt),
        fingerprint.decode(),
        response,
        *(bool(flag) for flag in flags),
    )


def _milliseconds(duration: timedelta) -> int:
    return duration // timedelta(milliseconds=1)
