"""Checks of settings that name paths."""

from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path

from django_idempotency.decorators import idempotency_exempt, idempotent
from tests.shop import ninja_views, views
from tests.support.checking import only, silent

pytestmark = [pytest.mark.once, pytest.mark.usefixtures("use_middleware")]


class Site:
    def __init__(self, *pages: Any) -> None:
        self.urlpatterns = [path(f"{number}/", page) for number, page in enumerate(pages)]


def login() -> Any:
    """A new one each time: decorators mark the view itself."""

    def view(request: HttpRequest) -> HttpResponse:
        return HttpResponse("Who are you?")

    return view


class TestPolicies:
    def test_one_that_no_endpoint_has(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"POLICIES": {"^/rests/": {"REQUIRED": True}}}
        assert only("W052").msg.startswith('IDEMPOTENCY["POLICIES"]["^/rests/"] holds')
        settings.IDEMPOTENCY = {"POLICIES": {"^/rest/": {"REQUIRED": True}}}
        silent("W052")

    def test_one_behind_another_that_takes_all(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"POLICIES": {"": {}, "^/rest/": {"REQUIRED": True}}}
        assert '"^/rest/"' in only("W052").msg

    def test_one_whose_path_is_not_guarded(self, settings: Any) -> None:
        settings.IDEMPOTENCY = {"PATHS": ["^/api/"], "POLICIES": {"^/rest/": {}}}
        assert '"^/rest/"' in only("W052").msg

    def test_one_for_a_decorated_view(self, settings: Any) -> None:
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        settings.IDEMPOTENCY = {"POLICIES": {"^/decorated-rest/": {}}}
        silent("W052")


class TestPages:
    """Nobody has said which paths are meant, and some are for browsers."""

    def test_views_that_take_forms(self, settings: Any) -> None:
        settings.ROOT_URLCONF = Site(views.RestView.as_view(), login(), login())
        assert "views to which browsers send forms: POST /1/ and 7 more." in only("I050").msg
        settings.IDEMPOTENCY = {"PATHS": ["^/0/"]}
        silent("I050")
        settings.IDEMPOTENCY = {"PATHS": [""]}
        silent("I050")

    def test_an_api_alone_is_left_in_peace(self, settings: Any) -> None:
        settings.ROOT_URLCONF = Site(
            views.RestView.as_view(),
            views.function,  # it is exempt from the CSRF check
            idempotent(login()),
            idempotency_exempt(login()),
        )
        silent("I050")
        settings.ROOT_URLCONF = Site()
        settings.ROOT_URLCONF.urlpatterns.append(path("ninja/", ninja_views.api.urls))
        silent("I050")

    def test_without_the_middleware_nothing_is_guarded_by_itself(self, settings: Any) -> None:
        settings.ROOT_URLCONF = Site(login())
        settings.MIDDLEWARE = settings.BASE_MIDDLEWARE
        silent("I050")
