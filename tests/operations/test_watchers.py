"""I6: what stands between the guard and the client sees a replay, and does not change it again."""

import json
from collections.abc import Iterator
from functools import wraps
from typing import Any
from uuid import uuid4

import pytest
from adrf.views import APIView as AsyncAPIView
from asgiref.sync import iscoroutinefunction, markcoroutinefunction
from django.http import Http404, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from ninja.decorators import decorate_view
from rest_framework.decorators import api_view
from rest_framework.renderers import JSONRenderer
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.ninja_views import token
from tests.support.adapters import MIDDLEWARE

pytestmark = [pytest.mark.urls(__name__), pytest.mark.once]

seen: list[Any] = []
"""What those who watch have noted."""


@pytest.fixture(autouse=True)
def _nothing_seen() -> Iterator[None]:
    seen.clear()
    yield
    seen.clear()


def bought() -> dict[str, Any]:
    return {"id": Order.objects.create(item="vm").pk}


def noted(who: str, response: Any) -> Any:
    """Note what was seen, and leave something on the response that is new each time."""
    number = response.data["id"] if response.status_code == 201 else response.data.get("code")
    seen.append((who, response.status_code, number))
    response[f"X-{who}"] = uuid4().hex
    return response


def in_envelope(response: Any) -> Any:
    if hasattr(response, "render"):
        response.render()
    whole = {"data": json.loads(response.content), "nonce": uuid4().hex}
    return JsonResponse(whole, status=response.status_code)


def envelope(view: Any) -> Any:
    """Around what ``as_view()`` returns."""

    @wraps(view)
    async def awaited(request: Any, *args: Any, **kwargs: Any) -> Any:
        return in_envelope(await view(request, *args, **kwargs))

    @wraps(view)
    def called(request: Any, *args: Any, **kwargs: Any) -> Any:
        return in_envelope(view(request, *args, **kwargs))

    return markcoroutinefunction(awaited) if iscoroutinefunction(view) else called


class Watches:
    """What projects do in views of Django REST framework."""

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["API-Version"] = "7"
        return noted("Finalize", final)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response = noted("Dispatch", super().dispatch(request, *args, **kwargs))
        late = request.headers.get("X-Late")
        return HttpResponse(status=int(late)) if late else response


class Watched(Watches, APIView):
    def post(self, request: Any) -> Response:
        return Response(bought(), status=201)


class WatchedSet(Watches, ViewSet):
    def create(self, request: Any) -> Response:
        return Response(bought(), status=201)


class Enveloping(APIView):
    """Changes the data where DRF has not rendered them yet."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        response: Any = super().dispatch(request, *args, **kwargs)
        seen.append(response.data)
        response.data = {"data": response.data, "nonce": uuid4().hex}
        return response

    def post(self, request: Any) -> Response:
        return Response(bought(), status=201)


class WatchedHandler(Watches, APIView):
    @idempotent
    def post(self, request: Any) -> Response:
        return Response(bought(), status=201)


class Renamed(JSONRenderer):
    """As packages do that write camel case."""

    def render(self, data: Any, *args: Any, **kwargs: Any) -> Any:
        return super().render({f"order-{name}": data[name] for name in data}, *args, **kwargs)


class RenamingHandler(WatchedHandler):
    renderer_classes = [Renamed]


class AsyncWatched(AsyncAPIView):
    view_is_async = True

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        final = super().finalize_response(request, response, *args, **kwargs)
        final["API-Version"] = "7"
        return noted("Finalize", final)

    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return noted("Dispatch", await super().dispatch(request, *args, **kwargs))

    async def post(self, request: Any) -> Response:
        order = await Order.objects.acreate(item="vm")
        return Response({"id": order.pk}, status=201)


class AsyncWatchedHandler(AsyncWatched):
    @idempotent
    async def post(self, request: Any) -> Response:
        return await super().post(request)


@method_decorator(csrf_exempt, name="dispatch")
class Page(View):
    """Works on a template response, which only those have who expect one."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        assert request.user.is_authenticated
        response: Any = super().dispatch(request, *args, **kwargs)
        seen.append(response.render().status_code)
        response.context_data.pop("id", None)
        response.content = response.content.replace(b"</", b"!</")
        response["X-Nonce"] = uuid4().hex
        return response

    def post(self, request: Any) -> TemplateResponse:
        return TemplateResponse(request, "order.html", bought(), status=201)


class AsyncPage(Page):
    async def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        await request.auser()
        response = await View.dispatch(self, request, *args, **kwargs)
        seen.append(response.render().status_code)
        response["X-Nonce"] = uuid4().hex
        return response

    async def post(self, request: Any) -> Any:
        order = await Order.objects.acreate(item="vm")
        return TemplateResponse(request, "order.html", {"id": order.pk}, status=201)


def ninja_envelope(run: Any) -> Any:
    @wraps(run)
    def called(request: Any, *args: Any, **kwargs: Any) -> Any:
        response = run(request, *args, **kwargs)
        seen.append(response.status_code)
        return in_envelope(response)

    return called


def buy(request: Any) -> Any:
    return bought()


def buy_decorated(request: Any) -> Any:
    return bought()


api = NinjaAPI(urls_namespace="watched", auth=token)
api.post("/plain/")(decorate_view(ninja_envelope)(buy))
guarded_api = NinjaAPI(urls_namespace="watched-decorated", auth=token)
guarded_api.post("/decorated/")(idempotent(decorate_view(ninja_envelope)(buy_decorated)))


@envelope
@api_view(["POST"])
def function(request: Any) -> Response:
    return Response(bought(), status=201)


class Renaming(Watched):
    renderer_classes = [Renamed]


def subclass(view: type, **options: Any) -> Any:
    """A guarded view that does the same."""
    return idempotent(type(view.__name__, (view,), {}), **options)


class Outer(subclass(Watched)):
    """Watches from a subclass of a guarded view."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return noted("Outer", super().dispatch(request, *args, **kwargs))


urlpatterns = [
    path("rest/", Watched.as_view()),
    path("set/", WatchedSet.as_view({"post": "create"})),
    path("enveloping/", Enveloping.as_view()),
    path("enveloped/", csrf_exempt(envelope(Watched.as_view()))),
    path("page/", Page.as_view()),
    path("renaming/", Renaming.as_view()),
    path("async-rest/", AsyncWatched.as_view()),
    path("async-enveloped/", csrf_exempt(envelope(AsyncWatched.as_view()))),
    path("async-page/", AsyncPage.as_view()),
    path("function/", csrf_exempt(function)),
    path("decorated-rest/", subclass(Watched).as_view()),
    path("decorated-set/", subclass(WatchedSet).as_view({"post": "create"})),
    path("decorated-enveloping/", subclass(Enveloping).as_view()),
    path("decorated-enveloped/", idempotent(csrf_exempt(envelope(Watched.as_view())))),
    path("decorated-page/", subclass(Page).as_view()),
    path("decorated-renaming/", subclass(Renaming).as_view()),
    path("renaming-handler/", RenamingHandler.as_view()),
    path("outer/", Outer.as_view()),
    path("async-decorated-rest/", subclass(AsyncWatched).as_view()),
    path("async-decorated-enveloped/", idempotent(csrf_exempt(envelope(AsyncWatched.as_view())))),
    path("async-decorated-page/", subclass(AsyncPage).as_view()),
    path("decorated-function/", idempotent(csrf_exempt(function))),
    path("ninja/", api.urls),
    path("ninja-guarded/", guarded_api.urls),
    path("handler/", WatchedHandler.as_view()),
    path("async-handler/", AsyncWatchedHandler.as_view()),
    path("outside/", csrf_exempt(envelope(subclass(Watched).as_view()))),
    path("drf-errors/", Watched.as_view()),
    path("decorated-drf-errors/", subclass(Watched, errors="drf").as_view()),
]

PLAIN = [
    *("/rest/", "/set/", "/enveloping/", "/enveloped/", "/page/", "/function/", "/renaming/"),
    "/ninja/plain/",
]
ASYNC_PLAIN = ["/async-rest/", "/async-enveloped/", "/async-page/"]
DECORATED = [
    *("/decorated-rest/", "/decorated-set/", "/decorated-enveloping/", "/decorated-enveloped/"),
    *("/decorated-page/", "/decorated-function/", "/ninja-guarded/decorated/", "/outer/"),
    "/decorated-renaming/",
]
ASYNC_DECORATED = [
    *("/async-decorated-rest/", "/async-decorated-enveloped/", "/async-decorated-page/"),
]
whole_adapters = pytest.mark.parametrize(
    ("view", "middleware", "asgi"),
    [
        *((view, True, False) for view in (*PLAIN, *DECORATED)),
        *((view, False, False) for view in DECORATED),
        *((view, True, True) for view in ASYNC_PLAIN),
        *((view, False, True) for view in ASYNC_DECORATED),
        ("/async-rest/", True, False),
        ("/async-decorated-rest/", False, False),
    ],
)


def install(settings: Any, middleware: bool, **policy: Any) -> None:
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, *([MIDDLEWARE] if middleware else [])]
    settings.IDEMPOTENCY = policy


@whole_adapters
def test_they_see_a_replay_and_the_stored_answer_is_sent(
    view: str, middleware: bool, asgi: bool, caller: Caller, settings: Any, monkeypatch: Any
) -> None:
    monkeypatch.setattr(Caller, "asgi", asgi)
    install(settings, middleware)
    first = caller.post(view)
    seen_first = seen.copy()
    retry = caller.post(view)
    assert (retry.status_code, retry["Idempotency-Replayed"]) == (first.status_code, "true")
    assert retry.content == first.content
    del retry["Idempotency-Replayed"]
    assert dict(retry.headers) == dict(first.headers)
    assert seen == [*seen_first, *seen_first]
    assert seen or view.endswith("function/")
    assert Order.objects.count() == 1


@pytest.mark.parametrize(
    "view", ["/handler/", "/async-handler/", "/renaming-handler/", "/outside/"]
)
@pytest.mark.parametrize("middleware", [False, True])
def test_what_stands_outside_of_the_guard_does_the_same_again(
    view: str, middleware: bool, caller: Caller, settings: Any
) -> None:
    """A decorator that the guard cannot see behind; with the middleware it sees everything."""
    install(settings, middleware)
    first, retry = caller.post(view), caller.post(view)
    assert (first.status_code, retry.status_code) == (201, 201)
    one, two = first.json(), retry.json()
    if view == "/outside/":
        assert (one.pop("nonce") == two.pop("nonce")) is middleware
    else:
        assert retry["Idempotency-Replayed"] == "true"
        assert retry["X-Finalize"] == first["X-Finalize"]
    assert one == two
    names = [who for who, *_ in seen]
    assert names == ["Finalize", "Dispatch"] * 2
    assert {number for _, _, number in seen} == {Order.objects.get().pk}


@pytest.mark.parametrize(
    ("view", "middleware"),
    [
        *(("/rest/", True), ("/enveloped/", True), ("/decorated-rest/", False)),
        *(("/handler/", False), ("/async-rest/", True), ("/async-decorated-rest/", False)),
        ("/async-handler/", False),
    ],
)
class TestErrors:
    def test_pass_by_them_and_stay_problem_json(
        self, view: str, middleware: bool, caller: Caller, settings: Any
    ) -> None:
        install(settings, middleware, STATUS_HEADER="X-Status", KEY_HEADER="X-Key")
        caller.post(view)
        seen.clear()
        for data, key, status in (({"item": "two"}, "k-1", 422), ({}, "not a key", 400)):
            error = caller.post(view, data, key=key)
            assert error["Content-Type"] == "application/problem+json"
            assert error.status_code == error.json()["status"] == status
            assert error["X-Status"] == "refused"
            assert error.get("X-Key") == (key if status == 422 else None)
            assert view == "/enveloped/" or error["API-Version"] == "7"
            assert ("Finalize", status, error.json()["code"]) in seen


@pytest.mark.parametrize(
    ("view", "middleware"), [("/drf-errors/", True), ("/decorated-drf-errors/", False)]
)
def test_errors_through_drfs_exception_handler_say_what_became_of_the_key(
    view: str, middleware: bool, caller: Caller, settings: Any
) -> None:
    install(settings, middleware, STATUS_HEADER="X-Status", KEY_HEADER="X-Key", ERRORS="drf")
    caller.post(view)
    for data, key, status in (({"item": "two"}, "k-1", 422), ({}, "not a key", 400)):
        error = caller.post(view, data, key=key)
        assert (error.status_code, error["API-Version"]) == (status, "7")
        assert "detail" in error.json()
        assert error["X-Status"] == "refused"
        assert error.get("X-Key") == (key if status == 422 else None)


@pytest.mark.parametrize("status", [302, 403, 404, 451])
@pytest.mark.parametrize(("view", "middleware"), [("/rest/", True), ("/decorated-rest/", False)])
def test_who_refuses_behind_the_view_is_obeyed(
    view: str, middleware: bool, status: int, caller: Caller, settings: Any
) -> None:
    """I5: also one that hides what there is, or sends the caller to a login page."""
    install(settings, middleware)
    first = caller.post(view)
    late = caller.post(view, headers={"x-late": str(status)})
    assert (late.status_code, late.content) == (status, b"")
    assert caller.post(view).content == first.content


def raises(request: Any) -> Any:
    assert request.user.is_authenticated
    Order.objects.create(item="vm")
    raise Http404("no such plan")


async def araises(request: Any) -> Any:
    await Order.objects.acreate(item="vm")
    raise Http404("no such plan")


class Raises(View):
    def post(self, request: Any) -> Any:
        return raises(request)


def handler404(request: Any, exception: Any) -> HttpResponse:
    seen.append(exception)
    return HttpResponse(uuid4().hex, status=404)


urlpatterns += [
    path("raises/", csrf_exempt(idempotent(raises))),
    path("raises-class/", csrf_exempt(subclass(Raises).as_view())),
    path("raises-view/", idempotent(csrf_exempt(Raises.as_view()))),
    path("araises/", csrf_exempt(idempotent(araises))),
]

raising = pytest.mark.parametrize(
    "view", ["/raises/", "/raises-class/", "/raises-view/", "/araises/"]
)


@raising
def test_the_page_of_a_raised_404_is_made_once(view: str, caller: Caller, settings: Any) -> None:
    install(settings, False)
    first, retry = caller.post(view), caller.post(view)
    assert (first.status_code, retry.status_code) == (404, 404)
    assert (retry.content, retry["Idempotency-Replayed"]) == (first.content, "true")
    assert len(seen) == 1
    assert not Order.objects.exists()
    assert caller.post("/nowhere/").content != first.content


@raising
def test_pages_for_developers_are_not_stored(view: str, caller: Caller, settings: Any) -> None:
    install(settings, False)
    settings.DEBUG = True
    for _ in range(2):
        page = caller.post(view)
        assert (page.status_code, "Idempotency-Replayed" in page) == (404, False)
    assert seen == []


class Tenant(View):
    def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
        seen.append("setup")
        super().setup(request, *args, **kwargs)

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        seen.append("dispatch")
        return super().dispatch(request, *args, **kwargs)


class OfTenant(subclass(Raises), Tenant):
    """The guarded parent comes first."""


urlpatterns += [path("of-tenant/", csrf_exempt(OfTenant.as_view()))]


def test_a_guarded_parent_hides_no_other_parent(caller: Caller, settings: Any) -> None:
    install(settings, False)
    caller.post("/of-tenant/")
    assert seen[:2] == ["setup", "dispatch"]
