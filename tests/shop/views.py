"""One purchase, behind every kind of view and both adapters."""

import json
from collections.abc import Callable
from typing import Any

from django.contrib.auth.decorators import permission_required
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, JsonResponse, StreamingHttpResponse
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.authentication import TokenAuthentication
from rest_framework.decorators import action, api_view
from rest_framework.permissions import DjangoModelPermissions
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ModelViewSet, ViewSet

from django_idempotency.decorators import idempotency_exempt, idempotent
from tests.shop.models import Order


def nothing() -> None:
    """Happens in a view between its write and its answer, unless a test says otherwise."""


after_write: Callable[[], None] = nothing


NOT_DONE = "not done"
"""An outcome: the view has no complaint of its server, and has not done what it was asked for."""


class Broken(Exception):
    """An exception nobody handles."""


def buy(data: Any) -> tuple[int, dict[str, Any]]:
    """Write one order; the request says how the view ends."""
    order = Order.objects.create(item=data.get("item", "server"))
    after_write()
    outcome = data.get("outcome")
    if outcome == "raise 404":
        raise Http404("no such plan")
    if outcome == "raise 403":
        raise PermissionDenied
    if outcome == "raise 500":
        raise Broken
    return status_of(outcome), {"id": order.pk, "item": order.item}


def status_of(outcome: str | None) -> int:
    """A page with the errors of a form has the status of a success."""
    return 200 if outcome == NOT_DONE else int(outcome or 201)


def told(request: Any, data: Any, response: Any) -> Any:
    """Return the response. If the request says so, the view says that nothing was done."""
    not_done = data.get("outcome") == NOT_DONE
    return request.idempotency.not_done(response) if not_done else response


def answer(request: Any) -> HttpResponse:
    assert request.user is not None
    assert request.user.is_authenticated is not None  # as every view with a caller does
    data = json.loads(request.body or b"{}")
    status, body = buy(data)
    response = JsonResponse(body, status=status, headers={"X-Order": str(body["id"])})
    return told(request, data, response)


def rest_answer(request: Any) -> Response:
    status, body = buy(request.data)
    response = Response(body, status=status, headers={"X-Order": str(body["id"])})
    return told(request, request.data, response)


@csrf_exempt
def function(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@idempotent
def decorated_function(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@permission_required("shop.add_order", raise_exception=True)
def permitted_function(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@permission_required("shop.add_order", raise_exception=True)
@idempotent
def decorated_permitted_function(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
def template_function(request: Any) -> TemplateResponse:
    data = json.loads(request.body or b"{}")
    status, body = buy(data)
    response = TemplateResponse(request, "order.html", body, status=status)
    return told(request, data, response)


@csrf_exempt
def streaming_function(request: Any) -> StreamingHttpResponse:
    status, body = buy(json.loads(request.body or b"{}"))
    return StreamingHttpResponse([json.dumps(body)], status=status)


@csrf_exempt
@idempotency_exempt(reason="a test of exemptions")
def exempt_function(request: Any) -> HttpResponse:
    return answer(request)


def csrf_function(request: Any) -> HttpResponse:
    status, body = buy(request.POST)
    return JsonResponse(body, status=status)


@method_decorator(csrf_exempt, name="dispatch")
class ClassView(View):
    def post(self, request: Any) -> HttpResponse:
        return answer(request)


@idempotent
class DecoratedClassView(ClassView):
    pass


class DecoratedMethodView(ClassView):
    @idempotent
    def post(self, request: Any) -> HttpResponse:
        return super().post(request)


class RestView(APIView):
    def post(self, request: Any) -> Response:
        return rest_answer(request)


@idempotent
class DecoratedRestView(RestView):
    pass


class DecoratedMethodRestView(RestView):
    @idempotent
    def post(self, request: Any) -> Response:
        return super().post(request)


class OrderViewSet(ViewSet):
    def create(self, request: Any) -> Response:
        return rest_answer(request)

    @action(detail=False, methods=["post"])
    def extra(self, request: Any) -> Response:
        return rest_answer(request)


@idempotent
class DecoratedViewSet(OrderViewSet):
    pass


class DecoratedMethodsViewSet(OrderViewSet):
    @idempotent
    def create(self, request: Any) -> Response:
        return super().create(request)

    @action(detail=False, methods=["post"])
    @idempotent
    def extra(self, request: Any) -> Response:
        return rest_answer(request)

    @idempotent
    @action(detail=False, methods=["post"])
    def other(self, request: Any) -> Response:
        return rest_answer(request)


@api_view(["POST"])
def rest_function(request: Any) -> Response:
    return rest_answer(request)


@api_view(["POST"])
@idempotent
def decorated_rest_function(request: Any) -> Response:
    return rest_answer(request)


@idempotent
@api_view(["POST"])
def outside_decorated_rest_function(request: Any) -> Response:
    return rest_answer(request)


@api_view(["POST"])
@idempotency_exempt
def exempt_rest_function(request: Any) -> Response:
    return rest_answer(request)


class PermittedRestView(RestView):
    permission_classes = [DjangoModelPermissions]
    queryset = Order.objects.all()


@idempotent
class DecoratedPermittedRestView(PermittedRestView):
    pass


class CountingAuthentication(TokenAuthentication):
    """Counts how often a caller is authenticated."""

    calls = 0

    def authenticate(self, request: Any) -> Any:
        type(self).calls += 1
        return super().authenticate(request)


class CountedRestView(RestView):
    authentication_classes = [CountingAuthentication]


@idempotent(errors="drf")
class DrfErrorsView(RestView):
    pass


@idempotent(required=True)
class RequiredView(RestView):
    pass


class OrderModelViewSet(ModelViewSet):
    """A stock viewset with the browsable API."""

    queryset = Order.objects.order_by("pk")

    def get_serializer_class(self) -> Any:
        from rest_framework.serializers import ModelSerializer

        class OrderSerializer(ModelSerializer):  # type: ignore[type-arg]
            class Meta:
                model = Order
                fields = ["id", "item"]

        return OrderSerializer
