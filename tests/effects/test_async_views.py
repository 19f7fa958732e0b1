"""Async views stage on the event loop, where they have no connection, and in threads."""

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from django_idempotency.effects import EffectError, aafter_commit, after_commit
from tests.conftest import Caller
from tests.shop.models import Order
from tests.support import effects
from tests.support.effects import asend, send, sent, states

pytestmark = pytest.mark.django_db(transaction=True)

act: Callable[[HttpRequest], Any] = effects.void


@csrf_exempt
async def plain(request: HttpRequest) -> HttpResponse:
    await Order.objects.acreate(item="vm")
    await act(request)
    return HttpResponse(status=201)


urlpatterns = [path("plain/", plain), path("decorated/", idempotent(plain))]


@pytest.fixture(params=["/plain/", "/decorated/"])
def post(request: Any, settings: Any, caller: Caller, monkeypatch: Any) -> Callable[..., Any]:
    settings.ROOT_URLCONF = __name__
    if request.param == "/plain/":
        settings.MIDDLEWARE = [
            *settings.BASE_MIDDLEWARE,
            "django_idempotency.middleware.IdempotencyMiddleware",
        ]
    monkeypatch.setattr(Caller, "asgi", True)

    def post(action: Callable[[Any], Any], key: str | None = "k") -> int:
        monkeypatch.setattr(f"{__name__}.act", action)
        return int(caller.post(request.param, key=key).status_code)

    async def in_this_loop(action: Callable[[Any], Any]) -> int:
        monkeypatch.setattr(f"{__name__}.act", action)
        headers = {"idempotency-key": "k", "authorization": f"Token {caller.token.key}"}
        answer = await caller._async_client.post(request.param, headers=headers)
        return int(answer.status_code)

    vars(post)["request"] = in_this_loop
    return post


def test_on_the_event_loop(post: Any) -> None:
    async def stage(request: Any) -> None:
        after_commit(send, 1)
        request.idempotency.after_commit(asend, 2)
        await aafter_commit(send, 3)
        await request.idempotency.aafter_commit(send, 4)

    assert post(stage) == post(stage) == 201
    assert sent == [1, 2, 3, 4]
    assert len(set(effects.keys)) == 4


def test_in_tasks_and_threads_that_the_view_awaits(post: Any) -> None:
    async def one(number: int) -> None:
        after_commit(send, number)

    async def stage(request: Any) -> None:
        await asyncio.gather(one(1), one(2))
        await sync_to_async(after_commit)(send, 3)

    assert post(stage) == 201
    assert sorted(sent) == [1, 2, 3]


def test_blocks_that_are_rolled_back(post: Any) -> None:
    def undone() -> None:
        with transaction.atomic():
            after_commit(send, "undone")
            raise effects.Down

    async def stage(request: Any) -> None:
        with pytest.raises(effects.Down):
            await sync_to_async(undone)()
        after_commit(send, "kept")

    assert post(stage) == 201
    assert sent == ["kept"]


def test_a_view_that_raises(post: Any) -> None:
    async def stage(request: Any) -> None:
        after_commit(send)
        raise effects.Down

    assert post(stage) == 500
    assert (sent, effects.effects(), Order.objects.count()) == ([], [], 0)


def test_a_task_that_outlives_the_view_stages_nothing(post: Any) -> None:
    """Its operation has ended, and it has no transaction of its own."""
    tasks: list[Any] = []
    has_ended = asyncio.Event()

    async def later() -> None:
        await has_ended.wait()
        await aafter_commit(send)

    async def stage(request: Any) -> None:
        tasks.append(asyncio.create_task(later()))

    async def request_and_task() -> None:
        assert await post.request(stage) == 201
        has_ended.set()
        with pytest.raises(EffectError, match="outside of any transaction"):
            await tasks[0]

    async_to_sync(request_and_task)()
    assert (sent, effects.effects()) == ([], [])


def test_without_a_key(post: Any, settings: Any) -> None:
    async def stage(request: Any) -> None:
        if hasattr(request, "idempotency"):
            await request.idempotency.aafter_commit(asend, "bare")

    assert post(stage, key=None) == 201
    if "django_idempotency.middleware.IdempotencyMiddleware" in settings.MIDDLEWARE:
        assert (sent, states()) == (["bare"], ["done"])
