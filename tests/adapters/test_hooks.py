"""Hooks stand on view classes, once: live views keep their methods; subclasses have their own."""

from typing import Any

import pytest
from django import urls
from django.http import HttpRequest, HttpResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import answer, rest_answer

pytestmark = pytest.mark.once

views: list[Any] = []


def marked(dispatch: Any) -> Any:
    """Do something to what comes out of ``dispatch()``."""

    def dispatched(*args: Any, **kwargs: Any) -> Any:
        response = dispatch(*args, **kwargs)
        response["X-Orders"] = str(Order.objects.count())
        return response

    return dispatched


class Plain(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        views.append(self)
        return answer(request)


class Rest(APIView):
    def post(self, request: Any) -> Any:
        views.append(self)
        return rest_answer(request)


class RestHandler(Rest):
    @idempotent
    def post(self, request: Any) -> Any:
        return super().post(request)


@idempotent(recheck="authentication")
class Decorated(Plain):
    pass


@idempotent(recheck="authentication")
class DecoratedRest(Rest):
    pass


class Child(Decorated):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return marked(super().dispatch)(request, *args, **kwargs)


class RestChild(DecoratedRest):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        return marked(super().dispatch)(request, *args, **kwargs)


@method_decorator(marked, name="dispatch")
@idempotent
class DecoratedTwice(Plain):
    pass


PATHS = {
    each.__name__: each
    for each in (Decorated, DecoratedRest, RestHandler, Child, RestChild, DecoratedTwice)
}
urlpatterns = [urls.path(f"{name}/", csrf_exempt(PATHS[name].as_view())) for name in PATHS]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    views.clear()


@pytest.mark.parametrize("name", PATHS)
def test_nothing_is_put_on_a_live_view_but_its_handler(name: str, caller: Caller) -> None:
    caller.post(f"/{name}/", {"item": "vm"})
    caller.post(f"/{name}/", {"item": "vm"}, key="not, a\tkey")
    (view,) = views
    methods = {name for name in vars(view) if callable(getattr(type(view), name, None))}
    assert methods <= {"post"}


@pytest.mark.parametrize("name", PATHS)
def test_of_two_requests_one_runs(name: str, caller: Caller) -> None:
    first, replay = (caller.post(f"/{name}/", {"item": "vm"}) for _ in range(2))
    assert (first.status_code, replay.status_code) == (201, 201)
    assert replay["Idempotency-Replayed"] == "true"
    assert Order.objects.count() == 1


@pytest.mark.parametrize("name", ["Child", "RestChild", "DecoratedTwice"])
def test_the_guard_ends_outside_of_the_outermost_dispatch(name: str, caller: Caller) -> None:
    first = caller.post(f"/{name}/", {"item": "vm"})
    Order.objects.create(item="another")
    replay = caller.post(f"/{name}/", {"item": "vm"})
    assert (first["X-Orders"], replay["X-Orders"]) == ("1", "1")


def test_a_class_is_hooked_once(caller: Caller) -> None:
    before = vars(Child)["dispatch"]
    for key in ("k-1", "k-2"):
        caller.post("/Child/", {"item": "vm"}, key=key)
    Child.as_view()
    assert vars(Child)["dispatch"] is before
