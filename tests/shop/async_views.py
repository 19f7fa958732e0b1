"""The same purchase behind async views, Django's and adrf's."""

import asyncio
import json
from typing import Any

from adrf.decorators import api_view
from adrf.views import APIView
from adrf.viewsets import ViewSet
from asgiref.sync import sync_to_async
from django.contrib.auth.decorators import permission_required, user_passes_test
from django.core.exceptions import PermissionDenied
from django.http import Http404, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.response import Response

from django_idempotency.decorators import idempotent
from tests.shop import views
from tests.shop.models import Order


async def buy(data: Any) -> tuple[int, dict[str, Any]]:
    """As ``views.buy``, with the ORM's async methods."""
    pause = data.get("pause", 0)  # seconds
    await asyncio.sleep(pause)
    order = await Order.objects.acreate(item=data.get("item", "server"))
    await sync_to_async(lambda: views.after_write())()
    await asyncio.sleep(pause)
    outcome = data.get("outcome")
    if outcome == "raise 404":
        raise Http404("no such plan")
    if outcome == "raise 403":
        raise PermissionDenied
    if outcome == "raise 500":
        raise views.Broken
    return views.status_of(outcome), {"id": order.pk, "item": order.item}


async def answer(request: Any) -> HttpResponse:
    user = await request.auser()
    assert user.is_authenticated is not None  # as every view with a caller does
    data = json.loads(request.body or b"{}")
    status, body = await buy(data)
    response = JsonResponse(body, status=status, headers={"X-Order": str(body["id"])})
    return views.told(request, data, response)


async def rest_answer(request: Any) -> Response:
    status, body = await buy(request.data)
    response = Response(body, status=status, headers={"X-Order": str(body["id"])})
    return views.told(request, request.data, response)


@csrf_exempt
async def function(request: Any) -> HttpResponse:
    return await answer(request)


@csrf_exempt
@idempotent
async def decorated_function(request: Any) -> HttpResponse:
    return await answer(request)


async def may_order(user: Any) -> bool:
    if not await user.ahas_perm("shop.add_order"):
        raise PermissionDenied
    return True


@csrf_exempt
@user_passes_test(may_order)
async def permitted_function(request: Any) -> HttpResponse:
    return await answer(request)


@csrf_exempt
@permission_required("shop.add_order", raise_exception=True)
@idempotent
async def decorated_permitted_function(request: Any) -> HttpResponse:
    return await answer(request)


@csrf_exempt
@idempotent
async def template_function(request: Any) -> TemplateResponse:
    status, body = await buy(json.loads(request.body or b"{}"))
    return TemplateResponse(request, "order.html", body, status=status)


@method_decorator(csrf_exempt, name="dispatch")
class ClassView(View):
    async def post(self, request: Any) -> HttpResponse:
        return await answer(request)


@idempotent
class DecoratedClassView(ClassView):
    pass


@method_decorator(csrf_exempt, name="dispatch")
class DecoratedMethodView(View):
    @idempotent
    async def post(self, request: Any) -> HttpResponse:
        return await answer(request)


class RestView(APIView):
    view_is_async = True

    async def post(self, request: Any) -> Response:
        return await rest_answer(request)


@idempotent
class DecoratedRestView(RestView):
    pass


class DecoratedMethodRestView(RestView):
    @idempotent
    async def post(self, request: Any) -> Response:
        return await rest_answer(request)


class OrderViewSet(ViewSet):
    async def acreate(self, request: Any) -> Response:
        return await rest_answer(request)

    def create(self, request: Any) -> Response:
        """A sync handler of an async view; adrf hands it to the request's thread."""
        return views.rest_answer(request)


@idempotent
class DecoratedViewSet(OrderViewSet):
    pass


class DecoratedMethodsViewSet(OrderViewSet):
    @idempotent
    async def acreate(self, request: Any) -> Response:
        return await rest_answer(request)


@api_view(["POST"])
async def rest_function(request: Any) -> Response:
    return await rest_answer(request)


@api_view(["POST"])
@idempotent
async def decorated_rest_function(request: Any) -> Response:
    return await rest_answer(request)


@idempotent
@api_view(["POST"])
async def outside_decorated_rest_function(request: Any) -> Response:
    return await rest_answer(request)
