"""A shop whose carts and messages are in visitors' sessions, and workers that die at a moment."""

from collections.abc import Callable
from copy import copy
from hashlib import sha256
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib import messages
from django.contrib.auth import login
from django.contrib.auth.models import User
from django.core.cache import cache
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect
from django.test import Client
from django.urls import path
from django.utils.safestring import mark_safe
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from django_idempotency.http.session import scope_id
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.interruptions import Crash

POLICY: dict[str, Any] = {"scope": "session", "save_session": True}
SESSIONS = "django.contrib.sessions.backends"
_MESSAGES = "django.contrib.messages.storage"
STORAGES = {
    "session": f"{_MESSAGES}.session.SessionStorage",
    "cookie": f"{_MESSAGES}.cookie.CookieStorage",
    "fallback": f"{_MESSAGES}.fallback.FallbackStorage",
}
SAID = "Thanks for <vm>"

before_store: list[Callable[[], None]] = []
"""Called by the view when it has done its work, and by :class:`Dying` around the guard."""
after_commit: list[Callable[[], None]] = []
before_guard: list[Callable[[], None]] = []


def call_once(hooks: list[Callable[[], None]]) -> None:
    while hooks:
        hooks.pop()()


class Dying:
    """A middleware between Django's and the guard: workers die here, after the commit."""

    def __init__(self, get_response: Any) -> None:
        self._get_response = get_response

    def __call__(self, request: Any) -> Any:
        if "HTTP_X_LOADS" in request.META:
            request.session.get("cart")
        if "HTTP_X_SAYS" in request.META:
            messages.info(request, request.META["HTTP_X_SAYS"])
        if "HTTP_X_CHANGES" in request.META:
            request.session["visited"] = True
        if request.method == "POST":
            call_once(before_guard)
        response = self._get_response(request)
        if request.method == "POST":
            call_once(after_commit)
        if "HTTP_X_LATE" in request.META:
            request.session["late"] = True
        return response


def shop(request: HttpRequest) -> HttpResponse:
    """Show the visitor's cart and messages, as any page does."""
    scope_id(request)
    if "add" in request.GET:
        request.session["cart"] = [*request.session.get("cart", []), request.GET["add"]]
    said = [str(each) for each in messages.get_messages(request)]
    safe = [hasattr(each.message, "__html__") for each in messages.get_messages(request)]
    tags = [each.tags for each in messages.get_messages(request)]
    cart = request.session.get("cart", [])
    user = request.user.get_username()  # type: ignore[union-attr]
    seen = {"said": said, "safe": safe, "tags": tags}
    return JsonResponse({"cart": cart, "user": user, **seen})


def order(request: Any) -> str:
    """Order what is in the cart; return the outcome that was asked for."""
    asked = str(request.GET.get("outcome", ""))
    for item in request.session.pop("cart", []):
        Order.objects.create(item=item)
    if "login" in asked:
        login(request, User.objects.get_or_create(username="ada")[0])
    if "flush" in asked:
        request.session.flush()
    say(request, asked)
    if "saved" in asked:
        request.session.save()
    call_once(before_store)
    if "404" in asked:
        raise Http404
    if "failure" in asked:
        raise RuntimeError
    return asked


def say(request: Any, asked: str) -> None:
    """Leave messages for the next page."""
    if "level" in asked:
        messages.set_level(request, messages.DEBUG)
    for number in range(60 if "many" in asked else 0):
        tags = sha256(bytes([number])).hexdigest()  # a cookie's contents are compressed
        messages.info(request, f"many {number}", extra_tags=tags)
    if "huge" in asked:
        messages.info(request, "x" * 20_000)
    if "silent" not in asked:
        messages.success(request, SAID)
        if "safe" in asked:
            messages.info(request, mark_safe("<b>safe</b>"), extra_tags="big")


def answer(request: Any, asked: str) -> HttpResponse:
    if "invalid" in asked:
        page: HttpResponse = request.idempotency.not_done(HttpResponse("mend this"))
        return page
    for status in (400, 403, 409, 500, 503):
        if str(status) in asked:
            return HttpResponse("no", status=status)
    return redirect("/shop/")


def function(request: HttpRequest) -> HttpResponse:
    return answer(request, order(request))


class Checkout(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return answer(request, order(request))


class RestCheckout(APIView):
    authentication_classes: Any = ()
    permission_classes: Any = ()

    def post(self, request: Any) -> Response:
        asked = order(request._request)
        made = answer(request._request, asked)
        response = Response("", made.status_code, headers=dict(made.items()))
        if "invalid" in asked:
            request._request.idempotency.not_done(response)
        return response


async def async_function(request: HttpRequest) -> HttpResponse:
    return answer(request, await sync_to_async(order)(request))


KINDS = {
    "function": function,
    "class": Checkout.as_view(),
    "rest": RestCheckout.as_view(),
    "async": async_function,
}

urlpatterns = [
    path("shop/", shop),
    *(path(f"{name}/", csrf_exempt(view)) for name, view in KINDS.items()),
    path("decorated-function/", csrf_exempt(idempotent(**POLICY)(function))),
    path("decorated-class/", csrf_exempt(idempotent(**POLICY)(Checkout.as_view()))),
    path("decorated-rest/", idempotent(**POLICY)(RestCheckout.as_view())),
    path("decorated-async/", csrf_exempt(idempotent(**POLICY)(async_function))),
]


def open_shop(settings: Any, storage: str) -> None:
    """:param storage: of messages"""
    settings.SESSION_ENGINE = f"{SESSIONS}.db"
    settings.MESSAGE_STORAGE = STORAGES[storage]
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, f"{__name__}.Dying", MIDDLEWARE]
    use(settings)


def use(settings: Any, **policy: Any) -> None:
    settings.IDEMPOTENCY = {name.upper(): value for name, value in (POLICY | policy).items()}


def close_shop() -> None:
    for hooks in (before_guard, before_store, after_commit):
        hooks.clear()
    cache.clear()


class Visitor:
    """A browser: keeps cookies, unless the response was lost."""

    def __init__(self) -> None:
        self.client = Client(raise_request_exception=False)

    def page(self, **query: str) -> Any:
        return self.client.get("/shop/", query).json()

    def post(self, path: str, key: str = "k", outcome: str = "", **headers: str) -> Any:
        return self.client.post(
            path,
            query_params={"outcome": outcome},
            headers=({"idempotency-key": key} if key else {}) | headers,
        )

    def drop(self, path: str, key: str = "k", **arguments: str) -> None:
        """Post, and the answer is lost on its way: the browser has none of its cookies."""
        before = copy(self.client.cookies)
        self.post(path, key, **arguments)
        self.client.cookies = before

    def same_browser(self) -> "Visitor":
        """Another request of the same browser, at the same time."""
        other = Visitor()
        other.client.cookies = copy(self.client.cookies)
        return other

    def lose(self, path: str, key: str = "k", **arguments: str) -> None:
        """Post, and the worker dies after the commit: no byte of the answer arrives."""

        def die() -> None:
            raise Crash

        after_commit.append(die)
        try:
            self.post(path, key, **arguments)
        except Crash:
            return
        raise AssertionError("the worker lives")
