"""System checks of handlers that finish interrupted operations."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_idempotency.decorators import idempotent
from tests.support.checking import only, silent


def finish(operation: Any, data: Any) -> HttpResponse:
    return HttpResponse()


def view(name: str, **policy: Any) -> Any:
    @idempotent(resumable=finish, **policy)
    def guarded(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    return path(f"{name}/", guarded)


class URLconf:
    def __init__(self, *urlpatterns: Any) -> None:
        self.urlpatterns = list(urlpatterns)


@pytest.mark.parametrize("policy", [{}, {"atomic": False, "store": "cache"}], ids=str)
def test_a_handler_is_never_called(policy: Any, settings: Any) -> None:
    settings.IDEMPOTENCY = {"CACHE": "default"}
    settings.ROOT_URLCONF = URLconf(view("one", **policy))
    assert f"{__name__}.finish" in only("W020").msg
    settings.ROOT_URLCONF = URLconf(view("one", atomic=False), view("two"))
    silent("W020")


def test_a_handler_has_one_policy(settings: Any) -> None:
    settings.ROOT_URLCONF = URLconf(
        view("one", atomic=False), view("two", atomic=False, codec="zlib")
    )
    assert f"{__name__}.finish" in only("W021").msg
    settings.ROOT_URLCONF = URLconf(view("one", atomic=False), view("two", atomic=False))
    silent("W021")
    settings.ROOT_URLCONF = None
    silent("W021")


def test_a_view_that_is_its_own_handler_is_never_called(settings: Any) -> None:
    """A setting may say so of all views; some of them may be atomic."""

    @idempotent(resumable=True)
    def own(request: HttpRequest) -> HttpResponse:
        return HttpResponse()

    settings.ROOT_URLCONF = URLconf(path("own/", own))
    assert ".own" in only("W020").msg
    settings.IDEMPOTENCY = {"RESUMABLE": True}
    silent("W020")
    settings.IDEMPOTENCY = {"ATOMIC": False}
    silent("W020")


def test_authentication_that_nothing_can_repeat(settings: Any) -> None:
    settings.ROOT_URLCONF = "tests.shop.resumable"
    assert "closed_operation" in only("E021").msg
    settings.ROOT_URLCONF = "tests.shop.urls"
    silent("E021")
