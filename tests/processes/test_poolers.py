"""Behind a connection pooler that hands each transaction to another session of the server."""

import os
import signal
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from functools import cache, partial
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import every_mode, few_adapters, usual_and_whole
from tests.support.databases import DATABASE
from tests.support.operations import CREATED, an_operation
from tests.support.poolers import IS_ODYSSEY, Pool, Pooler, running_pooler
from tests.support.server import Server, running_server, together

compat = pytest.importorskip("django_idempotency.compat.psycopg")
pytestmark = [
    pytest.mark.processes,
    pytest.mark.skipif(DATABASE != "postgresql", reason="about PostgreSQL"),
    pytest.mark.usefixtures("kept_claim_connections"),
]

PATHS = ("/rest/", "/decorated-create/")
PATH = "/decorated-rest/"
KEYS = 12
DEALLOCATE = "DEALLOCATE ALL"
DUPLICATES = 6
ROOMY = Pool("transaction", 20)
"""For requests that need two sessions of the server at once."""
TRACKED = Pool("transaction", 3, tracked=100)
NARROW = Pool("transaction", 1)
"""Every request waits for all others."""
USUAL = [Pool("transaction", 3), TRACKED, Pool("session", 30, reset="")]
WHOLE = [
    Pool("transaction", 2),
    Pool("session", 30),
    Pool("transaction", 3, resets_always=True),
    Pool("transaction", 3, "DEALLOCATE ALL", resets_always=True),
    Pool("transaction", 3, tracked=1),
    Pool("session", 30, tracked=100),
]


def through(*usual: Pool, whole: list[Pool] | None = None) -> Any:
    parameters = usual_and_whole(usual, whole or [])
    return pytest.mark.parametrize("pooler", parameters, ids=str, indirect=True)


through_each = through(*USUAL, whole=WHOLE)
through_some = through(Pool("transaction", 3), TRACKED)


@pytest.fixture(scope="module")
def poolers(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Callable[[Pool], Pooler]]:
    """Each runs until the last of these tests."""
    with ExitStack() as stack:

        @cache
        def running(pool: Pool) -> Pooler:
            return stack.enter_context(running_pooler(tmp_path_factory.mktemp("pooler"), pool))

        yield running


@pytest.fixture
def pooler(request: Any, caller: Caller, poolers: Callable[[Pool], Pooler]) -> Pooler:
    return poolers(request.param)


# --- Step by step ---


@pytest.fixture
def pooled(pooler: Pooler) -> Iterator[Pooler]:
    with connected_through(pooler):
        yield pooler


@contextmanager
def connected_through(pooler: Pooler) -> Iterator[None]:
    """Connections of this process go through the pooler."""
    usual = connection.settings_dict["PORT"]
    connection.close()
    compat.trust()
    connection.settings_dict["PORT"] = str(pooler.port)
    try:
        yield
    finally:
        connection.close()
        compat.trust()
        connection.settings_dict["PORT"] = usual


def hang_ups(pooler: Pooler) -> int:
    """How often PgBouncer has ended a connection because of a statement that it does not know, or
    knows already."""
    return pooler.log().count("pooler error: prepared statement")


def database() -> str:
    return str(connection.settings_dict["NAME"])


@through_each
@few_adapters
def test_orders_and_replays(adapter: str, caller: Caller, pooled: Pooler) -> None:
    for key in ("a", "b", "c"):
        first = caller.post(adapter, {"item": key}, key=key)
        assert first.status_code == 201
        replay = caller.post(adapter, {"item": key}, key=key)
        assert (replay.status_code, replay.content) == (201, first.content)
        assert replay["Idempotency-Replayed"] == "true"
        assert caller.post(adapter, {"item": "another"}, key=key).status_code == 422
    assert sorted(Order.objects.values_list("item", flat=True)) == ["a", "b", "c"]


@through_some
@every_mode
def test_each_request_meets_another_session(adapter: str, caller: Caller, pooled: Pooler) -> None:
    """I1: a session that has served none of our requests yet, or one of them long ago."""
    for number, occupied in enumerate([0, 1, 0, 1]):
        with pooled.occupied(database(), occupied):
            first = caller.post(adapter, {"item": "vm"}, key=f"k-{number}")
            assert first.status_code == 201
        replay = caller.post(adapter, {"item": "vm"}, key=f"k-{number}")
        assert replay.content == first.content
    assert Order.objects.count() == 4


@through_some
def test_claims_are_prepared_while_the_pooler_knows_them(
    caller: Caller, pooled: Pooler, request: Any
) -> None:
    """A claim is in no transaction, so it can be tried. The lock and the store are not tried."""
    pool = request.node.callspec.params["pooler"]
    for number in range(6):
        # Some meet a session in which nothing is prepared.
        with pooled.occupied(database(), number % 3):
            assert caller.post(PATH, key=f"k-{number}").status_code == 201
    # An Odyssey does not say which session comes next.
    if pool.tracked or not IS_ODYSSEY:
        assert (compat._unprepared == set()) is bool(pool.tracked)
    assert caller.post(PATH, key="k-0")["Idempotency-Replayed"] == "true"


@through_some
def test_a_view_that_deallocates(caller: Caller, pooled: Pooler, monkeypatch: Any) -> None:
    """PgBouncer that tracks them hangs up on a client which uses a statement after that."""
    monkeypatch.setattr(views, "after_write", lambda: connection.cursor().execute(DEALLOCATE))
    before = hang_ups(pooled)
    for number in range(compat._FORGIVEN + 2):
        assert caller.post(PATH, key=f"k-{number}").status_code == 201
    assert hang_ups(pooled) == before


@through_some
def test_a_project_that_deallocates(caller: Caller, pooled: Pooler) -> None:
    """The claim is sent again, on another connection, and in this process never again by name."""
    before = hang_ups(pooled)
    for number in range(compat._FORGIVEN + 2):
        connection.cursor().execute(DEALLOCATE)
        operation = an_operation(key=f"k-{number}")
        operation.begin()
        assert operation.finish(CREATED)
    assert hang_ups(pooled) <= before + 1


@through_some
def test_a_table_that_is_away_for_a_while(caller: Caller, pooled: Pooler) -> None:
    """PgBouncer hangs up on a client that prepares under a name again, although the server has
    refused the statement."""
    table = IdempotencyRecord._meta.db_table
    first, before = caller.post(PATH, key="k-1"), hang_ups(pooled)
    for _ in "12":
        connection.cursor().execute(f"ALTER TABLE {table} RENAME TO away")
        try:
            assert caller.post(PATH, key="k-1").status_code == 503
        finally:
            connection.cursor().execute(f"ALTER TABLE away RENAME TO {table}")
        assert caller.post(PATH, key="k-1").content == first.content
    assert hang_ups(pooled) == before


@pytest.mark.parametrize("threshold", [0, None])
@through_some
def test_the_project_s_own_prepared_statements(
    caller: Caller, pooled: Pooler, request: Any, threshold: Any
) -> None:
    """psycopg deallocates after each rollback."""
    if threshold is not None and not request.node.callspec.params["pooler"].tracked:
        pytest.skip("nobody can prepare there")
    usual = connection.settings_dict["OPTIONS"]
    connection.settings_dict["OPTIONS"] = usual | {"prepare_threshold": threshold}
    before = hang_ups(pooled)
    try:
        for number in range(4):
            assert caller.post(PATH, key=f"k-{number}").status_code == 201
            failed = caller.post(PATH, {"outcome": "raise 500"}, key=f"f-{number}")
            assert failed.status_code == 500
            assert caller.post(PATH, key=f"k-{number}")["Idempotency-Replayed"] == "true"
    finally:
        connection.settings_dict["OPTIONS"] = usual
    assert hang_ups(pooled) == before


@through_some
def test_a_view_that_fails_leaves_nothing(caller: Caller, pooled: Pooler) -> None:
    """I2"""
    assert caller.post(PATH, {"outcome": "raise 500"}).status_code == 500
    assert Order.objects.count() == 0
    assert caller.post(PATH, {"outcome": "raise 500"}).status_code == 500
    assert IdempotencyRecord.objects.get().attempt == 2


@through_some
def test_the_claim_of_a_derived_key_is_durable(caller: Caller, pooled: Pooler) -> None:
    """It is made so beside the view's transaction: in another session of the server."""
    derived = {derived_key("a")}
    with pooled.occupied(database()):
        derived.add(derived_key("b"))
    assert len(derived) == 2


def derived_key(key: str) -> str:
    operation = an_operation(key=key)
    operation.begin()
    derived = operation.derive_key("charge")
    assert operation.finish(CREATED)
    return derived


@pytest.mark.parametrize("pool", [Pool("transaction", 3), TRACKED], ids=str)
def test_a_pooler_that_was_restarted(caller: Caller, tmp_path: Path, pool: Pool) -> None:
    """The claim notices that its connection is dead, and takes another one."""
    with running_pooler(tmp_path, pool) as pooler, connected_through(pooler):
        derived = derived_key("a")
        pooler.stop()
        pooler.start()
        assert derived_key("b") != derived


# --- Real servers ---


Servers = Callable[[Pooler, bool, bool], Server]


@pytest.fixture(scope="module")
def servers(django_db_setup: None, tmp_path_factory: Any) -> Iterator[Servers]:
    """Each has four processes of two threads, and runs until the last of these tests."""
    with ExitStack() as stack:

        @cache
        def running(pooler: Pooler, atomic_requests: bool, waits: bool) -> Server:
            policy = {"IN_FLIGHT": "wait", "WAIT_LIMIT": 50, "WAIT_TIMEOUT": 20} if waits else {}
            with pytest.MonkeyPatch.context() as patch:
                patch.setenv("PGPORT", str(pooler.port))
                if atomic_requests:
                    patch.setenv("IDEMPOTENCY_TEST_ATOMIC_REQUESTS", "1")
                folder = tmp_path_factory.mktemp("server")
                server = running_server(folder, workers=4, threads=2, policy=policy)
                started.append(stack.enter_context(server))
                return started[-1]

        started: list[Server] = []
        yield running
        for server in started:  # all at once: each takes its time
            server.ask_to_stop()


@pytest.fixture
def server(request: Any, caller: Caller, pooler: Pooler, servers: Servers) -> Iterator[Server]:
    connection.close()
    running = servers(pooler, *getattr(request, "param", (False, False)))
    yield running
    running.forget()


def served(atomic_requests: bool = False, waits: bool = False) -> Any:
    return pytest.mark.parametrize("server", [(atomic_requests, waits)], indirect=True, ids=[""])


def storm(
    server: Server, caller: Caller, paths: tuple[str, ...] = PATHS, may_all_give_way: bool = False
) -> None:
    """I1, I4, I6: one order per key; everybody gets its result, or is told to come again.

    :param may_all_give_way: to each other, at first: then whoever comes again runs
    """
    send = partial(server.post, token=caller.token.key)
    for number, path in zip(range(KEYS), cycle(paths), strict=False):
        one = partial(send, path, key=f"k-{number}", data={"item": str(number)})
        answers = together(DUPLICATES, one)
        assert {answer.status for answer in answers} <= {201, 409}, (answers, server.log())
        made = {answer.body for answer in answers if answer.status == 201}
        if may_all_give_way and not made:
            assert one().status == 201
        else:
            assert len(made) == 1
        replays = together(DUPLICATES, one)
        assert {(answer.status, answer.replayed) for answer in replays} == {(201, True)}
    items = Order.objects.values_list("item", flat=True)
    assert sorted(map(int, items)) == list(range(KEYS))


@through(NARROW, *USUAL, whole=[*WHOLE, ROOMY])
def test_storms_of_duplicates(server: Server, caller: Caller) -> None:
    storm(server, caller)


@through(ROOMY, whole=[Pool("transaction", 20, tracked=100)])
@served(atomic_requests=True)
def test_storms_with_atomic_requests(server: Server, caller: Caller) -> None:
    storm(server, caller, may_all_give_way=True)


@through(ROOMY, whole=[Pool("transaction", 20, tracked=100)])
def test_storms_in_non_atomic_mode(server: Server, caller: Caller) -> None:
    """The lock of a record is a transaction, so it keeps its session of the server."""
    storm(server, caller, ("/effects/rest-running-again/",))


@through_some
@served(waits=True)
def test_duplicates_that_wait(server: Server, caller: Caller) -> None:
    one = partial(server.post, "/rest/", caller.token.key, "k", {"item": "vm"})
    answers = together(DUPLICATES, one)
    assert {(answer.status, answer.body) for answer in answers} == {(201, answers[0].body)}
    assert Order.objects.count() == 1


@through(NARROW, *USUAL, whole=WHOLE)
def test_a_killed_worker_frees_the_key(server: Server, caller: Caller) -> None:
    """I3: the pooler ends the session whose client is gone in the middle of a transaction."""
    one = partial(server.post, "/rest/", caller.token.key, "k", {"item": "vm"})
    server.hang_next()
    with ThreadPoolExecutor(1) as pool:
        first = pool.submit(one)
        os.kill(server.hanging()[0], signal.SIGKILL)
        assert first.result(60) is None
    answers = iter(one, None)
    retry = next(answer for answer in answers if answer.status != 409)
    assert (retry.status, retry.replayed) == (201, False), server.log()
    assert Order.objects.count() == 1
