"""The view, guarded as the variant says."""

from contextlib import AbstractContextManager, nullcontext
from typing import Any

from django.contrib.auth.models import User
from django.http import HttpResponse
from django.urls import path
from rest_framework.authentication import BaseAuthentication
from rest_framework.generics import GenericAPIView
from rest_framework.permissions import AllowAny
from rest_framework.response import Response

from benchmarks.cases import FLOOR
from benchmarks.project import GUARD
from tests.shop.models import Order


def mixins() -> tuple[Any, ...]:
    """What a package wants views to inherit from."""
    if GUARD == "drf-idempotencykey":
        from drf_idempotencykey.mixins import DrfIdempotencyKeyMixin

        return (DrfIdempotencyKeyMixin,)
    if GUARD == "isik":
        from isik.django.apps.idempotency.drf import IdempotencyMixin

        return (IdempotencyMixin,)
    return ()


def around() -> AbstractContextManager[None]:
    """The statements of a first request, where they are measured alone."""
    if GUARD != FLOOR:
        return nullcontext()
    from benchmarks.statements import floor

    return floor().around()


class Bought(*mixins(), GenericAPIView):
    """One INSERT."""

    queryset = Order.objects.all()

    def post(self, request: Any) -> Response:
        with around():
            order = Order.objects.create(item=request.data["item"])
        return Response({"id": order.pk, "item": order.item}, status=201)


class Anonymous(Bought):
    authentication_classes = ()
    permission_classes = (AllowAny,)


class Nothing(GenericAPIView):
    """What a replay cannot do without, if the caller is to be checked."""

    def post(self, request: Any) -> HttpResponse:
        return HttpResponse(b"{}", "application/json", status=201)


class Known(BaseAuthentication):
    """Asks nobody."""

    def authenticate(self, request: Any) -> Any:
        return ADA, None


ADA = User(pk=1, username="ada")


class Dispatched(GenericAPIView):
    """Everything that Django REST framework does, and no statement."""

    authentication_classes = (Known,)

    def post(self, request: Any) -> Response:
        return Response({"id": 1, "item": request.data["item"]}, status=201)


urlpatterns = [
    path("dispatched/", Dispatched.as_view()),
    path("buy/", Bought.as_view()),
    path("anonymous/", Anonymous.as_view()),
    path("nothing/", Nothing.as_view()),
]
