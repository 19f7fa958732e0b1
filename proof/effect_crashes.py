"""From request to effect, killed at each point in turn: one order, one charge, one server.

A point is before and after every statement, every commit, every hook and every dispatch; marks are
statements. Afterwards nobody helps but the client, who retries, and the command, in either order.
"""

from collections.abc import Callable
from types import MethodType
from typing import Any
from unittest.mock import patch

from django.db import connection, connections

from django_idempotency.effects import runner
from proof import crashes, outside
from proof.crashes import Accident, Ended
from proof.interleavings import Clock
from proof.outside import WAYS, Answer, Way
from proof.report import Outcome

Send = Callable[[], Answer]


class Attempt(crashes.Request):
    """Has points around hooks and dispatches, too."""

    def __init__(self, accident: Accident, at: int, send: Send) -> None:
        super().__init__(accident, at, "")
        self.send = send

    def run(self, answers: int) -> None:
        used: Any = connections["default"]
        run_hooks = type(used).run_and_clear_commit_hooks

        def run_and_clear_commit_hooks(used: Any) -> None:
            used.run_on_commit = [
                (sids, self._between(hook), robust) for sids, hook, robust in used.run_on_commit
            ]
            run_hooks(used)

        used.run_and_clear_commit_hooks = MethodType(run_and_clear_commit_hooks, used)
        with patch.object(runner, "call", self._between(runner.call)):
            super().run(answers)

    def _between(self, function: Callable[..., Any]) -> Callable[..., Any]:
        def call(*args: Any) -> None:
            self.pass_()
            function(*args)
            self.pass_()

        return call


class Case:
    """What happens after one accident.

    :ivar time: of the store; leases end when it passes
    """

    def __init__(self, way: Way, where: str, outcome: Outcome, time: Clock) -> None:
        self.way, self.where, self.outcome, self.time = way, where, outcome, time
        self.told: Answer | None = None
        self.mails = 1

    def wrong(self, text: str) -> None:
        self.outcome.violation(f"{self.where}: {text}")

    def after(self, ended: Ended) -> None:
        """Note what the accident has left."""
        seen = outside.look()
        self.was_committed = bool(seen.orders)
        # I19: a mail is sent again if it was not marked. Its server counts no keys.
        self.mails = seen.mails + (not outside.is_marked("proof.mail"))
        if not seen.orders and not seen.is_nothing:
            self.wrong(f"I19: effects without their order: {seen}")
        if seen.mails > 1:
            self.wrong(f"I19: {seen.mails} mails before anybody went on")
        if not ended.is_complete:
            return
        if ended.answer[0] == 201:
            self.told = Answer(*ended.answer)
        elif ended.answer[0] not in {200, 409, 500, 503}:
            self.wrong(f"answered {ended.answer}")

    def go_on_without_client(self) -> None:
        """The client never comes back: all of it has happened, or nothing."""
        self.time.advance(outside.LEASES)
        outside.work()
        seen = outside.look()
        if seen.orders or not seen.is_nothing:
            self._check_all(seen)

    def retry(self) -> None:
        if not self.way.has_key:
            return
        for _ in range(200):
            answer = self.way.send()
            if answer.status_code not in {409, 503}:
                break
        if answer.status_code != 201:
            self.wrong(f"the retry got {answer}")
        if self.told is not None and self.told.content != answer.content:
            self.wrong(f"I6: told {self.told}, then {answer}")
        self.told = answer

    def check_end(self) -> None:
        """One order, one charge, one server, one answer."""
        self.go_on_without_client()
        seen = outside.look()
        if self.way.has_key and not (seen.orders and seen.records == ("completed",)):
            self.wrong(f"I1: {seen}")
        self.outcome.note("mails sent twice", max(seen.mails - 1, 0))
        before = seen
        self.retry()
        outside.work()
        if outside.look() != before:
            self.wrong(f"I1: another retry has changed {before} to {outside.look()}")

    def _check_all(self, seen: outside.Seen) -> None:
        if (seen.orders, seen.charges, seen.servers) != (1, 1, 1):
            self.wrong(f"I19: {seen}")
        if seen.mails != self.mails:
            self.wrong(f"I19: {seen.mails} mails, expected {self.mails}")
        if set(seen.effects) != {"done"}:
            self.wrong(f"I19: not all effects have ended: {seen.effects}")


def experiment(
    name: str,
    way: Way,
    accident: Accident,
    prepare: Callable[[Way], None] | None = None,
    send: Send | None = None,
    every: int = 1,
    both: bool = False,
) -> Outcome:
    """Let the accident happen at each point; then the client comes first, or the command.

    :param prepare: what comes before
    :param send: what meets the accident, if not the client's request
    :param every: only each so-manieth point, for a first look
    :param both: try both orders after each point, instead of one and the other by turns
    """
    outcome = Outcome(f"effects, {name}: {way}", "points")
    send = send or way.send

    def attempt(accident: Accident, at: int) -> Ended:
        outside.forget()
        if prepare is not None:
            prepare(way)
        time.advance(outside.LEASES)
        return crashes.in_child(Attempt(accident, at, send))

    with way.surrounded():
        with Clock() as time:
            whole = attempt(crashes.nothing, -1)
            assert whole.is_complete, whole
            assert whole.points is not None
        for point in range(0, whole.points + 1, every):
            outcome.count += 1
            is_even = point // every % 2 == 0
            for comes_back in (True, False) if both else (is_even,):
                with Clock() as time:
                    case = Case(way, f"{outcome.name} at {point}", outcome, time)
                    case.after(attempt(accident, point))
                    if not comes_back:
                        case.go_on_without_client()
                    case.retry()
                    case.check_end()
            outcome.note("committed" if case.was_committed else "undone")
    return outcome


def placed(way: Way) -> None:
    """An order whose process was killed right after the commit."""
    with patch.object(runner, "run_inline", lambda *args, **kwargs: None):
        assert way.send().status_code == 201


def command() -> Answer:
    outside.work()
    return Answer(200, b"")


def again_and_again(way: Way) -> Outcome:
    """One order, killed at each of its points in turn, and then its command."""
    outcome = Outcome(f"effects, killed again and again: {way}", "points")
    with way.surrounded(), Clock() as time:
        outside.forget()
        for send in (way.send, command):
            point = 0
            while True:
                time.advance(outside.LEASES)
                ended = crashes.in_child(Attempt(crashes.killed, point, send))
                if not ended.is_complete:
                    point += 1
                elif ended.answer[0] != 409:  # a process that dies is taken for one in flight
                    break
            outcome.count += point
        case = Case(way, outcome.name, outcome, time)
        seen = outside.look()
        if seen.mails > 1 + outcome.count:
            case.wrong(f"I19: {seen.mails} mails after {outcome.count} kills")
        case.mails = seen.mails
        case.check_end()
    return outcome


def run(every: int = 1) -> list[Outcome]:
    """All accidents that this database can have, on all ways to an effect.

    :param every: only each so-manieth point
    """
    first, killed, cut = WAYS[0], crashes.killed, crashes.cut
    both = [way for way in WAYS if every == 1 and (way is first or way.is_resumed)]
    outcomes = [
        *(experiment("killed", way, killed, every=every, both=way in both) for way in WAYS),
        experiment("command killed", first, killed, placed, command, every, bool(both)),
        *map(again_and_again, both),
    ]
    if connection.vendor != "sqlite":
        few = (
            WAYS if every == 1 else [way for way in WAYS if way.atomic_requests or not way.has_key]
        )
        outcomes += [experiment("session cut", way, cut, every=every) for way in few]
        outcomes += [experiment("command's session cut", first, cut, placed, command, every)]
    return outcomes
