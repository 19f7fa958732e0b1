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
