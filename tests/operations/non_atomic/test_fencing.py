"""I12: an attempt that lost its lock cannot store, release or overwrite anything."""

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from django_idempotency.models import IdempotencyRecord
from django_idempotency.operations.base import InFlight, OutcomeUnknown, Started
from django_idempotency.operations.errors import LostRecord
from django_idempotency.operations.non_atomic import run_again
from django_idempotency.operations.resolution import ManualResolution, ResolutionOutcome
from django_idempotency.operations.row_lock import RowLock
from django_idempotency.protocol.record import Replay, StoredResponse
from django_idempotency.resolving import RUN_AGAIN
from django_idempotency.stores.database.connections import OwnConnections
from django_idempotency.stores.database.step_log import StepLog
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import in_thread, row_locks
from tests.support.holding import CREATED, a_claim, an_operation, kill
from tests.support.holding import interrupt as interrupt_attempt
from tests.support.interruptions import busy


@row_locks
@pytest.mark.django_db(transaction=True)
class TestFencing:
    """I12: losing the lock means losing the right to store."""

    def test_an_attempt_that_lost_its_lock_stores_nothing(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        assert hold.is_held()
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert (winner.attempt, winner.recovered) == (2, True)
        with pytest.raises(LostRecord):
            loser.finish(StoredResponse(200))
        assert winner.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_it_stores_if_nobody_has_followed_yet(self) -> None:
        """Nothing else was done under the key, so its answer is the answer."""
        attempt, hold = an_operation()
        assert attempt.begin() == Started()
        kill(hold)
        assert attempt.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_nor_does_it_while_somebody_decides_what_became_of_it(self) -> None:
        """A retry has the lock, and asks the resolver: that decision counts."""
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)

        def meanwhile(operation: Any) -> Any:
            with pytest.raises(LostRecord):
                in_thread(lambda: loser.finish(CREATED)).result()
            return RUN_AGAIN

        winner, _ = an_operation(meanwhile)
        assert winner.begin() == Started()
        assert winner.finish(StoredResponse(200))

    def test_a_commit_whose_confirmation_was_lost_counts(self, monkeypatch: Any) -> None:
        attempt, hold = an_operation()
        assert attempt.begin() == Started()
        commit = hold._session.commit

        def unconfirmed() -> None:
            commit()
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(hold._session, "commit", unconfirmed)
        assert attempt.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_so_does_a_store_whose_confirmation_was_lost(self, monkeypatch: Any) -> None:
        """The commit travels with it."""
        attempt, hold = an_operation()
        assert attempt.begin() == Started()
        complete = hold._store.complete

        def unconfirmed(*args: Any) -> None:
            complete(*args)
            monkeypatch.undo()
            hold._session.commit()
            raise OperationalError("server closed the connection unexpectedly")

        monkeypatch.setattr(hold._store, "complete", unconfirmed)
        assert attempt.finish(CREATED)
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_an_operator_was_faster_than_a_lost_attempt(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        record = IdempotencyRecord.objects.get()
        assert (
            ManualResolution("default").answer(record.pk, StoredResponse(200), timedelta(hours=1))
            == "done"
        )
        with pytest.raises(LostRecord):
            loser.finish(CREATED)

    def test_a_server_that_is_gone_loses_the_answer_and_says_so(self, monkeypatch: Any) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        with monkeypatch.context() as patch:
            patch.setattr(OwnConnections, "lend", busy)
            with pytest.raises(LostRecord):
                loser.finish(CREATED)
        assert an_operation()[0].begin() == OutcomeUnknown()

    def test_nor_does_it_say_that_nothing_was_done(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        loser.finish(None, nothing_done=True)
        assert StepLog("default").is_open(IdempotencyRecord.objects.get().pk)
        assert winner.finish(CREATED)

    def test_a_lost_lock_does_not_make_nothing_done_an_unknown_outcome(self) -> None:
        operation, hold = an_operation()
        assert operation.begin() == Started()
        kill(hold)
        operation.finish(None, nothing_done=True)
        again, _ = an_operation()
        assert again.begin() == Started()
        assert again.finish(CREATED)

    def test_a_store_that_finds_another_attempt_commits_nothing(self) -> None:
        operation, hold = an_operation()
        assert operation.begin() == Started()
        hold._record = hold._record._replace(attempt=9)
        with pytest.raises(LostRecord):
            operation.finish(CREATED)
        assert IdempotencyRecord.objects.get().state == "claimed"
        assert an_operation()[0].begin() == OutcomeUnknown()

    def test_a_late_store_gives_way_to_a_successor(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        loser.fail(ValueError())
        kill(hold)
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert loser.finish(StoredResponse(404)) is False
        assert winner.finish(CREATED)
        assert loser.finish(StoredResponse(404)) is False
        assert an_operation()[0].begin() == Replay(CREATED)

    def test_an_attempt_that_never_started_is_no_interruption(self) -> None:
        """A crash between claim and start has done nothing, and everybody can know that."""
        assert DatabaseStore("default").claim(a_claim()) is not None
        operation, _ = an_operation()
        assert operation.begin() == Started()
        assert operation.attempt == 2
        assert operation.finish(CREATED)

    def test_a_lock_lost_before_the_start_starts_nothing(self) -> None:
        """Two have taken the record, one after the other; the later one runs."""
        _, slow_hold = an_operation()
        store = DatabaseStore("default")
        claimed = store.claim(a_claim())
        assert claimed is not None
        assert slow_hold.take(claimed, timedelta(0)) is not None
        kill(slow_hold)
        fast, _ = an_operation()
        assert fast.begin() == Started()
        assert slow_hold.start() is None
        assert fast.finish(CREATED)

    def test_an_attempt_that_starts_late_is_not_followed_unseen(self, monkeypatch: Any) -> None:
        """I11: its lock is lost, and it starts after its successor has looked for a start."""
        store = DatabaseStore("default")
        claimed = store.claim(a_claim())
        assert claimed is not None
        _, late = an_operation()
        assert late.take(claimed, timedelta(0)) is not None
        kill(late)
        successor, hold = an_operation(run_again)
        monkeypatch.setattr(hold, "_bump_fencing_token", _after(hold, late))
        assert successor.begin() == InFlight()
        late.release()
        assert an_operation()[0].begin() == OutcomeUnknown()

    def test_an_interruption_is_taken_over_once(self, monkeypatch: Any) -> None:
        """I11: the same, where what is followed is not the attempt that was decided about."""
        first, _ = an_operation()
        assert first.begin() == Started()
        interrupt_attempt(first)
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        _, late = an_operation()
        assert late.take(claimed, timedelta(0)) is not None
        assert late._bump_fencing_token()
        kill(late)
        monkeypatch.setattr(late, "_bump_fencing_token", lambda: True)
        successor, hold = an_operation(run_again)
        monkeypatch.setattr(hold, "_bump_fencing_token", _after(hold, late))
        assert successor.begin() == InFlight()
        late.release()
        assert an_operation()[0].begin() == OutcomeUnknown()

    def test_a_lock_lost_while_taking_over_starts_nothing(self, monkeypatch: Any) -> None:
        """Another is faster between the new number's commit and the lock."""
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        _, hold = an_operation()
        assert hold.take(claimed._replace(fresh=False), timedelta(0)) is not None
        rival, _ = an_operation(run_again)
        commit = hold._session.commit

        def overtaken() -> None:
            commit()
            assert rival.begin() == Started()

        monkeypatch.setattr(hold._session, "commit", overtaken)
        assert hold.start() is None
        assert rival.finish(CREATED)

    def test_an_operator_lets_run_what_another_could_not_take_over(self) -> None:
        """An attempt took a number, and died before it started: the record and the step log name
        different attempts."""
        first, _ = an_operation()
        assert first.begin() == Started()
        interrupt_attempt(first)
        claimed = DatabaseStore("default").claim(a_claim())
        assert claimed is not None
        _, dying = an_operation()
        assert dying.take(claimed, timedelta(0)) is not None
        assert dying._bump_fencing_token()
        kill(dying)
        dying.release()
        assert ManualResolution("default").rerun(claimed.id) is ResolutionOutcome.DONE
        retry, _ = an_operation()
        assert retry.begin() == Started()
        assert retry.finish(CREATED)

    def test_a_released_attempt_cannot_store_after_its_successor(self) -> None:
        loser, hold = an_operation()
        assert loser.begin() == Started()
        hold.release()
        winner, _ = an_operation(run_again)
        assert winner.begin() == Started()
        assert winner.finish(CREATED)
        with pytest.raises(LostRecord):
            loser.finish(StoredResponse(200))

    def test_of_two_first_starts_one_counts(self) -> None:
        """The unique index decides, not a look before it."""
        step_log = StepLog("default")
        assert step_log.start(7, 1)
        assert not step_log.start(7, 1)
        assert not step_log.start(7, 2)
        assert step_log.start(7, 2, last=step_log.look(7))
        assert not step_log.start(7, 1)

    def test_one_of_two_takes_an_interruption_over(self) -> None:
        first, _ = an_operation()
        assert first.begin() == Started()
        interrupt_attempt(first)
        second, _ = an_operation(run_again)
        assert second.begin() == Started()
        assert in_thread(lambda: an_operation(run_again)[0].begin()).result() == InFlight()
        assert second.finish(CREATED)


def _after(hold: RowLock, late: RowLock) -> Callable[[], bool]:
    """Return what takes a number for an attempt, after which a late one starts."""
    bump = hold._bump_fencing_token

    def overtaken() -> bool:
        is_ours = bump()
        assert late.start() is not None
        return is_ours

    return overtaken


@pytest.mark.django_db(transaction=True)
def test_a_record_that_expires_while_it_is_held_is_left_alone() -> None:
    """I14: by the purge, and by duplicates."""
    store = DatabaseStore("default")
    record = store.claim(a_claim()._replace(retention=timedelta(microseconds=1)))
    assert record is not None
    _, hold = an_operation()
    assert hold.take(record, timedelta(0)) is not None
    assert sum(store.purge(10)) == 0
    assert an_operation()[0].begin() == InFlight()
    hold.release()
    assert sum(store.purge(10)) == 1
