"""Processes that are killed between the commit and the end of its effects (I19).

``proof/effect_crashes.py`` enumerates all points; these are the moments that count.
"""

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import patch

import pytest

from django_idempotency.effects import runner
from django_idempotency.effects.models import IdempotencyEffect
from proof import crashes, outside
from proof.effect_crashes import Attempt, command
from proof.interleavings import Clock
from proof.outside import WAYS, Seen, Way

pytestmark = [pytest.mark.processes, pytest.mark.django_db(transaction=True)]

every_way = pytest.mark.parametrize("way", WAYS, ids=str)


@pytest.fixture
def time() -> Iterator[Clock]:
    """Leases end when the test says so."""
    outside.forget()
    with Clock() as time:
        yield time


def is_killed(where: Any, name: str, when: Callable[..., bool], send: Any) -> bool:
    """Send a request in a process that is killed in a function, before it does anything."""
    original = getattr(where, name)

    def function(*args: Any, **kwargs: Any) -> Any:
        if when(*args):
            os.kill(os.getpid(), signal.SIGKILL)
        return original(*args, **kwargs)

    with patch.object(where, name, function):
        ended = crashes.in_child(Attempt(crashes.nothing, -1, send))
    return not ended.is_complete


def always(*args: Any) -> bool:
    return True


def marks_the_mail(using: str, keys: list[str], tries: int) -> bool:
    return IdempotencyEffect.objects.filter(pk__in=keys, name="proof.mail").exists()


@every_way
def test_a_client_that_never_comes_back(way: Way, time: Clock) -> None:
    """Killed after the commit, before the first effect: the command does the rest."""
    with way.surrounded():
        assert is_killed(runner, "call", always, way.send)
        outside.work()
        assert "pending" in outside.look().effects  # its process might live
        time.advance(outside.LEASES)
        outside.work()
        assert outside.look().effects == ("done",) * 3
        assert not way.has_key or way.send().status_code == 201
    assert outside.look() == with_mails(1, way)


@every_way
def test_a_mail_that_is_killed_between_sending_and_marking_is_sent_twice(
    way: Way, time: Clock
) -> None:
    """One extra per kill, where nobody counts keys; the gateway charges once."""
    with way.surrounded():
        assert is_killed(runner.rows, "done", marks_the_mail, way.send)
        assert outside.look().mails == 1
        time.advance(outside.LEASES)
        assert is_killed(runner.rows, "done", marks_the_mail, command)
        assert outside.look().mails == 2
        time.advance(outside.LEASES)
        outside.work()
        assert not way.has_key or way.send().status_code == 201
    assert outside.look() == with_mails(3, way)


def with_mails(mails: int, way: Way) -> Seen:
    """All that belongs to one order, and so many mails."""
    return Seen(1, 1, 1, mails, ("completed",) * way.has_key, ("done",) * 3)
