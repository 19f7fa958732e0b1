"""How long answers are kept, and what happens while the first request runs."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import pytest

from example_project.demo.client import Answer
from example_project.demo.stage import at_once
from tests.conftest import row_locks
from tests.contracts.operations import EVERY, A, B, C, Case, D, E, replicas
from tests.contracts.statements import states

pytestmark = pytest.mark.processes

DUPLICATES = 6


@states("retention", "24 hours from the original response", *A, *B, *C, *D)
def test_an_answer_is_kept_for_a_day(case):
    case.post()
    assert case.shop.kept(case.key) == case.minutes == 24 * 60


@states("retention", "60 minutes", *E)
def test_an_answer_is_kept_for_an_hour(case):
    case.post()
    assert case.shop.kept(case.key) == case.minutes == 60


@states("retention", "After that the key is a new operation", *EVERY)
def test_an_expired_key_is_a_new_operation(case):
    before, first = case.count(), case.post()
    case.shop.expire(case.key)
    second = case.post(case.other)
    assert case.runs(second)
    assert second.body != first.body
    assert case.replays(second, case.post(case.other))
    assert case.count() == before + 2


def while_running(case: Case, act: Callable[[Callable[[], Answer]], None]) -> None:
    """Act while the first request is held after its writes.

    :param act: gets a function that lets the first request go and returns its answer
    """
    with ThreadPoolExecutor(1) as threads, case.shop.hold() as hold:
        running = threads.submit(case.post)
        hold.worker()

        def first() -> Answer:
            hold.release()
            return running.result()

        act(first)


@row_locks
@states("in flight", "A duplicate of a running request gets 409, and later the response", *EVERY)
def test_a_duplicate_in_flight_gets_409(case):
    before = case.count()

    def act(first: Callable[[], Answer]) -> None:
        duplicate = case.post()
        assert (duplicate.status, duplicate.json["code"]) == (409, "idempotency_in_flight")
        assert (duplicate.json["retryable"], duplicate.headers["Retry-After"]) == (True, "1")
        assert case.replays(first(), case.post())

    while_running(case, act)
    assert case.count() == before + 1


@row_locks
@states("in flight", "A client that backs off exponentially gets the response", *E)
def test_a_client_that_backs_off_gets_the_response(case):
    def act(first: Callable[[], Answer]) -> None:
        firsts: list[Answer] = []

        def wait(seconds: float) -> None:
            """The first request ends during the client's third wait."""
            waits.append(seconds)
            if len(waits) == 3:
                firsts.append(first())

        waits: list[float] = []
        answer = backing_off(case, wait)
        assert waits == [1, 2, 4]
        assert case.replays(firsts[0], answer)

    while_running(case, act)


def backing_off(case: Case, wait: Callable[[float], None], tries: int = 5) -> Answer:
    """A client as the API recommends it: after a 409 it waits, and twice as long each time."""
    for attempt in range(tries):
        answer = case.post()
        if answer.status != 409:
            break
        wait(float(answer.headers["Retry-After"]) * 2**attempt)
    return answer


@states("in flight", "Simultaneous duplicates do not overshoot the replica count", "D-replicas")
def test_simultaneous_duplicates_make_one_replica(case):
    with case.shop.hold() as hold:

        def all_are_sent() -> None:
            hold.worker()
            hold.release()

        answers = at_once(
            DUPLICATES, case.client, case.path, case.data, case.key, sent=all_are_sent
        )
    assert {answer.status for answer in answers} <= {201, 409}
    replayed = case.post()
    assert {answer.body for answer in answers if answer.status == 201} == {replayed.body}
    assert case.client.get(case.path).json == [replayed.json]


@states("in flight", "Simultaneous requests with other keys do not exceed the limit", "D-replicas")
def test_simultaneous_requests_do_not_exceed_the_limit(shop, operation):
    case = replicas(shop, 0, limit=1)
    keys = [f"{case.key}-{number}" for number in range(DUPLICATES)]
    with case.shop.hold() as hold:
        sent = [case.client.begin("POST", case.path, case.data, key) for key in keys]
        hold.worker()
    answers = [case.client.end(connection) for connection in sent]
    for connection in sent:
        connection.close()
    assert sorted(answer.status for answer in answers) == [201] + [409] * (DUPLICATES - 1)
    assert {answer.headers[case.marker] for answer in answers} == {None}
    assert case.count() == 1
