"""Views whose methods are descriptors, or stand on the live view, or choose another handler."""

from collections.abc import Callable
from functools import partial, partialmethod, update_wrapper
from typing import Any

import pytest
from django import urls
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import answer, rest_answer
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once


class Binds:
    """A decorated method as some libraries (wrapt) make them: no function, but it binds."""

    __annotations__: dict[str, Any] = {}

    def __init__(self, method: Callable[..., Any]) -> None:
        self._method = method
        update_wrapper(self, method)

    def __get__(self, view: Any, owner: Any) -> Any:
        return self if view is None else partial(self._method, view)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise AssertionError("called without a view")


class Counts:
    """An object in the place of a method that does not bind, as a mock is one."""

    def __call__(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        return counted(request, response)


def counted(request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
    """A whole ``finalize_response()``. What it adds is stored, so a replay has it, too."""
    response.accepted_renderer = getattr(request, "accepted_renderer", None)
    response.accepted_media_type, response.renderer_context = "application/json", {}
    response["X-Orders"] = str(Order.objects.count())
    return response


def handled(error: Any) -> Response:
    """A whole ``handle_exception()``."""
    return Response({"detail": str(error)}, status=error.status_code)


class Rest(APIView):
    def post(self, request: Any) -> Any:
        return rest_answer(request)


class RestHandler(APIView):
    @idempotent
    def post(self, request: Any) -> Any:
        return rest_answer(request)


class Unlikely(APIView):
    """What runs is none of this."""

    def post(self, request: Any) -> Any:
        raise AssertionError("called")

    def buy(self, request: Any) -> Any:
        return rest_answer(request)


class MethodOfDispatch(Unlikely):
    patch = Unlikely.buy

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.method = "PATCH"
        return super().dispatch(request, *args, **kwargs)


class MethodOfInitialization(Unlikely):
    patch = Unlikely.buy

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        request.method = "PATCH"
        return super().initialize_request(request, *args, **kwargs)


class HandlerOfDispatch(Unlikely):
    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.post = self.buy  # type: ignore[method-assign]
        return super().dispatch(request, *args, **kwargs)


class HandlerOfInitialization(Unlikely):
    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.post = self.buy  # type: ignore[method-assign]
        return super().initialize_request(request, *args, **kwargs)


class HandlerOfSetup(View):
    def setup(self, request: Any, *args: Any, **kwargs: Any) -> None:
        super().setup(request, *args, **kwargs)
        self.post = partial(answer)


class Unhashable:
    __hash__ = None  # type: ignore[assignment]

    def __call__(self, request: Any) -> Any:
        return answer(request)


class UnhashableHandler(View):
    post = Unhashable()


@idempotent
class Reused(View):
    def post(self, request: Any) -> Any:
        return answer(request)


@idempotent
class RestReused(APIView):
    def post(self, request: Any) -> Any:
        return rest_answer(request)


@idempotent
class Inner(View):
    def post(self, request: Any) -> Any:
        return answer(request)


class Delegates(View):
    """Calls the handler of another view, without that view's ``dispatch()``."""

    def post(self, request: Any) -> Any:
        inner = Inner()
        inner.setup(request)
        return inner.post(request)


class CallsAnother(APIView):
    """Another view of the same request answers before this one has its handler."""

    def dispatch(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        Inner.as_view()(request)
        return super().dispatch(request, *args, **kwargs)

    def post(self, request: Any) -> Any:
        return rest_answer(request)


def reused(view: Any) -> Any:
    """Not as ``as_view()``, which makes a view per request."""

    def dispatch(request: Any) -> Any:
        view.setup(request)
        return view.dispatch(request)

    return dispatch


class FinalizesItself:
    """Wraps what it inherits, on the live view."""

    def initialize_request(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        finalize = self.finalize_response

        def finalize_response(*args: Any, **kwargs: Any) -> Any:
            response = finalize(*args, **kwargs)
            response["X-Orders"] = str(Order.objects.count())
            return response

        self.finalize_response = finalize_response
        return super().initialize_request(request, *args, **kwargs)  # type: ignore[misc]


class NeverInitial:
    """Does without the checks in ``initial()``."""

    def dispatch(self: Any, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.args, self.kwargs, self.headers = args, kwargs, {}
        self.request = request = self.initialize_request(request, *args, **kwargs)
        try:
            response = self.post(request)
        except Exception as error:
            response = self.handle_exception(error)
        return self.finalize_response(request, response)


@idempotent(recheck="authentication")
class ChecksItself(APIView):
    """Puts methods of its own on the live view: ``initial()`` authenticates, then checks."""

    asked: list[str] = []

    def initialize_request(self, request: Any, *args: Any, **kwargs: Any) -> Any:
        self.perform_authentication = lambda request: request.user

        def initial(request: Any, *args: Any, **kwargs: Any) -> None:
            self.perform_authentication(request)
            self.asked.append(request.method)

        self.initial = initial
        return super().initialize_request(request, *args, **kwargs)

    def post(self, request: Any) -> Any:
        return rest_answer(request)


def made(base: Any, name: str, method: Any) -> type:
    return type("Made", (base,), {name: method})


def binding(name: str) -> Any:
    def method(self: Any, *args: Any, **kwargs: Any) -> Any:
        return getattr(APIView, name)(self, *args, **kwargs)

    return Binds(method)


HOOKED = (
    *("dispatch", "initialize_request", "initial", "perform_authentication"),
    *("handle_exception", "finalize_response"),
)
CLASSES: dict[str, Any] = {
    **{f"binds {name}": partial(made, name=name, method=binding(name)) for name in HOOKED},
    "partial": partial(
        made,
        name="finalize_response",
        method=partialmethod(APIView.finalize_response),  # type: ignore[arg-type]
    ),
    "static": partial(made, name="finalize_response", method=staticmethod(counted)),
    "object": partial(made, name="finalize_response", method=Counts()),
    "static handling": partial(made, name="handle_exception", method=staticmethod(handled)),
    "replaced": lambda base: type("Made", (FinalizesItself, base), {}),
    "never initial": lambda base: type("Made", (NeverInitial, base), {}),
}
"""By what is special: make a class of another one."""

GIVEN = {"given": {"finalize_response": counted}, "given handling": {"handle_exception": handled}}
"""Arguments of ``as_view()``."""

OWN = (MethodOfDispatch, MethodOfInitialization, HandlerOfDispatch, HandlerOfInitialization)
OTHERS = (*OWN, HandlerOfSetup, UnhashableHandler)

VIEWS: dict[str, Any] = {"Delegates": Delegates.as_view()}
for what in (*CLASSES, *GIVEN):
    make = CLASSES.get(what, lambda base: type("Made", (base,), {}))
    arguments: Any = GIVEN.get(what, {})
    VIEWS[f"{what}, handler"] = make(RestHandler).as_view(**arguments)
    for check in ("all", "authentication"):
        decorated = idempotent(recheck=check)(make(Rest))
        VIEWS[f"{what}, class, {check}"] = decorated.as_view(**arguments)
        VIEWS[f"{what}, middleware, {check}"] = make(Rest).as_view(**arguments)
for other in OTHERS:
    VIEWS[f"{other.__name__}, middleware, all"] = other.as_view()
    VIEWS[f"{other.__name__}, class, all"] = idempotent(type("Made", (other,), {})).as_view()

NAMES = list(VIEWS)
REUSED = {"reused": reused(Reused()), "rest-reused": reused(RestReused())}
urlpatterns = [
    *(urls.path(f"{number}/", csrf_exempt(VIEWS[name])) for number, name in enumerate(NAMES)),
    *(urls.path(f"{name}/", csrf_exempt(REUSED[name])) for name in REUSED),
    urls.path("calls-another/", CallsAnother.as_view()),
    urls.path("checks-itself/", ChecksItself.as_view()),
]


@pytest.mark.parametrize("name", NAMES)
def test_view_is_guarded(name: str, caller: Caller, settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    if "middleware" in name:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        settings.IDEMPOTENCY = {"RECHECK": name.rpartition(" ")[2]}
    path = f"/{NAMES.index(name)}/"
    malformed = caller.post(path, {"item": "vm"}, key="not, a\tkey")
    assert (malformed.status_code, Order.objects.count()) == (400, 0)
    first, replay = (caller.post(path, {"item": "vm"}) for _ in range(2))
    assert (first.status_code, replay.status_code, Order.objects.count()) == (201, 201, 1)
    assert replay["Idempotency-Replayed"] == "true"
    assert replay.get("X-Orders") == first.get("X-Orders")
    assert caller.post(path, {"item": "another"}).status_code == 422


@pytest.mark.parametrize("name", REUSED)
def test_a_view_that_serves_two_requests_knows_their_keys(
    name: str, caller: Caller, settings: Any
) -> None:
    settings.ROOT_URLCONF = __name__
    for key in ("k-1", "k-2"):
        assert caller.post(f"/{name}/", {"item": "vm"}, key="not, a\tkey").status_code == 400
        first, replay = (caller.post(f"/{name}/", {"item": "vm"}, key=key) for _ in range(2))
        assert ("Idempotency-Replayed" in first, replay.content) == (False, first.content)
        assert caller.post(f"/{name}/", {"item": "vm"}, key="not, a\tkey").status_code == 400
        assert caller.post(f"/{name}/", {"item": "vm"}, key=None).status_code == 201
    assert Order.objects.count() == 4


def test_a_view_that_calls_another_first_does_not_run_beside_its_replay(
    caller: Caller, settings: Any
) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
    caller.post("/calls-another/", {"item": "vm"})
    orders = Order.objects.count()
    for key in ("k-1", "not, a\tkey"):
        caller.post("/calls-another/", {"item": "vm"}, key=key)
        assert Order.objects.count() == orders


def test_checks_on_the_live_view_come_after_the_key_and_after_an_early_replay(
    caller: Caller, settings: Any
) -> None:
    settings.ROOT_URLCONF = __name__
    ChecksItself.asked.clear()
    assert caller.post("/checks-itself/", key="not, a\tkey").status_code == 400
    assert ChecksItself.asked == []
    assert caller.post("/checks-itself/", {"item": "vm"}).status_code == 201
    assert ChecksItself.asked == ["POST"]
    replay = caller.post("/checks-itself/", {"item": "vm"})
    assert (replay["Idempotency-Replayed"], ChecksItself.asked) == ("true", ["POST"])
