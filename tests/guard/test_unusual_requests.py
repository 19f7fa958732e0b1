"""Views that cannot be rendered or guarded, workers told to exit, nonsense in headers."""

import json
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.core.exceptions import ImproperlyConfigured
from django.db import connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.template.response import TemplateResponse
from django.test import RequestFactory
from django.urls import path
from django.utils.decorators import method_decorator
from django.views import View
from django.views.decorators.csrf import csrf_exempt
from rest_framework.renderers import JSONRenderer
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.views import APIView

from django_idempotency.conf.policy import Policy
from django_idempotency.decorators import idempotent
from django_idempotency.http.claim import payload
from django_idempotency.http.principal import scope_of
from tests.conftest import Caller
from tests.shop import urls, views
from tests.shop.models import Order


@csrf_exempt
@idempotent
def no_template(request: HttpRequest) -> TemplateResponse:
    Order.objects.create(item="vm")
    return TemplateResponse(request, "no such template.html")


class Unrenderable(JSONRenderer):
    def render(self, *args: Any, **kwargs: Any) -> bytes:
        raise ValueError


class NotRendered(APIView):
    renderer_classes = [Unrenderable]

    @idempotent
    def post(self, request: Any) -> Response:
        Order.objects.create(item="vm")
        return Response({})


@csrf_exempt
def reads_first(request: HttpRequest) -> HttpResponse:
    request.read(1)
    return idempotent(views.function)(request)


class WorksBehindLogin(LoginRequiredMixin, View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return HttpResponse()


@method_decorator(csrf_exempt, name="dispatch")
class Members(LoginRequiredMixin, View):
    def post(self, request: HttpRequest) -> HttpResponse:
        return HttpResponse()


@csrf_exempt
def exits(request: HttpRequest) -> HttpResponse:
    Order.objects.create(item="vm")
    raise SystemExit(3)


@csrf_exempt
@idempotent(methods=["PUT"])
def only_put(request: HttpRequest) -> HttpResponse:
    return JsonResponse(views.buy(json.loads(request.body))[1], status=201)


class Hand(APIView):
    def post(self, request: Any) -> Any:
        by_hand = Request(request._request, authenticators=request.authenticators)
        return views.DecoratedMethodRestView().post(by_hand)


urlpatterns = [
    *urls.urlpatterns,
    path("no-template/", no_template),
    path("not-rendered/", NotRendered.as_view()),
    path("reads-first/", reads_first),
    path("works-behind-login/", csrf_exempt(idempotent(WorksBehindLogin.as_view()))),
    path("members/", Members.as_view()),
    path("decorated-members/", csrf_exempt(idempotent(Members.as_view()))),
    path("exits/", exits),
    path("only-put/", only_put),
    path("hand/", Hand.as_view()),
]


@pytest.fixture(autouse=True)
def _urls(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


@pytest.mark.parametrize("path", ["/no-template/", "/not-rendered/"])
def test_an_answer_that_cannot_be_rendered_undoes_the_writes(path: str, caller: Caller) -> None:
    for _ in range(2):
        assert caller.post(path).status_code == 500
    assert not Order.objects.exists()


@pytest.mark.parametrize("path", ["/reads-first/", "/works-behind-login/", "/hand/"])
def test_what_cannot_be_guarded_is_an_error_and_does_nothing(path: str, caller: Caller) -> None:
    assert caller.post(path, {"item": "vm"}).status_code == 500
    assert not Order.objects.exists()


def test_what_cannot_be_guarded_runs_without_a_key(caller: Caller) -> None:
    """I9."""
    assert caller.post("/works-behind-login/", key=None).status_code == 200


def test_a_worker_that_is_told_to_exit(use_middleware: None, caller: Caller) -> None:
    """What gunicorn raises in a view when its time is over."""
    with pytest.raises(SystemExit):
        caller.post("/exits/")
    assert not connection.in_atomic_block
    assert not Order.objects.exists()


def test_methods_that_policy_leaves_out(caller: Caller, settings: Any) -> None:
    for _ in range(2):
        caller.post("/only-put/")
    settings.MIDDLEWARE = [
        *settings.BASE_MIDDLEWARE,
        "django_idempotency.middleware.IdempotencyMiddleware",
    ]
    settings.IDEMPOTENCY = {"METHODS": ["PUT"]}
    for view in ("/function/", "/rest/"):
        caller.post(view)
        caller.post(view)
    assert Order.objects.count() == 6


def test_an_anonymous_caller_whose_view_raises(
    use_middleware: None, client: Any, transactional_db: None
) -> None:
    client.raise_request_exception = False
    data, headers = {"outcome": "raise 500"}, {"idempotency-key": "k"}
    arguments = {"content_type": "application/json", "headers": headers}
    assert client.post("/function/", data, **arguments).status_code == 500


def test_content_length_may_be_nonsense() -> None:
    request = RequestFactory().post("/", b"abc", content_type="text/plain")
    request.META["CONTENT_LENGTH"] = "abc"
    assert payload(request) is not None


def test_a_user_without_identity_is_an_error() -> None:
    """I16."""

    class Ghost:
        is_authenticated = True

    request = RequestFactory().post("/")
    request.user = Ghost()  # type: ignore[assignment]
    with pytest.raises(ImproperlyConfigured, match="Ghost"):
        scope_of(request, Policy())


@pytest.mark.parametrize("path", ["/members/", "/decorated-members/"])
def test_methods_without_a_handler_are_refused_by_django(
    path: str, use_middleware: None, caller: Caller
) -> None:
    """Although permission checks stand in ``dispatch()``."""
    response = caller.send("put", path)
    assert (response.status_code, response["Allow"]) == (405, "POST, OPTIONS")
