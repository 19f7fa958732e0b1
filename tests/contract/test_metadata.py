"""``OPTIONS`` of a DRF view tells its policy."""

from datetime import timedelta
from typing import Any

import pytest
from django.urls import path
from rest_framework.metadata import SimpleMetadata
from rest_framework.response import Response
from rest_framework.test import APIRequestFactory

from django_idempotency.conf.policy import Policy
from django_idempotency.contract.facts import facts
from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.metadata import IdempotencyMetadata
from tests.conftest import Caller
from tests.shop import views

pytestmark = pytest.mark.once


@idempotent(retention=timedelta(days=3), methods=["POST", "PUT"])
class Guarded(views.RestView):
    metadata_class = IdempotencyMetadata

    @idempotent(required=True)
    def put(self, request: Any) -> Response:
        return self.post(request)

    def patch(self, request: Any) -> Response:
        return self.post(request)


@idempotency_exempt(reason="not for the public")
class Exempt(views.RestView):
    metadata_class = IdempotencyMetadata


class Plain(views.RestView):
    metadata_class = IdempotencyMetadata


class Bare(views.RestView):
    metadata_class = SimpleMetadata


urlpatterns = [
    path("guarded/", Guarded.as_view()),
    path("exempt/", Exempt.as_view()),
    path("plain/", Plain.as_view()),
    path("bare/", Bare.as_view()),
]


@pytest.fixture
def options(settings: Any, caller: Caller) -> Any:
    settings.ROOT_URLCONF = __name__
    return lambda address: caller.send("options", address, key=None).json()


def test_each_guarded_method_has_its_policy(options: Any) -> None:
    policy = Policy().override(retention=timedelta(days=3), methods=["POST", "PUT"])
    told = options("/guarded/")
    assert told["idempotency"] == {
        "POST": facts(policy),
        "PUT": facts(policy.override(required=True)),
    }
    assert told["name"] == "Guarded"


def test_the_middleware_s_guard_counts(options: Any, use_middleware: None) -> None:
    assert options("/plain/")["idempotency"] == {"POST": facts(Policy())}


def test_views_without_a_guard_say_what_they_always_say(options: Any) -> None:
    exempt, bare = options("/exempt/"), options("/bare/")
    assert {**exempt, "name": "Bare"} == bare


def test_a_view_that_is_called_without_a_url(transactional_db: None) -> None:
    view = Guarded.as_view(permission_classes=[])
    response = view(APIRequestFactory().options("/guarded/"))
    assert "idempotency" not in response.data
