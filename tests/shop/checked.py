"""The purchase behind checks that stand on handlers, in every way in which projects write them."""

from collections.abc import Callable
from functools import partial, update_wrapper, wraps
from typing import Any

from django.contrib.auth.decorators import permission_required, user_passes_test
from django.db import transaction
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.decorators import action, api_view
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from tests.shop import async_views, ninja_views
from tests.shop.views import answer, rest_answer

asked: list[str] = []
"""Names of the users who were asked for, one per time."""


def may_order(user: Any) -> bool:
    asked.append(str(user))
    return bool(user.has_perm("shop.add_order"))


async def amay_order(user: Any) -> bool:
    asked.append(str(user))
    return bool(await user.ahas_perm("shop.add_order"))


tested = user_passes_test(may_order, login_url="/login/")
permitted = permission_required("shop.add_order", raise_exception=True)


def own(view: Any) -> Any:
    """A check of the project's own, which says what it wraps, and nothing more."""

    @wraps(view)
    def checked(request: Any, *args: Any, **kwargs: Any) -> Any:
        if not may_order(request.user):
            return HttpResponse("no", status=403)
        return view(request, *args, **kwargs)

    return checked


def own_of_a_helper(view: Any) -> Any:
    """The same, with the call in a function of its own."""

    def go_on(*args: Any) -> Any:
        return view(*args)

    @wraps(view)
    def checked(request: Any) -> Any:
        return go_on(request) if may_order(request.user) else HttpResponse("no", status=403)

    return checked


def envelope(view: Any) -> Any:
    """Makes a response of data, and adds to it."""

    @wraps(view)
    def enveloped(request: Any) -> Any:
        result = own(view)(request)
        if isinstance(result, dict):
            result = JsonResponse(result, status=201)
        result["X-Seen"] = result.get("X-Seen", "") + "x"
        return result

    return enveloped


class Own:
    """A decorator that is a class."""

    def __init__(self, view: Any) -> None:
        update_wrapper(self, view)
        self._view = view

    def __call__(self, request: Any, *args: Any) -> Any:
        if not may_order(request.user):
            return HttpResponse("no", status=403)
        return self._view(request, *args)


def aown(view: Any) -> Any:
    @wraps(view)
    async def checked(request: Any, *args: Any) -> Any:
        if not await amay_order(await request.auser()):
            return HttpResponse("no", status=403)
        return await view(request, *args)

    return checked


def function() -> Any:
    def bought(request: HttpRequest) -> HttpResponse:
        return answer(request)

    return bought


def data_function() -> Any:
    def bought(request: HttpRequest) -> Any:
        response = answer(request)
        return {"body": response.content.decode()} if response.status_code == 201 else response

    return bought


def afunction() -> Any:
    async def bought(request: HttpRequest) -> Any:
        return await async_views.function(request)

    return bought


@csrf_exempt
def with_argument(request: HttpRequest, shop: str) -> HttpResponse:
    return answer(request)


class Method(View):
    @method_decorator(tested)
    def post(self, request: Any) -> HttpResponse:
        return answer(request)


class Methods(View):
    @method_decorator([permitted, own])
    def post(self, request: Any) -> HttpResponse:
        return answer(request)


@method_decorator(tested, name="post")
class Named(View):
    def post(self, request: Any) -> HttpResponse:
        return answer(request)


@method_decorator(tested, name="dispatch")
class InDispatch(View):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> HttpResponse:
        return answer(request)


class AsyncMethod(View):
    @method_decorator(aown)
    async def post(self, request: Any) -> HttpResponse:
        return await afunction()(request)


class Rest(APIView):
    @method_decorator(tested)
    def post(self, request: Any) -> Any:
        return rest_answer(request)


class Set(ViewSet):
    @method_decorator(own)
    def create(self, request: Any) -> Any:
        return rest_answer(request)

    @action(detail=False, methods=["post"])
    @method_decorator(tested)
    def extra(self, request: Any) -> Any:
        return rest_answer(request)


def rest_function(check: Any) -> Any:
    def bought(request: Any) -> Any:
        return rest_answer(request)

    return api_view(["POST"])(check(bought))


def operations(name: str) -> NinjaAPI:
    api = NinjaAPI(urls_namespace=name, auth=ninja_views.token)
    idempotent(api) if name.startswith("decorated") else None
    api.post("/sync/", **ninja_views.post)(own(ninja_views.copy(ninja_views.create)))
    return api


FUNCTIONS: dict[str, Callable[[], Any]] = {
    "tested": lambda: tested(function()),
    "own": lambda: own(function()),
    "own-of-a-helper": lambda: own_of_a_helper(function()),
    "envelope": lambda: envelope(data_function()),
    "class": lambda: Own(function()),
    "partial": lambda: partial(tested(with_argument), shop="one"),
    "two": lambda: permitted(own(function())),
    "transaction-inside": lambda: tested(transaction.atomic(function())),
    "transaction-outside": lambda: transaction.atomic(tested(function())),
    "async": lambda: aown(afunction()),
    "async-tested": lambda: user_passes_test(amay_order)(afunction()),
}
CLASSES: dict[str, Any] = {
    "method": Method,
    "methods": Methods,
    "named": Named,
    "in-dispatch": InDispatch,
    "async-method": AsyncMethod,
    "rest": Rest,
}


def decorated(view_class: Any) -> Any:
    return idempotent(type(f"Decorated{view_class.__name__}", (view_class,), {}))


urlpatterns = [
    *(path(f"function/{name}/", csrf_exempt(make())) for name, make in FUNCTIONS.items()),
    *(path(f"class/{name}/", csrf_exempt(each.as_view())) for name, each in CLASSES.items()),
    *(
        path(f"decorated/{name}/", csrf_exempt(decorated(each).as_view()))
        for name, each in CLASSES.items()
    ),
    path("set/create/", Set.as_view({"post": "create"})),
    path("set/extra/", Set.as_view({"post": "extra"})),
    path("decorated-set/create/", decorated(Set).as_view({"post": "create"})),
    path("decorated-set/extra/", decorated(Set).as_view({"post": "extra"})),
    path("rest-function/tested/", rest_function(tested)),
    path("rest-function/own/", rest_function(own)),
    path("outside-decorated-rest-function/", idempotent(rest_function(tested))),
    path("ninja/", operations("checked").urls),
    path("decorated-ninja/", operations("decorated-checked").urls),
]
