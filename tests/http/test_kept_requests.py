"""What of a request is kept for the time when its client is gone, and what is not."""

from types import SimpleNamespace
from typing import Any

import pytest
from django.conf.urls.i18n import i18n_patterns
from django.contrib.auth.models import AnonymousUser, User
from django.core.exceptions import ImproperlyConfigured
from django.http import HttpRequest, HttpResponse
from django.test import AsyncRequestFactory, RequestFactory
from django.urls import path

from django_idempotency.http.kept_request import (
    NotKept,
    kept_request,
    match_of,
    rebuilt,
    request_to,
)
from django_idempotency.protocol.record import plain_text


def sent(user: Any = None, **extra: Any) -> Any:
    request: Any = RequestFactory().post(
        "/a/%C3%A4/?q=1&q=2", b'{"a": 1}', content_type="application/json", **extra
    )
    request.user = user or AnonymousUser()
    return request


def of_rest(request: Any, **attributes: Any) -> Any:
    """The request that a view of DRF gets around it."""
    return SimpleNamespace(_request=request, **{"user": request.user} | attributes)


def test_what_was_sent_comes_back() -> None:
    request = sent(headers={"host": "shop.example:8443", "accept": "text/plain"}, secure=True)
    kept = kept_request(request, request)
    assert plain_text(kept) is not None
    again = rebuilt(kept)
    assert (again.method, again.path_info, again.path) == ("POST", "/a/ä/", "/a/ä/")
    assert again.build_absolute_uri() == request.build_absolute_uri()
    assert again.GET.getlist("q") == ["1", "2"]
    assert (again.body, again.content_type) == (b'{"a": 1}', "application/json")
    assert (again.get_host(), again.is_secure()) == ("shop.example:8443", True)
    assert again.headers["Accept"] == "text/plain"
    assert again.get_port() == "8443"


def test_under_asgi_too() -> None:
    request: Any = AsyncRequestFactory().put("/a/", b"text", content_type="text/plain")
    request.user = AnonymousUser()
    again = rebuilt(kept_request(request, request))
    assert (again.body, again.get_host(), again.scheme) == (b"text", "testserver", "http")


@pytest.mark.parametrize("factory", [RequestFactory, AsyncRequestFactory])
@pytest.mark.parametrize("query", ["q=ä&q=%C3%A4", "q=€&q=%E2%82%AC", "q=a+b%20c&q=a b c"])
def test_so_does_a_query_string_that_no_browser_sends(factory: Any, query: str) -> None:
    request: Any = factory().delete(f"/a/?{query}")
    request.user = AnonymousUser()
    first, second = rebuilt(kept_request(request, request)).GET.getlist("q")
    assert [first, second] == request.GET.getlist("q")
    assert first == second


@pytest.mark.parametrize("prefix", ["", "/app", "/a"])
def test_a_prefix_stays_one(prefix: str) -> None:
    request: Any = RequestFactory().delete("/a/b/", SCRIPT_NAME=prefix)
    request.user = AnonymousUser()
    again = rebuilt(kept_request(request, request))
    assert (again.path, again.path_info) == (f"{prefix}/a/b/", "/a/b/")


@pytest.mark.parametrize(
    ("user", "attributes"),
    [
        (SimpleNamespace(is_authenticated=True, pk=7), {}),
        (None, {"auth": "an API key"}),
    ],
    ids=["another model", "a token without a user"],
)
def test_a_caller_who_cannot_be_looked_up_is_an_error(user: Any, attributes: Any) -> None:
    request = sent(user)
    with pytest.raises(ImproperlyConfigured, match="Nothing has run"):
        kept_request(request, of_rest(request, **attributes))


def test_nor_one_whom_an_operation_of_ninjas_has_authenticated() -> None:
    request = sent(User(pk=7))
    request.auth = True
    with pytest.raises(ImproperlyConfigured, match=r"a bool in request\.auth"):
        kept_request(request, request)


def test_a_token_of_rest_framework_comes_with_its_user() -> None:
    request = sent(User(pk=7))
    assert kept_request(request, of_rest(request, auth="a token"))["user"] == "7"


def test_a_request_with_another_urlconf_is_not_kept() -> None:
    request = sent()
    request.urlconf = "tests.shop.urls"
    with pytest.raises(NotKept, match="a middleware has chosen its URLconf"):
        kept_request(request, request)


def test_nor_is_one_whose_body_is_gone() -> None:
    request = sent()
    request.read()
    with pytest.raises(NotKept, match="consumed"):
        kept_request(request, request)


def view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


urlpatterns = i18n_patterns(path("orders/", view))


@pytest.mark.urls("tests.http.test_kept_requests")
def test_a_view_is_found_in_each_language() -> None:
    for language in ("en", "de"):
        found = match_of(f"/{language}/orders/")
        assert found is not None
        assert found.func is view
        assert request_to("POST", f"/{language}/orders/").resolver_match is not None
    assert match_of("/orders/") is None
