"""Purchases with an effect outside of the database, behind several kinds of view."""

import json
from collections.abc import Callable
from typing import Any

from django.db import transaction
from django.http import Http404, HttpResponse, JsonResponse
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.decorators import api_view
from rest_framework.exceptions import Throttled
from rest_framework.response import Response
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotent
from django_idempotency.effects import effect
from django_idempotency.remember import do_not_remember
from django_idempotency.resolving import STILL_UNKNOWN
from tests.shop.models import Order
from tests.shop.views import Broken

charges: list[str] = []
"""What the outside world has seen: items that were charged."""


def nothing(operation: Any) -> None:
    """Happens in a view after its charge, unless a test says otherwise."""


after_charge: Callable[[Any], None] = nothing


def unknown(operation: Any) -> Any:
    """What resolvers say, unless a test says otherwise."""
    return STILL_UNKNOWN


resolver: Callable[[Any], Any] = unknown


def ask(operation: Any) -> Any:
    return resolver(operation)


def buy(data: Any, operation: Any) -> tuple[int, dict[str, Any]]:
    order = Order.objects.create(item=data.get("item", "server"))
    charges.append(order.item)
    after_charge(operation)
    outcome = data.get("outcome")
    if outcome == "raise 404":
        raise Http404("no such plan")
    if outcome == "raise 429":
        raise Throttled
    if outcome == "raise 500":
        raise Broken
    return int(outcome or 201), {"id": order.pk, "item": order.item}


def answer(request: Any) -> HttpResponse:
    data = json.loads(request.body or b"{}")
    assert request.user.is_authenticated
    status, body = buy(data, getattr(request, "idempotency", None))
    response = JsonResponse(body, status=status)
    if data.get("not done"):
        request.idempotency.not_done(response)
    return do_not_remember(response) if data.get("forget") else response


def rest_answer(request: Any) -> Response:
    status, body = buy(request.data, getattr(request, "idempotency", None))
    response = Response(body, status=status)
    return request.idempotency.not_done(response) if request.data.get("not done") else response


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False)
def function(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@idempotent(atomic=False)
def in_request_block(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False, on_interrupted="run")
def running_again(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False, resolver=ask)
def resolved(request: Any) -> HttpResponse:
    return answer(request)


def ordered(item: str) -> int:
    return int(Order.objects.create(item=item).pk)


def take_steps(operation: Any, data: Any) -> HttpResponse:
    """Takes the steps of a purchase, for the client or in place of it."""
    charge = f"charge {operation.derive_key('charge')}"
    operation.step("charge", ordered, charge)
    after_charge(operation)
    order = operation.step("order", ordered, data["item"])
    return JsonResponse({"order": order, "for": data["user"]}, status=201)


def what_to_do(request: Any) -> Any:
    return request.data | {"user": request.user.get_username()}


finishing: Callable[[Any, Any], Any] = take_steps
noting: Callable[[Any], Any] = what_to_do
"""How operations are resumed, unless a test says otherwise."""


def finish(operation: Any, data: Any) -> Any:
    return finishing(operation, data)


def what_to_finish(request: Any) -> Any:
    return noting(request)


def go_on() -> None:
    """Happens in an effect after its write, unless a test says otherwise."""


after_shipping: Callable[[], None] = go_on


@effect(run="worker")
def ship(item: Any) -> None:
    """An effect whose world is the database, where all processes see it."""
    Order.objects.create(item=f"shipped {item}")
    after_shipping()


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ResumableView(APIView):
    @idempotent(atomic=False, resumable=finish, resume_data=what_to_finish)
    def post(self, request: Any) -> HttpResponse:
        return take_steps(request.idempotency, what_to_do(request))


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class ItselfView(APIView):
    """Its own handler: it is called again with the request of its client."""

    @idempotent(atomic=False, resumable=True)
    def post(self, request: Any) -> HttpResponse:
        return take_steps(request.idempotency, what_to_do(request))


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False, lock_connections=1)
def limited(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@transaction.non_atomic_requests
@idempotent(atomic=False, in_flight="wait")
def waiting(request: Any) -> HttpResponse:
    return answer(request)


@csrf_exempt
@transaction.non_atomic_requests
def bare(request: Any) -> HttpResponse:
    """Only the middleware guards it."""
    return answer(request)


@method_decorator([csrf_exempt, transaction.non_atomic_requests], name="dispatch")
@idempotent(atomic=False)
class ClassView(View):
    def post(self, request: Any) -> HttpResponse:
        return answer(request)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
class RestView(APIView):
    @idempotent(atomic=False)
    def post(self, request: Any) -> Response:
        return rest_answer(request)


class RunningAgainView(RestView):
    @idempotent(atomic=False, on_interrupted="run")
    def post(self, request: Any) -> Response:
        return rest_answer(request)


@method_decorator(transaction.non_atomic_requests, name="dispatch")
@idempotent(atomic=False)
class EffectViewSet(ViewSet):
    def create(self, request: Any) -> Response:
        return rest_answer(request)


@transaction.non_atomic_requests
@api_view(["POST"])
@idempotent(atomic=False)
def rest_function(request: Any) -> Response:
    return rest_answer(request)
