"""Purchases whose answers take more than a handler to render, and that are their own handlers.

A URLconf of its own: ``ROOT_URLCONF = "tests.shop.resumable"``.
"""

import json
from collections.abc import Callable
from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import login_required, permission_required
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.urls import include, path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import get_language
from django.views import View
from django.views.decorators.csrf import csrf_protect
from django.views.decorators.http import require_POST
from ninja import NinjaAPI, Path, Schema, Status
from rest_framework.decorators import api_view
from rest_framework.exceptions import ValidationError
from rest_framework.renderers import BaseRenderer, JSONRenderer
from rest_framework.response import Response
from rest_framework.serializers import CharField, Serializer
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.operations import current_operation
from tests.shop import effects
from tests.shop.effects import ordered

seen: list[dict[str, Any]] = []
"""What views that are their own handlers have found in their requests."""


def take_steps(operation: Any, item: str) -> dict[str, Any]:
    operation.step("charge", ordered, f"charge {operation.derive_key('charge')}")
    effects.after_charge(operation)
    return {"order": operation.step("order", ordered, item)}


def item_of(request: Any) -> str:
    data = request.data if hasattr(request, "data") else json.loads(request.body)
    return str(data["item"])


class Shouting(BaseRenderer):
    """Another media type than JSON, and the view's first choice."""

    media_type = "text/x-shout"
    format = "shout"

    def render(self, data: Any, *args: Any) -> bytes:
        return json.dumps(data).upper().encode()


passing: list[Any] = []
"""The data that envelopes have been put around."""


class Enveloped(APIView):
    """Puts every answer into an envelope, whose shape its clients know."""

    renderer_classes = [Shouting, JSONRenderer]

    def finalize_response(self, request: Any, response: Any, *args: Any, **kwargs: Any) -> Any:
        passing.append(response.data)
        response.data = {"data": response.data, "shop": kwargs["shop"]}
        return super().finalize_response(request, response, *args, **kwargs)


def finish_class(operation: Any, item: str) -> Response:
    return Response(take_steps(operation, item), status=201)


class RestClass(Enveloped):
    @idempotent(atomic=False, resumable=finish_class, resume_data=item_of)
    def post(self, request: Any, shop: str) -> Response:
        return finish_class(request.idempotency, item_of(request))


def finish_function(operation: Any, item: str) -> Response:
    return Response(take_steps(operation, item), status=201)


@api_view(["POST"])
@idempotent(atomic=False, resumable=finish_function, resume_data=item_of)
def rest_function(request: Any) -> Response:
    return finish_function(request.idempotency, item_of(request))


def finish_action(operation: Any, item: str) -> Response:
    return Response(take_steps(operation, item), status=201)


class RestViewSet(ViewSet):
    def get_renderers(self) -> Any:
        return [Shouting()] if self.action == "buy" else [JSONRenderer()]

    @idempotent(atomic=False, resumable=finish_action, resume_data=item_of)
    def buy(self, request: Any) -> Response:
        return finish_action(request.idempotency, item_of(request))


def finish_plain(operation: Any, item: str) -> Response:
    return Response(take_steps(operation, item), status=201)


@idempotent(atomic=False, resumable=finish_plain, resume_data=item_of)
def plain(request: Any) -> HttpResponse:
    """Its handler returns what no plain view can."""
    return JsonResponse(finish_plain(request.idempotency, item_of(request)).data, status=201)


def finish_template(operation: Any, item: str) -> TemplateResponse:
    take_steps(operation, item)
    none: Any = None
    return TemplateResponse(none, "order.html", {"item": item}, status=201)


@idempotent(atomic=False, resumable=finish_template, resume_data=item_of)
def template(request: Any) -> HttpResponse:
    return finish_template(request.idempotency, item_of(request))


async def finish_async(operation: Any, item: str) -> Response:
    return Response(await sync_to_async(take_steps)(operation, item), status=201)


@idempotent(atomic=False, resumable=finish_async, resume_data=item_of)
async def in_loop(request: Any) -> HttpResponse:
    return JsonResponse((await finish_async(request.idempotency, item_of(request))).data)


class Item(Schema):
    item: str


class Bought(Schema):
    order: int


api = NinjaAPI(urls_namespace="resumable")


def finish_operation(operation: Any, item: str) -> Any:
    return Status(201, take_steps(operation, item) | {"secret": "not in the schema"})


def item_in(request: HttpRequest) -> str:
    return str(json.loads(request.body)["item"])


@api.post("/buy/", response={201: Bought})
@idempotent(atomic=False, resumable=finish_operation, resume_data=item_in)
def ninja_operation(request: HttpRequest, data: Item) -> Any:
    return finish_operation(request.idempotency, data.item)  # type: ignore[attr-defined]


class BrokenRenderers(APIView):
    """Cannot be made ready to render without the request of its client."""

    def get_renderers(self) -> Any:
        if "SERVER_NAME" not in self.request._request.META:
            raise LookupError("a host")
        return super().get_renderers()

    @idempotent(atomic=False, resumable=finish_class, resume_data=item_of)
    def post(self, request: Any) -> Response:
        return finish_class(request.idempotency, item_of(request))


# Their own handlers.


def note(request: Any) -> None:
    """Note what only the client's request knew."""
    django_request = getattr(request, "_request", request)
    seen.append(
        {
            "user": request.user.pk,
            "uri": request.build_absolute_uri(),
            "root": reverse("plain"),
            "key": request.headers["Idempotency-Key"],
            "operation": current_operation().key,
            "type": request.content_type,
            "language": get_language(),
            "route": django_request.resolver_match.route,
        }
    )


itself = idempotent(atomic=False, resumable=True)


@require_POST
@login_required
@csrf_protect
@permission_required("shop.add_order", raise_exception=True)
@itself
def function(request: Any, shop: str) -> HttpResponse:
    note(request)
    return JsonResponse(take_steps(request.idempotency, item_of(request)), status=201)


@method_decorator(login_required, name="dispatch")
@itself
class PlainClass(View):
    def post(self, request: Any, shop: str) -> HttpResponse:
        note(request)
        return JsonResponse(take_steps(request.idempotency, item_of(request)), status=201)


class Order(Serializer):  # type: ignore[type-arg]
    item = CharField()


class OwnRestClass(Enveloped):
    @itself
    def post(self, request: Any, shop: str) -> Response:
        note(request)
        order = Order(data=request.data)
        order.is_valid(raise_exception=True)
        return Response(take_steps(request.idempotency, order.data["item"]), status=201)


@itself
class OwnViewSet(ViewSet):
    def buy(self, request: Any, shop: str) -> Response:
        note(request)
        return Response(take_steps(request.idempotency, item_of(request)), status=201)


@api_view(["POST"])
@itself
def own_rest_function(request: Any, shop: str) -> Response:
    note(request)
    return Response(take_steps(request.idempotency, item_of(request)), status=201)


@login_required
@itself
async def own_async(request: Any, shop: str) -> HttpResponse:
    user = await request.auser()
    assert user == request.user
    await sync_to_async(note)(request)
    answer = await sync_to_async(take_steps)(request.idempotency, item_of(request))
    return JsonResponse(answer, status=201)


def number_of(request: Any) -> str:
    return str(json.loads(request.body)["number"])


@login_required
@idempotent(atomic=False, resumable=True, header=None, key=number_of)
def numbered(request: Any) -> HttpResponse:
    seen.append(dict(request.headers))
    return JsonResponse(take_steps(request.idempotency, item_of(request)), status=201)


own_api = NinjaAPI(urls_namespace="own")


@own_api.post("/ninja/", response={201: Bought})
@itself
def own_operation(request: HttpRequest, data: Item, shop: Path[str]) -> Any:
    note(request)
    return Status(201, take_steps(request.idempotency, data.item))  # type: ignore[attr-defined]


closed_api = NinjaAPI(urls_namespace="closed", auth=lambda request: "somebody")


@closed_api.post("/buy/", response={201: Bought})
@itself
def closed_operation(request: HttpRequest, data: Item) -> Any:
    return Status(201, take_steps(request.idempotency, data.item))  # type: ignore[attr-defined]


def raises(request: Any) -> None:
    """What a view raises before its steps, unless a test says otherwise."""


before: Callable[[Any], None] = raises


@login_required
@itself
def failing(request: Any) -> HttpResponse:
    before(request)
    return JsonResponse(take_steps(request.idempotency, item_of(request)), status=201)


def gone(request: Any) -> None:
    raise Http404


class OncePerItem(APIView):
    """Refuses a second order of an item: a state that its own first attempt has made."""

    def precondition(self, item: str) -> bool:
        if effects.Order.objects.filter(item=item).exists():
            raise ValidationError("You have one.")
        return True

    @itself
    def post(self, request: Any) -> Response:
        operation, item = request.idempotency, item_of(request)
        if request.query_params.get("as") == "step":
            operation.step("may buy", self.precondition, item)
        else:
            self.precondition(item)
        order = operation.step("order", ordered, item)
        effects.after_charge(operation)
        return Response({"order": order}, status=201)


@login_required
def bare(request: Any, shop: str) -> HttpResponse:
    return JsonResponse(take_steps(request.idempotency, item_of(request)), status=201)


shop_urls = [
    path("function/", function),
    path("class/", PlainClass.as_view()),
    path("rest-class/", OwnRestClass.as_view()),
    path("viewset/", OwnViewSet.as_view({"post": "buy"})),
    path("rest-function/", own_rest_function),
    path("async/", own_async),
    path("", own_api.urls),
]

urlpatterns = [
    path("rest-class/<shop>/", RestClass.as_view()),
    path("rest-function/", rest_function),
    path("viewset/", RestViewSet.as_view({"post": "buy"})),
    path("plain/", plain, name="plain"),
    path("template/", template),
    path("async/", in_loop),
    path("ninja/", api.urls),
    path("broken/", BrokenRenderers.as_view()),
    path("own/<shop>/", include(shop_urls)),
    path("closed/", closed_api.urls),
    path("numbered/", numbered),
    path("failing/", failing),
    path("bare/<shop>/", bare),
    path("once/", OncePerItem.as_view()),
]
