"""Async views that leave the one connection whose transaction commits with their response."""

import asyncio
import json
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from asgiref.sync import sync_to_async
from django.db import connection, connections, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.adapters.affinity import AffinityError, writes
from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from tests.conftest import Caller
from tests.shop import urls
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.exchanges import Server, serve
from tests.support.sessions import open_transactions

Work = Callable[[], Awaitable[Any]]
left_running: list[tuple[asyncio.Task[Any], asyncio.Event]] = []
"""Tasks, and what they wait for."""


def create(item: str = "elsewhere") -> Order:
    return Order.objects.create(item=item)


def close_after(function: Callable[[], Any]) -> Any:
    """What a thread of a pool should do with its connection."""
    try:
        return function()
    finally:
        connections.close_all()


async def gathered() -> None:
    """One after the other, on the request's thread."""
    await asyncio.gather(*(Order.objects.acreate(item="gathered") for _ in range(5)))


async def gathered_services() -> None:
    """Each block begins and ends within one call, so none overtakes another."""

    def service() -> None:
        with transaction.atomic():
            create("gathered")

    await asyncio.gather(*(sync_to_async(service)() for _ in range(5)))


class AsyncAtomic:
    """As found in the wild."""

    def __init__(self) -> None:
        self._block = transaction.atomic()

    async def __aenter__(self) -> None:
        await sync_to_async(self._block.__enter__)()

    async def __aexit__(self, *error: Any) -> None:
        await sync_to_async(self._block.__exit__)(*error)


async def nested() -> None:
    async with AsyncAtomic():
        await Order.objects.acreate(item="nested")
        await asyncio.gather(*(Order.objects.acreate(item="nested") for _ in range(3)))
        async with AsyncAtomic():
            await Order.objects.acreate(item="nested")


async def reads_elsewhere() -> None:
    """Sees what was there before; breaks nothing."""

    def read() -> int:
        with transaction.atomic(), transaction.atomic():
            return Order.objects.count()

    assert await asyncio.to_thread(lambda: close_after(read)) == 0


async def after_the_commit() -> None:
    def start() -> None:
        with ThreadPoolExecutor(1) as pool:
            pool.submit(close_after, create).result()

    await sync_to_async(transaction.on_commit)(start)


async def in_a_pool() -> None:
    await sync_to_async(lambda: close_after(create), thread_sensitive=False)()


async def in_a_thread() -> None:
    await asyncio.to_thread(lambda: close_after(create))


async def together(*works: Awaitable[Any]) -> None:
    """As ``gather()``, but leaves nothing running."""
    for result in await asyncio.gather(*works, return_exceptions=True):
        if isinstance(result, BaseException):
            raise result


async def overtaking() -> None:
    entered, ended = asyncio.Event(), asyncio.Event()

    async def slow() -> None:
        async with AsyncAtomic():
            entered.set()
            await ended.wait()

    async def quick() -> None:
        await entered.wait()
        try:
            await Order.objects.acreate(item="would be undone with the block of slow()")
        finally:
            ended.set()

    await together(slow(), quick())


async def overtaking_blocks() -> None:
    async def one(mine: asyncio.Event, other: asyncio.Event) -> None:
        try:
            async with AsyncAtomic():
                mine.set()
                await other.wait()
        finally:
            mine.set()

    first, second = asyncio.Event(), asyncio.Event()
    await together(one(first, second), one(second, first))


async def left_open() -> None:
    await AsyncAtomic().__aenter__()


async def leaves_a_task_running() -> None:
    ended = asyncio.Event()

    async def later() -> None:
        await ended.wait()
        try:
            await Order.objects.acreate(item="too late")
        finally:
            await sync_to_async(connections.close_all)()

    left_running.append((asyncio.create_task(later()), ended))


FINE = {
    gathered: 5,
    gathered_services: 5,
    nested: 5,
    reads_elsewhere: 0,
    after_the_commit: 1,
}
"""And how many orders they make."""

REFUSED = {
    in_a_pool: "from another thread than its request's",
    in_a_thread: "from another thread than its request's",
    overtaking: "one of them has opened an atomic block",
    overtaking_blocks: "one of them has opened an atomic block",
    left_open: "ended inside of an atomic block",
}


WORKS = [*FINE, *REFUSED, leaves_a_task_running]


def view_of(work: Work) -> Any:
    @csrf_exempt
    async def view(request: HttpRequest) -> HttpResponse:
        order = await Order.objects.acreate(item="vm")
        await work()
        return JsonResponse({"id": order.pk}, status=json.loads(request.body).get("status", 201))

    return view


urlpatterns = [
    *urls.urlpatterns,
    *(path(f"plain/{work.__name__}/", view_of(work)) for work in WORKS),
    *(path(f"{work.__name__}/", idempotent(view_of(work))) for work in WORKS),
]


def by_token(request: HttpRequest) -> str:
    return request.headers["Authorization"]


@pytest.fixture(autouse=True)
def _project(settings: Any, caller: Caller) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = {"SCOPE": by_token}
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    left_running.clear()
    yield
    left_running.clear()
    assert open_transactions() == []


def post(caller: Caller, url: str, **data: Any) -> Any:
    async def script(server: Server) -> Any:
        exchange = await server.post(url, data).end()
        for task, ended in left_running:
            ended.set()
            await asyncio.wait([task])
        return exchange

    return serve(caller.token.key, script)


adapters = pytest.mark.parametrize("adapter", ["/", "/plain/"], ids=["decorator", "middleware"])


@adapters
@pytest.mark.parametrize("work", FINE, ids=lambda work: work.__name__)
def test_what_joins_the_transaction_commits_and_is_undone_with_it(
    work: Work, adapter: str, caller: Caller
) -> None:
    """I2."""
    url = f"{adapter}{work.__name__}/"
    if work is not after_the_commit:
        assert post(caller, url, status=503).status == 503
        assert not Order.objects.exists()
        IdempotencyRecord.objects.all().delete()
    first, retry = post(caller, url), post(caller, url)
    assert (first.status, retry.status, retry.replayed) == (201, 201, True)
    assert Order.objects.count() == 1 + FINE[work]


@adapters
@pytest.mark.parametrize("work", REFUSED, ids=lambda work: work.__name__)
def test_what_cannot_keep_the_promise_is_refused_and_leaves_nothing(
    work: Work, adapter: str, caller: Caller, caplog: Any
) -> None:
    """I2: and the next retry runs, into the same wall."""
    for _ in range(2):
        assert post(caller, f"{adapter}{work.__name__}/").status == 500
        assert not Order.objects.exists()
        (record,) = [each for each in caplog.records if each.name == "django.request"]
        assert isinstance(record.exc_info[1], AffinityError)
        assert REFUSED[work] in str(record.exc_info[1])
        caplog.clear()
    assert IdempotencyRecord.objects.get().state == "claimed"


@adapters
def test_a_task_that_outlives_its_view_writes_nothing(adapter: str, caller: Caller) -> None:
    """Neither after a commit nor after a rollback."""
    for status in (201, 503):
        left_running.clear()
        assert post(caller, f"{adapter}leaves_a_task_running/", status=status).status == status
        ((task, _),) = left_running
        with pytest.raises(AffinityError, match="has left running wrote"):
            task.result()
        IdempotencyRecord.objects.all().delete()
    assert not Order.objects.filter(item="too late").exists()


def test_without_a_key_nothing_is_refused(caller: Caller) -> None:
    """I9."""
    if connection.vendor == "sqlite":
        pytest.skip("SQLite has one writer: the view's two connections would wait for each other")

    async def script(server: Server) -> Any:
        return await server.post("/in_a_thread/", key=None).end()

    assert serve(caller.token.key, script).status == 201
    assert Order.objects.count() == 2


@pytest.mark.once
@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        ("SELECT 1", False),
        ("  (select 1)", False),
        ("/* a note */ -- another\n SELECT 1 FOR UPDATE", False),
        ("WITH a AS (SELECT 1) SELECT * FROM a FOR UPDATE", False),
        ("WITH a AS (SELECT 1) INSERT INTO b SELECT * FROM a", True),
        ("INSERT INTO a VALUES (1)", True),
        ("/* a note */ update a set b = 1", True),
        ("SAVEPOINT a", False),
        ("", True),
    ],
)
def test_statements_that_write(sql: str, expected: bool) -> None:
    assert writes(sql) is expected
