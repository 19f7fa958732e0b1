"""Clients that go away in the middle: the attempt ends, one way or the other."""

import asyncio
import gc
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from adrf.views import APIView
from asgiref.sync import async_to_sync, sync_to_async
from django.db import connection
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.response import Response
from rest_framework.views import APIView as SyncAPIView

from django_idempotency.decorators import idempotent
from django_idempotency.models import IdempotencyRecord
from django_idempotency.stores.database.store import DatabaseStore
from tests.conftest import Caller, row_locks
from tests.shop import urls
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.exchanges import Server, serve
from tests.support.sessions import open_transactions


class Gate:
    """Where something stops until the test lets it go on."""

    def __init__(self) -> None:
        self._reached = threading.Event()
        self._open = threading.Event()

    def wait(self) -> None:
        """Stop here, in a thread, the first time."""
        if not self._reached.is_set():
            self._reached.set()
            assert self._open.wait(30)

    async def reached(self) -> None:
        assert await asyncio.to_thread(self._reached.wait, 30)

    def open(self) -> None:
        self._open.set()


gate = Gate()

TURNS = 100
"""More turns of the event loop than there are tasks between the client and its view."""


def by_token(request: HttpRequest) -> str:
    return request.headers["Authorization"]


@csrf_exempt
@idempotent(scope=by_token)
async def waiting(request: HttpRequest) -> HttpResponse:
    """Writes, then waits in the event loop for what never happens if the client goes away."""
    order = await Order.objects.acreate(item="vm")
    if not gate._reached.is_set():
        gate._reached.set()
        await asyncio.Event().wait()
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
@idempotent(scope=by_token)
async def busy(request: HttpRequest) -> HttpResponse:
    """Waits for its thread after the write."""
    order = await Order.objects.acreate(item="vm")
    await sync_to_async(gate.wait)()
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
@idempotent(scope=by_token)
def sync(request: HttpRequest) -> HttpResponse:
    order = Order.objects.create(item="vm")
    gate.wait()
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
def undecorated(request: HttpRequest) -> HttpResponse:
    return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


@csrf_exempt
@idempotent(scope=by_token, header="X-Own-Key")
def with_own_header(request: HttpRequest) -> HttpResponse:
    return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


@csrf_exempt
def missing(request: HttpRequest) -> HttpResponse:
    gate.wait()
    raise Http404


@method_decorator(csrf_exempt, name="dispatch")
@idempotent(scope=by_token)
class Sync(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


@idempotent(scope=by_token)
class SyncRest(SyncAPIView):
    def post(self, request: Any) -> Response:
        order = Order.objects.create(item="vm")
        gate.wait()
        return Response({"id": order.pk}, status=201)


class SlowlyAuthenticated(SyncRest):
    """The client goes away before the key is claimed."""

    def initial(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().initial(request, *args, **kwargs)
        gate.wait()


@idempotent(scope=by_token)
class MixedRest(APIView):
    """adrf calls this handler in a thread: the class has an async one, too."""

    view_is_async = True

    def post(self, request: Any) -> HttpResponse:
        return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


class SlowTemplate(TemplateResponse):
    @property
    def rendered_content(self) -> str:
        gate.wait()
        return "{}"


@csrf_exempt
def slowly_rendered(request: HttpRequest) -> HttpResponse:
    Order.objects.create(item="vm")
    return SlowTemplate(request, "order.html", status=201)


@csrf_exempt
async def slowly_rendered_async(request: HttpRequest) -> HttpResponse:
    await Order.objects.acreate(item="vm")
    return SlowTemplate(request, "order.html", status=201)


api = NinjaAPI(urls_namespace="disconnects")


@api.post("/sync/")
@idempotent(scope=by_token)
def operation(request: HttpRequest) -> HttpResponse:
    return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


@api.put("/sync/")
async def beside_it(request: HttpRequest) -> HttpResponse:
    """Makes the whole path async."""
    raise AssertionError


@api.post("/sync-only/")
@idempotent(scope=by_token)
def sync_operation(request: HttpRequest) -> HttpResponse:
    return sync.__wrapped__(request)  # type: ignore[attr-defined,no-any-return]


@csrf_exempt
@idempotent(scope=by_token)
async def quick(request: HttpRequest) -> HttpResponse:
    order = await Order.objects.acreate(item="vm")
    return JsonResponse({"id": order.pk}, status=201)


@csrf_exempt
@idempotent(scope=by_token, atomic=False)
async def charging(request: HttpRequest) -> HttpResponse:
    """Its writes are its own, and so is what it asks of others."""
    return await waiting.__wrapped__(request)  # type: ignore[attr-defined]


@idempotent(scope=by_token)
class Waiting(APIView):
    view_is_async = True

    async def post(self, request: Any) -> HttpResponse:
        return await waiting.__wrapped__(request)  # type: ignore[attr-defined]


@csrf_exempt
async def plain(request: HttpRequest) -> HttpResponse:
    return await waiting.__wrapped__(request)  # type: ignore[attr-defined]


urlpatterns = [
    *urls.urlpatterns,
    path("waiting/", waiting),
    path("busy/", busy),
    path("sync/", sync),
    path("quick/", quick),
    path("plain/", plain),
    path("charging/", charging),
    path("adrf-waiting/", Waiting.as_view()),
    path("undecorated/", undecorated),
    path("with-own-header/", with_own_header),
    path("missing/", missing),
    path("sync-class/", Sync.as_view()),
    path("sync-rest/", SyncRest.as_view()),
    path("slowly-authenticated/", SlowlyAuthenticated.as_view()),
    path("mixed-rest/", MixedRest.as_view()),
    path("slowly-rendered/", slowly_rendered),
    path("slowly-rendered-async/", slowly_rendered_async),
    path("operations/", api.urls),
]


@pytest.fixture(autouse=True)
def _project(settings: Any, monkeypatch: Any, caller: Caller) -> Iterator[None]:
    settings.ROOT_URLCONF = __name__
    settings.IDEMPOTENCY = {"SCOPE": by_token}
    monkeypatch.setitem(globals(), "gate", Gate())
    yield
    assert open_transactions() == []


both = pytest.mark.parametrize("middleware", [False, True], ids=["decorator", "middleware"])


def set_up(settings: Any, middleware: bool) -> None:
    if middleware:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


async def disconnected(server: Server, path: str, header: str = "idempotency-key") -> None:
    first = server.post(path, header=header)
    await gate.reached()
    first.disconnect()
    # The handler hears of it, and cancels the view, before the view's thread goes on: what has
    # returned by then would be stored. Each task on the way takes one turn of this loop.
    for _ in range(TURNS):
        await asyncio.sleep(0)
    gate.open()
    await first.end()
    assert first.status is None


@both
@pytest.mark.parametrize("path", ["/waiting/", "/busy/", "/adrf-waiting/"])
def test_in_the_middle_of_the_view_nothing_stays_and_the_retry_runs(
    path: str, middleware: bool, settings: Any, caller: Caller
) -> None:
    set_up(settings, middleware)

    async def script(server: Server) -> Any:
        await disconnected(server, path)
        return await server.post(path).end()

    retry = serve(caller.token.key, script)
    assert (retry.status, retry.replayed) == (201, False)
    assert_one_order(attempt=2)


@row_locks
def test_in_non_atomic_mode_the_outcome_is_unknown(caller: Caller) -> None:
    """I11: the view had written, and may have asked another system."""

    async def script(server: Server) -> Any:
        await disconnected(server, "/charging/")
        return await server.post("/charging/").end()

    retry = serve(caller.token.key, script)
    assert (retry.status, json.loads(retry.body)["code"]) == (409, "outcome_unknown")
    assert Order.objects.count() == 1


def test_behind_the_middleware_alone(settings: Any, caller: Caller) -> None:
    set_up(settings, True)

    async def script(server: Server) -> Any:
        await disconnected(server, "/plain/")
        return await server.post("/plain/").end()

    assert serve(caller.token.key, script).status == 201
    assert_one_order(attempt=2)


@both
def test_during_the_claim(
    middleware: bool, settings: Any, caller: Caller, monkeypatch: Any
) -> None:
    """The claim goes on in its thread; the lock that it leads to is given back."""
    set_up(settings, middleware)
    claim = DatabaseStore.claim

    def slowly(*args: Any) -> Any:
        found = claim(*args)
        gate.wait()
        return found

    monkeypatch.setattr(DatabaseStore, "claim", slowly)

    async def script(server: Server) -> Any:
        await disconnected(server, "/quick/")
        return await server.post("/quick/").end()

    retry = serve(caller.token.key, script)
    assert (retry.status, retry.replayed) == (201, False)
    assert_one_order(attempt=2)


@both
def test_during_the_store_and_commit_the_response_is_kept(
    middleware: bool, settings: Any, caller: Caller, monkeypatch: Any
) -> None:
    set_up(settings, middleware)
    complete = DatabaseStore.complete

    def slowly(*args: Any, **named: Any) -> Any:
        gate.wait()
        return complete(*args, **named)

    monkeypatch.setattr(DatabaseStore, "complete", slowly)

    async def script(server: Server) -> Any:
        await disconnected(server, "/quick/")
        return await server.post("/quick/").end()

    retry = serve(caller.token.key, script)
    assert (retry.status, retry.replayed) == (201, True)
    assert_one_order(attempt=1)


SYNC = [
    *("/sync/", "/sync-class/", "/sync-rest/", "/slowly-authenticated/", "/mixed-rest/"),
    *("/operations/sync/", "/operations/sync-only/"),
]


@both
@pytest.mark.parametrize("path", SYNC)
def test_a_sync_view_ends_and_is_stored(
    path: str, middleware: bool, settings: Any, caller: Caller
) -> None:
    """I2: nothing stops a thread, and what a view has done is not undone behind its back."""
    set_up(settings, middleware)
    assert_stored(path, caller)


@pytest.mark.parametrize("path", ["/undecorated/", "/slowly-rendered/", "/slowly-rendered-async/"])
def test_what_has_returned_is_stored_behind_the_middleware_alone(
    path: str, settings: Any, caller: Caller
) -> None:
    set_up(settings, True)
    assert_stored(path, caller)


def test_a_view_with_a_header_of_its_own(settings: Any, caller: Caller) -> None:
    set_up(settings, True)
    assert_stored("/with-own-header/", caller, header="x-own-key")


def test_a_sync_view_that_raises(settings: Any, caller: Caller) -> None:
    """What Django makes of its exception is stored."""
    set_up(settings, True)

    async def script(server: Server) -> Any:
        await disconnected(server, "/missing/")
        return await server.post("/missing/").end()

    retry = serve(caller.token.key, script)
    assert (retry.status, retry.replayed) == (404, True)


def test_without_a_key_nothing_is_held_back(settings: Any, caller: Caller) -> None:
    """A sync view that waits for the loop is cancelled there, as without the guard."""
    set_up(settings, True)
    seen: list[str] = []

    async def forever() -> None:
        gate._reached.set()  # what is cancelled before this begins is not cancelled here
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            seen.append("cancelled")
            raise

    def view(request: HttpRequest) -> HttpResponse:
        async_to_sync(forever)()
        raise AssertionError

    settings.ROOT_URLCONF = (path("bridge/", csrf_exempt(view)),)

    async def script(server: Server) -> None:
        first = server.post("/bridge/", key=None)
        await gate.reached()
        first.disconnect()
        await first.end()

    serve(caller.token.key, script)
    assert seen == ["cancelled"]


def assert_stored(path: str, caller: Caller, header: str = "idempotency-key") -> None:
    async def script(server: Server) -> Any:
        await disconnected(server, path, header)
        return await server.post(path, header=header).end()

    retry = serve(caller.token.key, script)
    assert (retry.status, retry.replayed) == (201, True), retry.body
    assert_one_order(attempt=1)


@both
@pytest.mark.filterwarnings("ignore:Unclosed file:ResourceWarning")
def test_of_an_application_that_its_server_cancels(
    middleware: bool, settings: Any, caller: Caller
) -> None:
    """Django 5.2 and 6.0 then give up the request's thread while the view still runs."""
    set_up(settings, middleware)

    async def script(server: Server) -> Any:
        first = server.post("/waiting/")
        await gate.reached()
        first.cancel()
        await first.end()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()  # as asyncio.run() does in the end
            await asyncio.wait([task])
        return await server.post("/waiting/").end()

    retry = serve(caller.token.key, script)
    gc.collect()  # Django leaves the body's file open
    assert (retry.status, retry.replayed) == (201, False)
    assert_one_order(attempt=2)


def assert_one_order(attempt: int) -> None:
    assert Order.objects.count() == 1
    record = IdempotencyRecord.objects.get()
    assert (record.state, record.attempt) == ("completed", attempt)
    assert not connection.in_atomic_block
