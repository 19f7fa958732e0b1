"""Resumable handlers, for clients that never come back."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic

from ...adapters.resumed import resume
from ...compat.django import close_broken_connections
from ...conf.policy import Policy
from ...contract.endpoints import policy_to_resume, resumable_handlers
from ...guard.resuming import Resumed
from ...stores.database.interrupted import ResumableOperation, resumable_operations
from .base import Work

Tell = Callable[[str], None]

LOOKS = 10
"""How often a service looks for operations, in the time that they must have waited for: no index
finds them on each database."""


class ResumableWork(Work):
    """Interrupted operations whose views declare a handler that finishes them.

    :param older_than: how long ago an attempt must have started
    :param show: shows progress
    :param complain: tells people what has failed
    """

    nameless_because = "no view, or no single policy, has these handlers"

    def __init__(self, using: str, older_than: timedelta, show: Tell, complain: Tell) -> None:
        super().__init__(using)
        self._older_than, self._show, self._complain = older_than, show, complain
        self._handlers = resumable_handlers(using)
        self._counts: Counter[str] = Counter()
        self._resting: dict[tuple[int, int], float] = {}
        self._next_look = monotonic()

    def listed(self, limit: int) -> Iterator[str]:
        for _, (each, _policy) in zip(range(limit), self._due(), strict=False):
            yield f"{each.record_id}  {each.method} {each.path}  {each.handler}"

    def run(self, limit: int, is_stopped: Callable[[], bool]) -> bool:
        """Run handlers. An operation that could not start does not count: the next round finds it
        first again, and would never get to the others."""
        self._counts.clear()
        now, wait = monotonic(), self._older_than.total_seconds()
        if now < self._next_look:
            return False
        self._resting = {each: end for each, end in self._resting.items() if end > now}
        for operation, policy in self._due():
            resumed = self._resume(operation, policy)
            self._counts[resumed] += 1
            if resumed is not Resumed.DONE:
                # A service would meet it at every look, and ask its resolver each time.
                self._resting[operation.record_id, operation.attempt] = now + wait
            ran = self._counts[Resumed.DONE] + self._counts[Resumed.FAILED]
            if ran >= limit or is_stopped():
                return self._counts[Resumed.DONE] > 0
        self._next_look = now + wait / LOOKS
        return False

    def _due(self) -> Iterator[tuple[ResumableOperation, Policy]]:
        """Yield what may run, oldest first. Some may be in flight."""
        self.nameless = Counter()
        for each in resumable_operations(self.using, self._older_than):
            policy = policy_to_resume(each, self._handlers, self.using)
            if policy is None:
                self.nameless[each.handler] += 1
            elif (each.record_id, each.attempt) not in self._resting:
                yield each, policy

    def _resume(self, each: ResumableOperation, policy: Policy) -> Resumed:
        name = f"Record {each.record_id}: {each.method} {each.path}"
        self._show(name)
        resumed = resume(each, policy, self.using)
        close_broken_connections()
        if resumed in {Resumed.FAILED, Resumed.IMPOSSIBLE}:
            self._complain(f"{name} failed; the log says why.")
        return resumed

    @property
    def has_done_something(self) -> bool:
        return self._counts.total() > self._counts[Resumed.SKIPPED]

    @property
    def has_failed(self) -> bool:
        return self._counts[Resumed.FAILED] + self._counts[Resumed.IMPOSSIBLE] > 0

    def done(self) -> str:
        done, failed, impossible, skipped = (self._counts[each] for each in Resumed)
        return (
            f'Resumed {done} operations in database "{self.using}" (failed: {failed}; could not '
            f"start: {impossible}; skipped because in flight, resolved or still unknown: "
            f"{skipped})."
        )
