"""Effects that are due: what could not run right after its commit, or was left to a worker.

To be imported only if the app of effects is installed.
"""

from collections.abc import Callable, Iterator

from ...effects import rows
from ...effects.declaring import known_effects
from ...effects.runner import RunSummary, run_due
from .base import Work


class EffectWork(Work):
    """Effects in the table of one database."""

    nameless_because = "nothing declares these effects"

    def __init__(self, using: str) -> None:
        super().__init__(using)
        self._ran = RunSummary()

    def listed(self, limit: int) -> Iterator[str]:
        known = known_effects()
        self.nameless = rows.unknown(self.using, known)
        for each in rows.due(self.using, known, limit):
            yield f"{each.key}  {each.name}  tries: {each.tries}"

    def run(self, limit: int, is_stopped: Callable[[], bool]) -> bool:
        self._ran = RunSummary()  # of the round before, if this one ends by an error
        self._ran = run_due(self.using, limit=limit, should_stop=is_stopped)
        self.nameless = self._ran.unknown
        return self._ran.done > 0 and self._total >= limit

    @property
    def _total(self) -> int:
        return self._ran.done + self._ran.failed + self._ran.failed_for_good

    @property
    def has_done_something(self) -> bool:
        return self._total > 0

    @property
    def has_failed(self) -> bool:
        return self._ran.failed + self._ran.failed_for_good > 0

    def done(self) -> str:
        return (
            f'Ran {self._ran.done} effects in database "{self.using}" (failed, and tried again '
            f"later: {self._ran.failed}; failed for good: {self._ran.failed_for_good})."
        )
