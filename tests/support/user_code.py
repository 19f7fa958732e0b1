"""Code as users write it: mypy reads it (``make check``), and the tests import it.

Where mypy must object, the line says so; an objection that does not come is an error, too.
"""

from datetime import timedelta
from typing import TYPE_CHECKING, Any, assert_type

from django.http import HttpRequest, HttpResponse, JsonResponse
from django.test import Client
from django.views import View
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.effects import KEY, after_commit, current_effect, effect
from django_idempotency.remember import do_not_remember, never_replay_body, remember, remember_for
from django_idempotency.test import advance, assert_idempotent, crash, expire, lost_response


@idempotent
def bare(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse({"pk": pk})


@idempotent(required=True, retention=timedelta(days=7))
def with_options(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse({"pk": pk})


@idempotency_exempt
def exempt(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse({"pk": pk})


@idempotency_exempt(reason="changes nothing")
def exempt_with_reason(request: HttpRequest, pk: int) -> JsonResponse:
    return JsonResponse({"pk": pk})


@idempotent
class ClassView(View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    def other(self) -> int:
        return 1


class RestView(APIView):
    @idempotent(errors="drf")
    def post(self, request: Request, name: str) -> Response:
        return remember_for(Response({"name": name}), timedelta(minutes=5))


@effect
def receipt(order: int, to: str = "ada") -> str:
    return to


@effect(max_tries=3, expires=timedelta(days=1), run="worker", name="user_code.provision")
async def provision(order: int) -> None: ...


if TYPE_CHECKING:
    request = HttpRequest()
    assert_type(bare(request, 1), JsonResponse)
    assert_type(with_options(request, pk=1), JsonResponse)
    assert_type(exempt(request, 1), JsonResponse)
    assert_type(exempt_with_reason(request, 1), JsonResponse)
    bare(request, "one")  # type: ignore[arg-type]
    with_options(request)  # type: ignore[call-arg]
    exempt_with_reason(request, number=1)  # type: ignore[call-arg]

    assert_type(ClassView(), ClassView)
    assert_type(ClassView().other(), int)
    assert_type(RestView().post(Request(request), "ada"), Response)
    RestView().post(Request(request), 1)  # type: ignore[arg-type]
    assert_type(idempotent(bare)(request, 1), JsonResponse)

    idempotent("view")  # type: ignore[call-overload]
    idempotency_exempt(because="changes nothing")  # type: ignore[call-overload]

    assert_type(remember(JsonResponse({})), JsonResponse)
    assert_type(do_not_remember(ValueError("no")), ValueError)
    assert_type(never_replay_body(Response()), Response)
    remember_for(Response(), 5)  # type: ignore[arg-type]

    assert_type(assert_idempotent(Client(), "/", {"a": 1}, format="json"), Any)
    assert_idempotent(Client(), "/", creates=[])  # type: ignore[arg-type]
    with crash(), lost_response():
        expire("k", ago=timedelta(days=1))
        advance(timedelta(hours=1))
    advance(3600)  # type: ignore[arg-type]

    assert_type(receipt(1, to="ada"), str)
    assert_type(receipt.named("receipt")(1), str)
    receipt("1")  # type: ignore[arg-type]
    effect(max_tries="3")  # type: ignore[call-overload]
    assert_type(after_commit(receipt, 1, to=KEY), str)
    assert_type(current_effect().key, str)
