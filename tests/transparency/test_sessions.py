"""Session data is saved by Django's middleware, after the guard has committed: as the page on
pitfalls says."""

from typing import Any

import pytest
from django.db import transaction
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.urls import path

from tests.conftest import Caller
from tests.shop.models import Order

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("use_middleware")]

at_commit: list[Any] = []


def visit(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = request.session.get("visits", 0) + 1
    if "save" in request.GET:
        request.session.save()
    store = type(request.session)
    key = request.session.session_key
    transaction.on_commit(lambda: at_commit.append(store(key).get("visits")))
    return JsonResponse({"visits": request.session["visits"]})


def gone(request: HttpRequest) -> HttpResponse:
    request.session["visits"] = 7
    Order.objects.create(item="undone")
    raise Http404


urlpatterns = [path("visit/", visit), path("gone/", gone)]


@pytest.fixture(autouse=True)
def project(settings: Any) -> None:
    settings.ROOT_URLCONF = __name__
    at_commit.clear()


def test_it_is_not_there_when_the_response_is_committed(caller: Caller) -> None:
    assert caller.post("/visit/").json() == {"visits": 1}
    assert at_commit == [None]
    assert caller._client.session["visits"] == 1


def test_a_replay_does_not_write_it_again(caller: Caller) -> None:
    caller.post("/visit/")
    session = caller._client.session
    del session["visits"]
    session.save()
    assert "Idempotency-Replayed" in caller.post("/visit/")
    assert "visits" not in caller._client.session


def test_a_view_that_saves_it_has_it_in_its_transaction(caller: Caller) -> None:
    assert caller.post("/visit/?save").json() == {"visits": 1}
    assert at_commit == [1]


def test_it_is_not_undone_with_the_view(caller: Caller) -> None:
    assert caller.post("/gone/").status_code == 404
    assert not Order.objects.exists()
    assert caller._client.session["visits"] == 7
