"""Effects without an operation: in ``atomic()``, and in requests without a key."""

from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.db import connection, transaction

from django_idempotency.effects import EffectError, aafter_commit, after_commit
from django_idempotency.effects.runner import run_due
from django_idempotency.guard.status import NO_KEY
from tests.support import effects
from tests.support.counting import counted
from tests.support.effects import down, later, send, sent, states, the_only

pytestmark = pytest.mark.django_db(transaction=True)


@contextmanager
def undone() -> Iterator[None]:
    """A block whose code raises in the end."""
    with suppress(effects.Down), transaction.atomic():
        yield
        raise effects.Down


class TestInABlock:
    def test_it_is_stored_at_once_and_runs_after_the_commit(self) -> None:
        with transaction.atomic():
            key = after_commit(send)
            assert (the_only().state, str(the_only().key), sent) == ("pending", key, [])
        assert (the_only().state, sent, effects.keys) == ("done", ["mail"], [key])

    def test_a_rollback_forgets_it(self) -> None:
        with undone():
            after_commit(send)
        assert (sent, effects.effects()) == ([], [])

    def test_so_does_the_rollback_of_an_inner_block(self) -> None:
        with transaction.atomic():
            after_commit(send, 1)
            with undone():
                after_commit(send, 2)
            after_commit(send, 3)
        assert (sent, states()) == ([1, 3], ["done", "done"])

    def test_effects_of_a_block_are_marked_together(self) -> None:
        with counted() as one, transaction.atomic():
            after_commit(send, 1)
        with counted() as three, transaction.atomic():
            [after_commit(send, number) for number in range(3)]
        # Each is inserted and taken; the mark is one.
        assert (one.statements, three.statements) == (3, 7)

    def test_a_worker_may_be_faster(self) -> None:
        """The block may have been open for longer than any lease."""
        with transaction.atomic():
            after_commit(send)
            transaction.on_commit(lambda: effects.void(run_due("default")))
            connection.run_on_commit.reverse()
        assert (sent, the_only().tries) == (["mail"], 1)

    def test_keys_are_not_repeated(self) -> None:
        with transaction.atomic():
            assert after_commit(send) != after_commit(send)


class TestOutside:
    def test_it_is_an_error(self) -> None:
        with pytest.raises(EffectError, match=r"outside of any transaction of database 'default'"):
            after_commit(send)
        assert (sent, effects.effects()) == ([], [])

    def test_not_for_a_request_without_a_key(self) -> None:
        key = NO_KEY.after_commit(send, "receipt")
        assert (sent, str(the_only().key), the_only().state) == (["receipt"], key, "done")
        with counted() as count:
            NO_KEY.after_commit(send)
        assert count.statements == 2

    def test_whose_effect_may_fail_without_harm(self) -> None:
        with down():
            NO_KEY.after_commit(send)
        assert (the_only().state, the_only().error) == ("pending", "Down")

    def test_or_be_for_the_worker(self) -> None:
        NO_KEY.after_commit(later)
        assert sent == []
        assert run_due("default").done == 1

    def test_in_its_transaction_it_shares_its_fate(self) -> None:
        with undone():
            NO_KEY.after_commit(send)
        assert (sent, effects.effects()) == ([], [])

    def test_in_async_code(self) -> None:
        async def stage() -> None:
            await NO_KEY.aafter_commit(effects.asend, "receipt")
            with pytest.raises(EffectError, match=r"outside of any transaction"):
                await aafter_commit(send)
            for sync in (after_commit, NO_KEY.after_commit):
                with pytest.raises(EffectError, match=r"send\).*await aafter_commit\(\) instead"):
                    sync(send)

        async_to_sync(stage)()
        assert (sent, states()) == (["receipt"], ["done"])

    def test_without_autocommit(self) -> None:
        transaction.set_autocommit(False)
        try:
            with pytest.raises(EffectError, match=r"outside of any transaction"):
                NO_KEY.after_commit(send)
        finally:
            transaction.rollback()
            transaction.set_autocommit(True)


def test_the_app_is_optional(settings: Any) -> None:
    from django.core.exceptions import ImproperlyConfigured

    settings.INSTALLED_APPS = [
        each for each in settings.INSTALLED_APPS if each != "django_idempotency.effects"
    ]
    with (
        pytest.raises(ImproperlyConfigured, match=r'add "django_idempotency.effects" to INSTALLED'),
        transaction.atomic(),
    ):
        after_commit(send)
