"""Work for ``run_idempotent_work``: resumable handlers, for clients that never come back."""

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import timedelta
from time import monotonic

from django.db import connections

from ..adapters.resumed import resume
from ..conf.policy import Policy
from ..contract.endpoints import policy_to_resume, resumable_handlers
from ..guard.resuming import Resumed
from ..stores.database.interrupted import ResumableOperation, resumable_operations

Tell = Callable[[str], None]


class ResumableWork:
    """Interrupted operations whose views declare a handler that finishes them.

    :param older_than: how long ago an attempt must have started
    :param show: shows progress
    :param complain: tells people that something needs them
    :ivar counts: what became of operations, in the last round
    :ivar orphans: operations whose handler no view declares, by its name, in the last round
    """

    def __init__(self, using: str, older_than: timedelta, show: Tell, complain: Tell) -> None:
        self.using, self._older_than = using, older_than
        self._show, self._complain = show, complain
        self._handlers = resumable_handlers(using)
        self._resting: dict[tuple[int, int], float] = {}
        self.counts: Counter[str] = Counter()
        self.orphans: Counter[str] = Counter()
        self._orphans_before: Counter[str] = Counter()

    def due(self) -> Iterator[tuple[ResumableOperation, Policy]]:
        """Yield what may run, oldest first. Some may be in flight."""
        now = monotonic()
        self.orphans.clear()
        self._resting = {each: end for each, end in self._resting.items() if end > now}
        for each in resumable_operations(self.using, self._older_than):
            policy = policy_to_resume(each, self._handlers, self.using)
            if policy is None:
                self.orphans[each.handler] += 1
            elif (each.record_id, each.attempt) not in self._resting:
                yield each, policy

    def run(self, limit: int, is_stopped: Callable[[], bool]) -> bool:
        """Run handlers until nothing is left.

        :param limit: maximum number of handlers to run. An operation that could not start does not
            count: the next round finds it first again, and would never get to the others.
        :return: whether the next round may find more at once
        """
        self.counts.clear()
        self._orphans_before = self.orphans.copy()
        for operation, policy in self.due():
            resumed = self._resume(operation, policy)
            self.counts[resumed] += 1
            if resumed is not Resumed.DONE:
                # A service would meet it in every round, and ask its resolver each time.
                end = monotonic() + self._older_than.total_seconds()
                self._resting[operation.record_id, operation.attempt] = end
            ran = self.counts[Resumed.DONE] + self.counts[Resumed.FAILED]
            if ran >= limit or is_stopped():
                return self.counts[Resumed.DONE] > 0
        return False

    def _resume(self, each: ResumableOperation, policy: Policy) -> Resumed:
        name = f"Record {each.record_id}: {each.method} {each.path}"
        self._show(name)
        resumed = resume(each, policy, self.using)
        # A handler may leave a broken connection behind: the next one must not meet it.
        for connection in connections.all(initialized_only=True):
            if not connection.in_atomic_block:  # as in a test case
                connection.close_if_unusable_or_obsolete()
        if resumed in {Resumed.FAILED, Resumed.IMPOSSIBLE}:
            self._complain(f"{name} failed; the log says why.")
        return resumed

    @property
    def needs_people(self) -> bool:
        """Whether something is left that only people can change."""
        failed = self.counts[Resumed.FAILED] + self.counts[Resumed.IMPOSSIBLE]
        return bool(self.orphans or failed)

    @property
    def has_news(self) -> bool:
        """Whether the last round has run something, or met handlers that the one before had not."""
        ran = any(self.counts[each] for each in Resumed if each is not Resumed.SKIPPED)
        return ran or self.orphans != self._orphans_before

    def summary(self) -> str:
        """Return what the last round has done."""
        done, failed, impossible, skipped = (self.counts[each] for each in Resumed)
        return (
            f'Resumed {done} operations in database "{self.using}" (failed: {failed}; could not '
            f"start: {impossible}; skipped because in flight, resolved or still unknown: "
            f"{skipped}).{self.left_alone()}"
        )

    def left_alone(self) -> str:
        """Return which handlers no view declares, as a sentence, or nothing."""
        if not self.orphans:
            return ""
        names = ", ".join(f"{name} ({count})" for name, count in sorted(self.orphans.items()))
        return f" Left alone, because no view, or no single policy, has {names}."
