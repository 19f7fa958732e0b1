"""Views, middlewares and adapters of a project that is guarded in one run and bare in the next."""

from collections.abc import Callable
from typing import Any

import pytest
from django.core.exceptions import PermissionDenied
from django.core.files.uploadedfile import SimpleUploadedFile
from django.db import transaction
from django.http import (
    FileResponse,
    Http404,
    HttpRequest,
    HttpResponse,
    HttpResponseRedirect,
    JsonResponse,
    StreamingHttpResponse,
)
from django.template.response import TemplateResponse
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import SessionAuthentication
from rest_framework.exceptions import ValidationError
from rest_framework.pagination import PageNumberPagination
from rest_framework.response import Response
from rest_framework.reverse import reverse
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView

from django_idempotency.decorators import idempotent
from tests.shop import urls as shop
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE, Adapter, each_once, usual_and_whole

MARKER = "Idempotency-Replayed"
BARE = {
    "/decorated-function/": "/function/",
    "/decorated-rest/": "/rest/",
    "/decorated-create/": "/viewset/",
    "/async-decorated-rest/": "/async-rest/",
    "/decorated/": "/plain/",
    "/decorated-drf/": "/drf/",
}
"""Views without the guard that do the same."""


def raises(error: Exception) -> Callable[[Any], HttpResponse]:
    def answer(request: Any) -> HttpResponse:
        raise error

    return answer


CREDENTIALS = ["Authorization", "Authentication-Info", "X-Auth-Token", "X-CSRFToken"]


def with_cookies(request: Any) -> HttpResponse:
    response = HttpResponse("welcome", headers={"X-Own": "kept", "X-Secret": "one time"})
    for name in CREDENTIALS:
        response[name] = "secret"
    response.set_cookie("session", "secret")
    return response


def with_headers(request: Any) -> HttpResponse:
    names = ("Connection", "Keep-Alive", "Upgrade", "Set-Cookie", "Proxy-Authenticate", "Date")
    headers = dict.fromkeys(names, "of this connection")
    return HttpResponse("", headers={**headers, "Location": "/a", "Vary": "Accept", "ETag": '"1"'})


def with_session(request: Any) -> HttpResponse:
    session = request.session
    session["visits"] = session.get("visits", 0) + 1
    return JsonResponse({"visits": session["visits"]})


def without_type(request: Any) -> HttpResponse:
    response = HttpResponse(b"\x00")
    del response["Content-Type"]
    return response


def with_redirect(request: Any) -> HttpResponse:
    return HttpResponseRedirect("/admin/")


ANSWERS: dict[str, Callable[[Any], Any]] = {
    "binary": lambda _: HttpResponse(bytes(range(256)) * 9, content_type="image/x-noise"),
    "latin": lambda _: HttpResponse("caf\xe9", charset="latin-1", headers={"X-Name": "caf\u0142"}),
    "empty": lambda _: HttpResponse(status=204),
    "untyped": without_type,
    "conflict": lambda _: HttpResponse(status=410, headers={"Allow": "PUT", "Vary": "Cookie"}),
    "cookies": with_cookies,
    "headers": with_headers,
    "session": with_session,
    "redirect": with_redirect,
    "stream": lambda _: StreamingHttpResponse(iter([b"one,", b"two"]), status=201),
    "file": lambda _: FileResponse(SimpleUploadedFile("a.txt", b"one,two"), status=201),
    "large": lambda _: HttpResponse("one,two", status=201),
    "missing": raises(Http404("no such plan")),
    "forbidden": raises(PermissionDenied("not yours")),
    "invalid": raises(ValidationError({"item": ["unknown"]})),
}


def made(request: Any, name: str) -> Any:
    assert request.user.is_authenticated  # as every view with a caller asks
    Order.objects.create(item=name)
    return ANSWERS[name](request)


@csrf_exempt
def plain(request: HttpRequest, name: str) -> HttpResponse:
    response: HttpResponse = made(request, name)
    return response


class Drf(APIView):
    def post(self, request: Any, name: str) -> Response:
        response: Response = made(request, name)
        return response


class Sessions(SessionAuthentication):
    def enforce_csrf(self, request: Any) -> None:
        """As for a browser that has sent its token."""


class TwoPerPage(PageNumberPagination):
    page_size = 2


class Catalogue(views.OrderModelViewSet):
    """What a browser sees: pages, links and forms."""

    authentication_classes = [Sessions]
    pagination_class = TwoPerPage

    def get_success_headers(self, data: Any) -> dict[str, str]:
        name = f"{self.basename}-detail"
        return {"Location": reverse(name, [data["id"]], request=self.request)}


GuardedCatalogue = idempotent(type("Catalogue", (Catalogue,), {"__doc__": Catalogue.__doc__}))


class Inherits(Drf):
    def post(self, request: Any) -> Response:
        return super().post(request, "large")


class Echoes(View):
    """Its URL's parameters have the names that hooks give to theirs."""

    def post(self, request: HttpRequest, **parameters: str) -> HttpResponse:
        return JsonResponse(parameters, status=201)


class EchoesRest(Drf):
    def post(self, request: Any, **parameters: str) -> Response:  # type: ignore[override]
        return Response(parameters, status=201)


@csrf_exempt
async def unhurried(request: HttpRequest) -> HttpResponse:
    order = await Order.objects.acreate(item="vm")
    if "missing" in request.GET:
        raise Http404
    return JsonResponse({"id": order.pk}, status=201)


@method_decorator(csrf_exempt, name="dispatch")
class Unhurried(View):
    async def post(self, request: HttpRequest) -> HttpResponse:
        return await unhurried(request)


@csrf_exempt
@transaction.atomic
@idempotent
def inside_a_transaction(request: HttpRequest) -> HttpResponse:
    return HttpResponse("never")


def not_here(request: HttpRequest, exception: Exception) -> HttpResponse:
    handled.append(exception)
    return HttpResponse(f"Not here: {exception}", status=404)


handler404 = not_here


router = SimpleRouter()
router.register("catalogue", Catalogue, basename="catalogue")
router.register("guarded-catalogue", GuardedCatalogue, basename="guarded-catalogue")

urlpatterns = [
    *shop.urlpatterns,
    path("plain/<name>", plain),
    path("decorated/<name>", idempotent(plain)),
    path("drf/<name>", Drf.as_view()),
    path("decorated-drf/<name>", idempotent(Drf.as_view())),
    path("decorated-csrf-function/", idempotent(views.csrf_function)),
    path("decorated-template-function/", idempotent(views.template_function)),
    path("echoes/<view>/<method>/<handler>/<act>/<dispatch>", Echoes.as_view()),
    path("echoes-rest/<view>/<method>/<handler>/<act>/<dispatch>", EchoesRest.as_view()),
    path("inherits/", Inherits.as_view()),
    path("decorated-inherits/", idempotent(type("Inherits", (Inherits,), {})).as_view()),
    path("unhurried/", unhurried),
    path("unhurried-class/", Unhurried.as_view()),
    path("inside-a-transaction/", inside_a_transaction),
    *router.urls,
]

OWN_ADAPTERS = [
    Adapter(adapter, middleware, atomic_requests)
    for adapter, middleware in (
        ("/plain/", True),
        ("/drf/", True),
        ("/decorated/", False),
        ("/decorated-drf/", False),
    )
    for atomic_requests in (False, True)
]
own_adapters = pytest.mark.parametrize(
    "adapter",
    usual_and_whole(each_once(OWN_ADAPTERS, lambda adapter: adapter.path), OWN_ADAPTERS),
    ids=str,
    indirect=True,
)

seen: list[Any] = []
"""What middlewares, signals and logs of one request noted, in order."""


handled: list[Exception] = []
"""What handler404 and DRF's exception handler were called with."""


def taken() -> list[Any]:
    noted = seen.copy()
    seen.clear()
    return noted


def install(settings: Any, *middlewares: str) -> None:
    """Put middlewares where they belong: the first one first, the others right above ours."""
    first, *others = [f"{__name__}.{name}" for name in middlewares]
    ours = [name for name in settings.MIDDLEWARE if name == MIDDLEWARE]
    settings.MIDDLEWARE = [first, *settings.BASE_MIDDLEWARE, *others, *ours]


class Outer:
    """Notes what a middleware sees."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        self.note("request")
        response = self._get_response(request)
        self.note("response", response.status_code)
        return response

    def note(self, *what: Any) -> None:
        seen.append((type(self).__name__, *what))

    def process_view(self, request: HttpRequest, view: Any, args: Any, kwargs: Any) -> None:
        self.note("view", args, kwargs)

    def process_exception(self, request: HttpRequest, error: Exception) -> None:
        self.note("exception", type(error).__name__)

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        self.note("template response", response.status_code)
        return response


class Inner(Outer):
    """Stands right above ours."""


class Converter(Outer):
    """Answers instead of Django."""

    def process_exception(self, request: HttpRequest, error: Exception) -> HttpResponse:
        super().process_exception(request, error)
        return JsonResponse({"sorry": type(error).__name__}, status=418)


class Annotator(Outer):
    """Adds to what is rendered."""

    def process_template_response(self, request: HttpRequest, response: Any) -> Any:
        super().process_template_response(request, response)
        if isinstance(response, TemplateResponse):
            response.context_data = {**(response.context_data or {}), "note": " (checked)"}
        else:
            response.data = {**response.data, "note": " (checked)"}
        return response


OUTCOMES = ["201", "404", "429", "raise 404", "raise 500"]
