"""Under ASGI everything runs where it would run without the guard."""

import asyncio
import json
import threading
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any

import pytest
from asgiref.sync import SyncToAsync, async_to_sync, iscoroutinefunction, sync_to_async
from django.core.handlers.asgi import ASGIHandler
from django.core.handlers.wsgi import WSGIHandler
from django.db import connection, transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from django_idempotency.threads import on_request_thread
from tests.conftest import Caller
from tests.shop import async_views, urls, views
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.exchanges import Server, serve

threads: list[int] = []
"""Where views and their ORM calls ran."""
language: ContextVar[str] = ContextVar("language", default="none")


def here() -> None:
    threads.append(threading.get_ident())


@csrf_exempt
async def awaited(request: HttpRequest) -> HttpResponse:
    here()
    await sync_to_async(here)()
    order = await Order.objects.acreate(item="vm")
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
def sync(request: HttpRequest) -> HttpResponse:
    here()
    order = Order.objects.create(item="vm")
    return JsonResponse({"id": order.pk}, status=201)


async def buy(item: str) -> int:
    """A step: its query runs in the step's transaction."""
    here()
    order = await Order.objects.acreate(item=item)
    return int(order.pk)


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False, on_interrupted="run")
async def stepwise(request: Any) -> HttpResponse:
    order = await request.idempotency.astep("buy", buy, "vm")
    await request.idempotency.astep("tell", here)
    tell()
    return JsonResponse({"id": order}, status=201)


def tell() -> None:
    """What a test puts here happens after the steps."""


def forgetful(view: Callable[..., Any]) -> Callable[..., Any]:
    """A decorator that does not say that it is async."""

    def wrapper(request: HttpRequest) -> Any:
        return view(request)

    return wrapper


@csrf_exempt
@idempotent
@forgetful
async def hidden(request: HttpRequest) -> HttpResponse:
    raise AssertionError("never awaited")


urlpatterns = [
    *urls.urlpatterns,
    path("awaited/", awaited),
    path("decorated-awaited/", idempotent(awaited)),
    path("sync/", sync),
    path("stepwise/", stepwise),
    path("hidden/", hidden),
]


class SyncOnly:
    """A middleware of the old kind."""

    sync_capable = True
    async_capable = False

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        return self._get_response(request)


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = {"SCOPE": lambda request: request.headers["Authorization"]}
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
    threads.clear()


def post(caller: Caller, url: str, times: int = 1, key: str | None = "k-1") -> Any:
    """Send a request, and perhaps again; return the last exchange."""

    async def script(server: Server) -> Any:
        for _ in range(times):
            exchange = await server.post(url, key=key).end()
        threads.append(threading.get_ident())
        return exchange

    return serve(caller.token.key, script)


@pytest.mark.once
@pytest.mark.parametrize("handler", [ASGIHandler, WSGIHandler])
def test_django_adapts_nothing_of_the_middleware(handler: type, settings: Any, caplog: Any) -> None:
    settings.DEBUG = True
    with caplog.at_level("DEBUG", "django.request"):
        stack = handler()
    adapted = [record.getMessage() for record in caplog.records if "adapted" in record.msg]
    assert [line for line in adapted if "idempotency" in line.lower()] == []
    process_view = stack._view_middleware[-1]
    assert process_view.__func__.__module__ == "django_idempotency.middleware"
    assert iscoroutinefunction(process_view) is (handler is ASGIHandler)


@pytest.mark.parametrize("url", ["/awaited/", "/decorated-awaited/"])
def test_an_async_view_stays_in_the_loop_and_its_queries_on_their_thread(
    url: str, caller: Caller
) -> None:
    assert post(caller, url).status == 201
    view, query, loop = threads
    assert view == loop != query


def test_a_sync_view_runs_on_its_requests_thread(caller: Caller, monkeypatch: Any) -> None:
    claimed: list[int] = []
    real = on_request_thread

    async def noted(function: Any, *args: Any) -> Any:
        claimed.append(await real(threading.get_ident))
        return await real(function, *args)

    monkeypatch.setattr("django_idempotency.middleware.on_request_thread", noted)
    assert post(caller, "/sync/").status == 201
    assert claimed == threads[:1] != threads[1:]


@pytest.mark.parametrize("url", ["/awaited/", "/decorated-awaited/", "/sync/", "/async-rest/"])
def test_without_a_key_no_thread_is_asked(
    url: str, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    """I9."""
    call, calls = SyncToAsync.__call__, []

    async def counted(self: Any, *args: Any, **kwargs: Any) -> Any:
        calls.append(self.func)
        return await call(self, *args, **kwargs)

    monkeypatch.setattr(SyncToAsync, "__call__", counted)
    assert post(caller, url, key=None).status == 201
    guarded = len(calls)
    calls.clear()
    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    assert post(caller, url.replace("decorated-", ""), key=None).status == 201
    assert guarded == len(calls)


@pytest.mark.parametrize("below", [True, False], ids=["below", "above"])
@pytest.mark.parametrize("url", ["/awaited/", "/sync/", "/async-rest/"])
def test_beside_a_middleware_that_is_only_sync(
    below: bool, url: str, caller: Caller, settings: Any
) -> None:
    foreign = f"{__name__}.SyncOnly"
    ours = [MIDDLEWARE, foreign] if below else [foreign, MIDDLEWARE]
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, *ours]
    assert post(caller, url, times=2).replayed
    assert Order.objects.count() == 1


def test_safe_methods_pass(caller: Caller) -> None:
    """I9."""
    assert async_to_sync(caller._async_client.get)("/awaited/").status_code == 201
    assert not IdempotencyRecord.objects.exists()


def test_a_decorator_that_hides_an_async_view_gets_a_clear_error(
    caller: Caller, settings: Any, caplog: Any
) -> None:
    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    assert post(caller, "/hidden/").status == 500
    (record,) = [each for each in caplog.records if each.name == "django.request"]
    assert "must be a coroutine function, or be marked as one" in str(record.exc_info[1])
    assert IdempotencyRecord.objects.get().state == "claimed"


@pytest.mark.parametrize("outcome", ["raise 404", "201"])
def test_an_adrf_view_whose_response_cannot_be_finalized_leaves_nothing(
    outcome: str, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    def broken(*args: Any, **kwargs: Any) -> Any:
        raise views.Broken

    settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
    monkeypatch.setattr(async_views.DecoratedRestView, "finalize_response", broken)
    monkeypatch.setattr(Caller, "asgi", True)
    assert caller.post("/async-decorated-rest/", {"outcome": outcome}).status_code == 500
    assert not Order.objects.exists()
    assert IdempotencyRecord.objects.get().state == "claimed"


def test_a_malformed_key_is_refused_by_an_async_class(caller: Caller) -> None:
    """I7."""
    for url in ("/async-class/", "/async-rest/", "/async-decorated-class/"):
        assert post(caller, url, key="not, a key").status == 400


class TestOnRequestThread:
    """What the guard's steps run through."""

    pytestmark = pytest.mark.once

    def test_context_variables_are_set_as_by_a_plain_call(self) -> None:
        async def script() -> str:
            await on_request_thread(language.set, "de")
            return language.get()

        assert asyncio.run(script()) == "de"

    def test_an_error_comes_back(self) -> None:
        async def script() -> None:
            await on_request_thread(int, "x")

        with pytest.raises(ValueError, match="invalid literal"):
            asyncio.run(script())

    def test_cancelled_twice_it_still_waits_for_the_end(self) -> None:
        reached, go_on, ended = threading.Event(), threading.Event(), []

        def step() -> None:
            reached.set()
            assert go_on.wait(30)
            ended.append(True)
            raise ValueError("the step failed")

        async def script() -> BaseException | None:
            task = asyncio.create_task(on_request_thread(step))
            await asyncio.to_thread(reached.wait, 30)
            for _ in range(2):
                task.cancel()
                await asyncio.sleep(0)
            assert not task.done()
            go_on.set()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            return caught.value.__cause__

        cause = asyncio.run(script())
        assert (ended, str(cause)) == ([True], "the step failed")


def test_steps_of_an_async_view_are_not_taken_again(caller: Caller, monkeypatch: Any) -> None:
    """I11: the first attempt fails after its steps; the second goes on behind them."""

    def crash() -> None:
        raise KeyError

    monkeypatch.setitem(globals(), "tell", crash)
    assert post(caller, "/stepwise/").status == 500
    taken = Order.objects.get()
    monkeypatch.setitem(globals(), "tell", lambda: None)
    assert json.loads(post(caller, "/stepwise/").body) == {"id": taken.pk}
    assert Order.objects.count() == 1
    loop, thread, *_ = threads
    assert loop != thread


def test_what_an_async_step_wrote_goes_if_the_step_fails(caller: Caller, monkeypatch: Any) -> None:
    async def failing(item: str) -> int:
        await Order.objects.acreate(item=item)
        raise KeyError(item)

    monkeypatch.setitem(globals(), "buy", failing)
    assert post(caller, "/stepwise/").status == 500
    assert Order.objects.count() == 0
    assert IdempotencyStep.objects.filter(position__gt=0).count() == 0


def test_a_view_with_an_atomic_block_in_a_function(caller: Caller, monkeypatch: Any) -> None:
    """As the documentation advises."""

    def write() -> None:
        with transaction.atomic():
            Order.objects.create(item="more")

    monkeypatch.setattr(views, "after_write", write)
    caller_posts = async_to_sync(caller._async_client.post)
    headers = {"idempotency-key": "k", "authorization": f"Token {caller.token.key}"}
    url, data = "/async-function/", {"item": "vm"}
    for _ in range(2):
        answer = caller_posts(url, data, content_type="application/json", headers=headers)
        assert answer.status_code == 201
    assert answer["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 2
    assert not connection.in_atomic_block
