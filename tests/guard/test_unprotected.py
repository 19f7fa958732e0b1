"""I18: a key that protects nothing is told to the client, and to the view."""

import copy
from collections.abc import Callable
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.management import CommandError, call_command
from django.http import HttpRequest, JsonResponse
from django.test import Client
from django.urls import include, path
from django.views.decorators.csrf import csrf_exempt
from ninja import NinjaAPI
from rest_framework.decorators import action, api_view
from rest_framework.permissions import AllowAny, IsAuthenticated, IsAuthenticatedOrReadOnly
from rest_framework.response import Response
from rest_framework.routers import SimpleRouter
from rest_framework.views import APIView
from rest_framework.viewsets import ViewSet

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.guard.status import NoOperation, NotGuarded
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.shop.ninja_views import ANY, create, token
from tests.shop.ninja_views import copy as copied
from tests.shop.views import answer
from tests.support.adapters import MIDDLEWARE

UNPROTECTED = "Idempotency-Unprotected"


@csrf_exempt
def asks(request: Any) -> JsonResponse:
    """Says what it knows of its operation."""
    operation = request.idempotency
    if operation:
        return JsonResponse({"key": operation.key})
    try:
        return JsonResponse({"key": operation.key})
    except AttributeError as error:
        return JsonResponse({"why": str(error)})


class AsksRest(APIView):
    permission_classes = [AllowAny]

    def post(self, request: Any) -> Response:
        response = asks(request._request)
        return Response({"said": response.content.decode()})


class OpenView(views.RestView):
    permission_classes = [AllowAny]


class ReadOnlyView(views.RestView):
    permission_classes = [IsAuthenticatedOrReadOnly]


class MixedViewSet(ViewSet):
    permission_classes = [IsAuthenticated]

    def create(self, request: Any) -> Response: ...

    @action(detail=False, methods=["post"], permission_classes=[])
    def everybody(self, request: Any) -> Response: ...


class DecidesItself(OpenView):
    def get_permissions(self) -> Any:
        return [IsAuthenticated()]


class ExemptHandler(OpenView):
    @idempotency_exempt(reason="a test")
    def post(self, request: Any) -> Response:
        return super().post(request)


@api_view(["POST"])
def api_function(request: Any) -> Response: ...


def ninja(name: str, auth: Any, **options: Any) -> Any:
    api = NinjaAPI(urls_namespace=f"unprotected-{name}", auth=auth)
    api.post("/", response=ANY)(idempotent(**options)(copied(create)))
    api.post("/exempt/", response=ANY)(idempotency_exempt(reason="a test")(copied(create)))
    return api.urls


def required(view: Any) -> Any:
    return csrf_exempt(idempotent(required=True)(view))


def bare(request: HttpRequest) -> Any:
    return answer(request)


urlpatterns = [
    path("function/", views.function),
    path("class/", views.ClassView.as_view()),
    path("rest/", OpenView.as_view()),
    path("exempt-function/", views.exempt_function),
    path("exempt-handler/", ExemptHandler.as_view()),
    path("ninja/", ninja("open", None)),
    path("ninja-required/", ninja("required", None, required=True)),
    path("required-function/", required(bare)),
    path("required-rest/", idempotent(required=True)(OpenView.as_view())),
    path("decorated-function/", csrf_exempt(idempotent(bare))),
    path("decorated-rest/", idempotent(OpenView.as_view())),
    path("put-only/", csrf_exempt(idempotent(methods=["PUT"])(bare))),
    path("asks/", asks),
    path("asks-decorated/", csrf_exempt(idempotent(asks))),
    path("asks-exempt/", idempotency_exempt(reason="a test")(copy.copy(asks))),
    path("asks-rest/", idempotent(AsksRest.as_view())),
    path("closed/", views.RestView.as_view()),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__


def post(url: str, key: str | None = "k", **headers: str) -> Any:
    headers |= {} if key is None else {"idempotency-key": key}
    client = Client(raise_request_exception=False)
    return client.post(url, {"item": "vm"}, content_type="application/json", headers=headers)


middleware = pytest.mark.parametrize("listed", [True, False], ids=["middleware", "decorator"])


@pytest.fixture
def project(settings: Any, listed: bool) -> None:
    if listed:
        settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@middleware
@pytest.mark.usefixtures("project", "transactional_db")
class TestRequired:
    @pytest.mark.parametrize("url", ["required-function", "required-rest", "ninja-required"])
    def test_an_anonymous_caller_is_refused(self, url: str) -> None:
        for _ in range(2):
            refused = post(f"/{url}/")
            assert refused.status_code == 403
            assert refused.json()["code"] == "idempotency_caller_required"
            assert UNPROTECTED not in refused
        assert not Order.objects.exists()
        assert post(f"/{url}/", key=None).json()["code"] == "idempotency_key_missing"

    def test_policy_may_share_keys_or_refuse_in_its_own_way(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"ANONYMOUS": "share"}
        first = post("/required-function/")
        assert post("/required-function/").content == first.content
        settings.IDEMPOTENCY = {"ANONYMOUS": "refuse"}
        code = post("/required-function/").json()["code"]
        assert code == "idempotency_anonymous_refused"


@pytest.mark.usefixtures("transactional_db")
class TestIgnoredKeys:
    @pytest.mark.parametrize(
        "url",
        [
            *("function", "class", "rest", "ninja", "decorated-function", "decorated-rest"),
            *("exempt-function", "exempt-handler", "ninja/exempt", "put-only"),
        ],
    )
    def test_the_client_is_told(self, url: str, use_middleware: None) -> None:
        for _ in range(2):
            response = post(f"/{url}/")
            assert (response.status_code, response[UNPROTECTED]) == (201, "true")
        assert Order.objects.count() == 2
        assert UNPROTECTED not in post(f"/{url}/", key=None)

    @pytest.mark.parametrize("url", ["decorated-function", "decorated-rest", "ninja"])
    def test_without_the_middleware(self, url: str) -> None:
        response = post(f"/{url}/")
        assert (response.status_code, response[UNPROTECTED]) == (201, "true")

    def test_paths_that_the_settings_leave_out(self, use_middleware: None, settings: Any) -> None:
        settings.IDEMPOTENCY = {"EXEMPT_PATHS": ["^/function/"]}
        assert post("/function/")[UNPROTECTED] == "true"

    @pytest.mark.parametrize("url", ["function", "class", "rest", "decorated-function"])
    def test_whose_key_counts_is_not(self, url: str, use_middleware: None, caller: Caller) -> None:
        for body, key in (({}, "k"), ({}, "k"), ({"a": 1}, "k"), ({}, "a, b")):
            assert UNPROTECTED not in caller.post(f"/{url}/", body, key=key)

    def test_nor_is_who_did_not_reach_a_view(self, use_middleware: None) -> None:
        for url, status in (("/closed/", 401), ("/nowhere/", 404)):
            response = post(url)
            assert (response.status_code, UNPROTECTED in response) == (status, False)


@middleware
@pytest.mark.usefixtures("project", "transactional_db")
class TestOperation:
    def test_an_ignored_key(self) -> None:
        assert "anonymous" in post("/asks-decorated/").json()["why"]
        assert "anonymous" in post("/asks-rest/").json()["said"]

    def test_no_key(self, caller: Caller) -> None:
        for url in ("/asks-decorated/", "/asks-rest/"):
            said = caller.post(url, key=None).content.decode()
            assert "it has no key" in said
            assert "required=True" in said

    def test_a_key(self, caller: Caller) -> None:
        assert caller.post("/asks-decorated/").json() == {"key": "k-1"}


@pytest.mark.usefixtures("transactional_db")
def test_a_view_that_the_middleware_leaves_alone(use_middleware: None, caller: Caller) -> None:
    assert "exempt" in caller.post("/asks-exempt/").json()["why"]
    assert "it has no key" in caller.post("/asks/", key=None).json()["why"]


@pytest.mark.once
class TestNoOperation:
    def test_it_is_false_and_has_nothing(self) -> None:
        nothing = NoOperation("of a test")
        assert not nothing
        assert getattr(nothing, "key", None) is None
        with pytest.raises(NotGuarded, match=r"idempotency\.attempt: .* because of a test"):
            _ = nothing.attempt

    def test_it_can_be_copied_and_shown(self) -> None:
        assert repr(copy.deepcopy(NoOperation("of a test"))) == "<NoOperation: of a test>"


@pytest.mark.once
class TestContract:
    """``--check`` says what is known to admit anonymous callers."""

    @pytest.fixture
    def reported(self, settings: Any) -> Callable[..., str]:
        def check(*patterns: Any, **policy: Any) -> str:
            settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]
            settings.IDEMPOTENCY = policy
            settings.ROOT_URLCONF = type("Urls", (), {"urlpatterns": list(patterns)})
            try:
                call_command("idempotency_contract", check=True, stdout=StringIO())
            except CommandError as error:
                return str(error)
            return ""

        return check

    def test_views_of_rest_framework(self, reported: Any) -> None:
        router = SimpleRouter()
        router.register("mixed", MixedViewSet, basename="mixed")
        found = reported(
            path("open/", OpenView.as_view()),
            path("none/", views.RestView.as_view(permission_classes=[])),
            path("closed/", views.RestView.as_view()),
            path("read-only/", ReadOnlyView.as_view()),
            path("itself/", DecidesItself.as_view()),
            path("function/", api_function),
            path("", include(router.urls)),
        )
        assert [line.split()[1] for line in found.splitlines() if line.startswith("  ")] == [
            *("/open/", "/none/", "/mixed/everybody/")
        ]
        assert "anonymous callers, whose keys are ignored" in found

    def test_operations_of_ninja(self, reported: Any) -> None:
        found = reported(path("a/", ninja("a", None)), path("b/", ninja("b", token)))
        assert "POST /a/ " in found
        assert "POST /b/ " not in found

    @pytest.mark.parametrize(
        "policy", [{"REQUIRED": True}, {"ANONYMOUS": "share"}, {"ANONYMOUS": "refuse"}], ids=str
    )
    def test_where_somebody_has_decided(self, reported: Any, policy: Any) -> None:
        assert reported(path("open/", OpenView.as_view()), **policy) == ""

    def test_function_views_are_not_known(self, reported: Any) -> None:
        assert reported(path("function/", views.function)) == ""


def test_who_logs_in_is_protected(use_middleware: None, transactional_db: None) -> None:
    client = Client()
    client.force_login(User.objects.create_user("ada"))
    response = client.post("/function/", {}, "application/json", headers={"idempotency-key": "k"})
    assert (response.status_code, UNPROTECTED in response) == (201, False)
