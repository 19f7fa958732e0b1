"""System checks of policies that read or save sessions."""

from typing import Any

import pytest

from tests.support import carts
from tests.support.adapters import MIDDLEWARE
from tests.support.checking import only, silent

pytestmark = [pytest.mark.once, pytest.mark.urls(carts.__name__)]


@pytest.fixture(autouse=True)
def _installed(settings: Any) -> None:
    settings.MIDDLEWARE = [*settings.BASE_MIDDLEWARE, MIDDLEWARE]


def without_sessions(settings: Any) -> None:
    settings.MIDDLEWARE = [MIDDLEWARE]


def test_a_scope_in_the_session_needs_one(settings: Any) -> None:
    with_sessions = settings.MIDDLEWARE
    without_sessions(settings)
    assert 'has SCOPE="session"' in only("E070").msg
    settings.MIDDLEWARE = with_sessions
    silent("E070")


def test_so_does_saving_it(settings: Any) -> None:
    with_sessions = settings.MIDDLEWARE
    without_sessions(settings)
    assert "nothing is saved" in only("W072").msg
    settings.MIDDLEWARE = with_sessions
    silent("W072")


@pytest.mark.parametrize("engine", ["cache", "file", "signed_cookies"])
def test_a_session_outside_of_the_database_has_another_commit(engine: str, settings: Any) -> None:
    settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
    assert settings.SESSION_ENGINE in only("W071").msg
    for engine in ("db", "cached_db"):
        settings.SESSION_ENGINE = f"django.contrib.sessions.backends.{engine}"
        silent("W071")


class SessionsElsewhere:
    def db_for_write(self, model: Any, **hints: Any) -> str | None:
        return "sessions" if model._meta.app_label == "sessions" else None


def test_so_has_one_in_another_database(settings: Any) -> None:
    settings.DATABASE_ROUTERS = [f"{__name__}.SessionsElsewhere"]
    assert 'in database "default", and sessions are in "sessions"' in only("W070").msg
    settings.DATABASE_ROUTERS = []
    silent("W070")
