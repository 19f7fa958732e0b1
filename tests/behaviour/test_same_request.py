"""What makes two requests the same one, besides their bodies' values: I8."""

from io import BytesIO
from typing import Any

import pytest
from django.http import HttpRequest, JsonResponse
from django.urls import path
from django.views.decorators.csrf import csrf_exempt
from rest_framework.permissions import BasePermission
from rest_framework.versioning import (
    AcceptHeaderVersioning,
    HostNameVersioning,
    QueryParameterVersioning,
)

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop.models import Order
from tests.shop.views import ClassView, RestView, answer, function
from tests.support.adapters import MIDDLEWARE

pytestmark = pytest.mark.once


def versioned(scheme: Any) -> Any:
    class Versioning(scheme):  # type: ignore[misc]
        default_version = "v1"
        allowed_versions = ("v1", "v2")

    return type("View", (RestView,), {"versioning_class": Versioning})


@csrf_exempt
def reads_input(request: HttpRequest) -> JsonResponse:
    """Reads what Django does not take for a body."""
    Order.objects.create(item="stream")
    return JsonResponse({"read": len(request.META["wsgi.input"].read())}, status=201)


class ReadsData(BasePermission):
    def has_permission(self, request: Any, view: Any) -> bool:
        return bool(request.data)


class NosyView(RestView):
    permission_classes = [ReadsData]

    @idempotent(fingerprint_ignored_fields=["meta.ts"])
    def post(self, request: Any) -> Any:
        return super().post(request)


decorated_function = csrf_exempt(idempotent(lambda request: answer(request)))
urlpatterns = [
    path("function/", function),
    path("class/", ClassView.as_view()),
    path("rest/", RestView.as_view()),
    path("decorated-function/", decorated_function),
    path("decorated-rest/", idempotent(RestView.as_view())),
    path("accept/", versioned(AcceptHeaderVersioning).as_view()),
    path("by-host/", versioned(HostNameVersioning).as_view()),
    path("by-query/", versioned(QueryParameterVersioning).as_view()),
    path("reads-input/", reads_input),
    path("nosy/", NosyView.as_view()),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


def outcomes(caller: Caller, *sent: dict[str, Any], url: str = "/rest/") -> list[int]:
    """Send requests under one key; a replay counts as 200."""
    found = []
    for each in sent:
        response = caller.post(each.pop("url", url), each.pop("data", {"item": "vm"}), **each)
        replayed = "Idempotency-Replayed" in response
        found.append(200 if replayed else response.status_code)
    return found


def host(name: str) -> dict[str, Any]:
    return {"headers": {"host": name}}


views = pytest.mark.parametrize(
    "url", ["/function/", "/class/", "/rest/", "/decorated-function/", "/decorated-rest/"]
)
SHOPS = ["shop-a.example", "shop-b.example"]


class TestHosts:
    @views
    @pytest.mark.parametrize("allowed", [SHOPS, ["*"], [".example"]], ids=str)
    def test_another_host_is_another_request_where_more_than_one_is_served(
        self, caller: Caller, settings: Any, url: str, allowed: list[str]
    ) -> None:
        settings.ALLOWED_HOSTS = allowed
        a, b = map(host, SHOPS)
        assert outcomes(caller, a, b, host("shop-a.example"), url=url) == [201, 422, 200]
        assert Order.objects.count() == 1

    @pytest.mark.parametrize(
        "allowed", [["shop-a.example", "localhost", "127.0.0.1"], []], ids=["one", "debug"]
    )
    def test_with_one_host_it_does_not_count(
        self, caller: Caller, settings: Any, allowed: list[str]
    ) -> None:
        settings.ALLOWED_HOSTS, settings.DEBUG = allowed, not allowed
        names = allowed or ["localhost", "127.0.0.1"]
        assert outcomes(caller, host(names[0]), host(names[1])) == [201, 200]

    def test_neither_case_nor_port_counts(self, caller: Caller, settings: Any) -> None:
        settings.ALLOWED_HOSTS = SHOPS
        sent = [host("shop-a.example"), host("SHOP-A.example:8000")]
        assert outcomes(caller, *sent) == [201, 200]

    def test_what_a_trusted_proxy_says_counts(self, caller: Caller, settings: Any) -> None:
        settings.ALLOWED_HOSTS, settings.USE_X_FORWARDED_HOST = SHOPS, True
        sent = [{"headers": {"host": "x", "x-forwarded-host": name}} for name in SHOPS]
        assert outcomes(caller, *sent) == [201, 422]

    @pytest.mark.parametrize(("policy", "second"), [("never", 200), ("always", 422)])
    def test_policy_decides(self, caller: Caller, settings: Any, policy: str, second: int) -> None:
        settings.ALLOWED_HOSTS = SHOPS
        settings.IDEMPOTENCY = {"FINGERPRINT_HOST": policy}
        assert outcomes(caller, *map(host, SHOPS)) == [201, second]
        settings.IDEMPOTENCY |= {"FINGERPRINT": "none"}
        sent = [host(name) | {"key": "other"} for name in SHOPS]
        assert outcomes(caller, *sent) == [201, second]

    def test_what_is_no_host_is_refused_by_whom_it_concerns(
        self, caller: Caller, settings: Any
    ) -> None:
        """I15: never a refusal that the bare view would not give."""
        settings.ALLOWED_HOSTS = SHOPS
        settings.MIDDLEWARE = [
            each for each in settings.MIDDLEWARE if "common" not in each and "csrf" not in each
        ]
        assert outcomes(caller, host("elsewhere"), host("elsewhere")) == [201, 200]


class TestVersions:
    def accept(self, version: str) -> dict[str, Any]:
        return {"headers": {"accept": f"application/json; version={version}"}}

    def test_a_version_in_the_accept_header(self, caller: Caller) -> None:
        sent = [self.accept("v1"), self.accept("v2"), self.accept("v1"), {}]
        assert outcomes(caller, *sent, url="/accept/") == [201, 422, 200, 200]

    def test_a_version_in_the_host(self, caller: Caller, settings: Any) -> None:
        """Also where the host itself does not count."""
        settings.IDEMPOTENCY = {"FINGERPRINT_HOST": "never"}
        sent = [host("v1.example.com"), host("v2.example.com"), host("v1.example.org")]
        assert outcomes(caller, *sent, url="/by-host/") == [201, 422, 200]

    def test_a_version_in_the_query(self, caller: Caller) -> None:
        sent = [{"url": f"/by-query/?version={name}"} for name in ("v1", "v2")]
        assert outcomes(caller, *sent) == [201, 422]

    def test_another_representation_is_the_same_request(self, caller: Caller) -> None:
        sent = [{}, {"headers": {"accept": "application/*"}}]
        assert outcomes(caller, *sent, url="/accept/") == [201, 200]


@views
class TestQueries:
    def urls(self, url: str, *queries: str) -> list[dict[str, Any]]:
        return [{"url": f"{url}?{query}"} for query in queries]

    def test_neither_order_nor_spelling_counts(self, caller: Caller, url: str) -> None:
        sent = self.urls(url, "a=1&b=2", "b=2&a=1", "%61=1&&b=2", "b=%32&a=1&")
        assert outcomes(caller, *sent) == [201, 200, 200, 200]

    def test_values_do(self, caller: Caller, url: str) -> None:
        sent = self.urls(
            url, "a=1&a=2", "a=2&a=1", "a=1", "a=12", "", "a=1&a=2&b", "a=%ff", "A=1&a=2", "a=1&a=2"
        )
        assert outcomes(caller, *sent) == [201, *[422] * 7, 200]

    def test_parameters_can_be_ignored(self, caller: Caller, url: str, settings: Any) -> None:
        settings.IDEMPOTENCY = {"FINGERPRINT_IGNORED_PARAMETERS": ["ts"]}
        sent = self.urls(url, "a=1", "ts=5&a=1", "a=1&ts=6&ts=7", "a=2")
        assert outcomes(caller, *sent) == [201, 200, 200, 422]

    def test_bytes_are_compared_where_policy_says_so(
        self, caller: Caller, url: str, settings: Any
    ) -> None:
        settings.IDEMPOTENCY = {"FINGERPRINT": "bytes"}
        assert outcomes(caller, *self.urls(url, "a=1&b=2", "a=1&b=2", "b=2&a=1")) == [201, 200, 422]


def test_more_parameters_than_the_project_accepts(caller: Caller, settings: Any) -> None:
    """A view that does not look at them runs, so they are compared as they were sent."""
    settings.DATA_UPLOAD_MAX_NUMBER_FIELDS = 2
    sent = [{"url": f"/function/?{query}"} for query in ("a=1&b=2&c=3",) * 2 + ("b=2&a=1&c=3",)]
    assert outcomes(caller, *sent) == [201, 200, 422]


class TestFields:
    @pytest.mark.parametrize("url", ["/function/", "/rest/", "/nosy/"])
    def test_paths_can_be_ignored(self, caller: Caller, settings: Any, url: str) -> None:
        """Also where a permission has read the body first."""
        settings.IDEMPOTENCY = {"FINGERPRINT_IGNORED_FIELDS": ["meta.ts"]}
        bodies = [{"ts": 1, "id": 7}, {"ts": 2, "id": 7}, {"id": 7}, {"ts": 1, "id": 8}]
        sent = [{"data": {"meta": meta}} for meta in bodies]
        assert outcomes(caller, *sent, url=url) == [201, 200, 200, 422]

    def test_only_some_paths_can_count(self, caller: Caller, settings: Any) -> None:
        settings.IDEMPOTENCY = {"FINGERPRINT_FIELDS": ["cart.item"]}
        sent = [{"data": {"cart": cart}} for cart in ({"item": 1, "at": 1}, {"item": 1}, {})]
        assert outcomes(caller, *sent) == [201, 200, 422]

    def test_every_value_of_a_form_that_a_permission_has_read(self, caller: Caller) -> None:
        form = "application/x-www-form-urlencoded"
        sent = [{"data": data, "content_type": form} for data in ("a=1&a=2", "a=0&a=2")]
        assert outcomes(caller, *sent, url="/nosy/") == [201, 422]


def as_sent(content_type: str) -> dict[str, Any]:
    """Django's test client would encode the body anew."""
    return {"content_type": "application/octet-stream", "CONTENT_TYPE": content_type}


class TestCharsets:
    @pytest.mark.parametrize("kind", ["application/x-www-form-urlencoded", "text/plain"])
    def test_the_same_bytes_in_another_charset_are_another_text(
        self, caller: Caller, kind: str, settings: Any
    ) -> None:
        given = ["", "; charset=UTF-8", "; charset=utf8", "; charset=latin-1", "; charset=x-none"]
        sent = [{"data": b"item=%C3%A9"} | as_sent(kind + charset) for charset in given]
        assert outcomes(caller, *sent, url="/reads-input/") == [201, 200, 200, 422, 422]

    def test_json(self, caller: Caller) -> None:
        sent = [
            {"data": '{"item": "é"}'.encode()} | as_sent(f"application/json{charset}")
            for charset in ("", "; charset=utf-8", "; charset=latin-1")
        ]
        assert outcomes(caller, *sent, url="/reads-input/") == [201, 200, 422]


class TestChunkedBodies:
    """No length is announced, so Django sees no body; the view may."""

    def chunked(self, body: bytes, ends: bool = True) -> dict[str, Any]:
        return {
            "data": b"",
            "content_type": "application/octet-stream",
            "CONTENT_LENGTH": "",
            "HTTP_TRANSFER_ENCODING": "chunked",
            "wsgi.input": BytesIO(body),
            "wsgi.input_terminated": ends,
        }

    def test_they_count(self, caller: Caller) -> None:
        sent = [self.chunked(body) for body in (b"one", b"one", b"two", b"")]
        assert outcomes(caller, *sent, url="/reads-input/") == [201, 200, 422, 422]

    def test_the_view_reads_them_all_the_same(self, caller: Caller) -> None:
        for key in (None, "k"):
            response = caller.post("/reads-input/", key=key, **self.chunked(b"x" * 100_000))
            assert response.json() == {"read": 100_000}

    def test_a_form_whose_boundary_changes_is_compared_by_its_bytes(self, caller: Caller) -> None:
        kind = {"content_type": "multipart/form-data; boundary=b"}
        sent = [self.chunked(body) | kind for body in (b"--b--", b"--b--", b"--b\r\n")]
        assert outcomes(caller, *sent, url="/reads-input/") == [201, 200, 422]

    def test_where_the_server_does_not_say_that_they_end_nothing_is_read(
        self, caller: Caller
    ) -> None:
        response = caller.post("/reads-input/", **self.chunked(b"one", ends=False))
        assert response.json() == {"read": 3}


def test_a_fingerprint_is_text(caller: Caller, settings: Any) -> None:
    """An object's own text is its address."""
    for bad in (None, object(), b"bytes", 1):
        settings.IDEMPOTENCY = {"FINGERPRINT": lambda request, bad=bad: bad}
        assert outcomes(caller, {}) == [500]
    assert not Order.objects.exists()
