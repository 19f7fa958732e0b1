"""Views that work in ``dispatch()``, behind Django's mixins that check users."""

from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin, UserPassesTestMixin
from django.http import HttpRequest, HttpResponse
from django.test import Client
from django.urls import path
from django.views import View
from django.views.decorators.csrf import csrf_exempt

from django_idempotency.decorators import idempotent
from tests.conftest import Caller
from tests.shop import views
from tests.shop.models import Order
from tests.support.adapters import MIDDLEWARE
from tests.support.checking import only, silent

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.once]


class Works(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return views.answer(request)


class Behind(LoginRequiredMixin, Works):
    pass


class BehindTwo(UserPassesTestMixin, Behind):
    def test_func(self) -> bool:
        return self.request.user.username != "eve"


class Below(BehindTwo):
    """Its parents have hooks of their own where URLs are made of them."""


class Before(LoginRequiredMixin, Works):
    """Nobody knows what it does before its parents check."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().dispatch(request, *args, **kwargs)  # type: ignore[return-value]


class Around(Works, LoginRequiredMixin):  # type: ignore[misc]
    """Works, and never asks."""


VIEWS = {"behind": Behind, "two": BehindTwo, "below": Below}
urlpatterns = [
    *(path(f"{name}/", csrf_exempt(view.as_view())) for name, view in VIEWS.items()),
    *(
        path(f"decorated/{name}/", csrf_exempt(idempotent(view.as_view())))
        for name, view in VIEWS.items()
    ),
]


@pytest.fixture(autouse=True)
def _project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("by", ["", "decorated/"])
def test_the_guard_begins_behind_the_checks(by: str, name: str, caller: Caller) -> None:
    """I1, I5."""
    where = f"/{by}{name}/"
    first, again = caller.post(where), caller.post(where)
    assert (first.status_code, again.content) == (201, first.content)
    assert "Idempotency-Replayed" in again
    assert Order.objects.count() == 1
    stranger = Client().post(where, headers={"idempotency-key": "k-1"})
    assert stranger.status_code == 302
    silent("E051")


def test_a_permission_that_was_lost(caller: Caller) -> None:
    """I5."""
    caller.post("/two/")
    caller.user.username = "eve"
    caller.user.save()
    assert caller.post("/two/").status_code == 403


@pytest.mark.parametrize("view", [Before, Around])
def test_where_nothing_is_behind_the_checks(view: Any, monkeypatch: Any, settings: Any) -> None:
    monkeypatch.setattr(f"{__name__}.urlpatterns", [path("", view.as_view())])
    settings.ROOT_URLCONF = __name__
    assert f"{view.__name__} checks permissions in dispatch()" in only("E051").msg
