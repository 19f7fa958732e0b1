"""``SCOPE="session"``: keys belong to a visitor, whom a random id inside of the session names."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ImproperlyConfigured
from django.test import RequestFactory

from django_idempotency.http.session import SCOPE_ID, known_scope_id, scope_id
from tests.support import carts
from tests.support.carts import Visitor, close_shop, open_shop, use

pytestmark = [pytest.mark.once, pytest.mark.urls(carts.__name__)]

ENGINES = ["db", "cached_db", "cache", "signed_cookies"]


@pytest.fixture(params=ENGINES, autouse=True)
def engine(request: Any, settings: Any, transactional_db: None) -> Iterator[str]:
    open_shop(settings, "session")
    settings.SESSION_ENGINE = f"{carts.SESSIONS}.{request.param}"
    use(settings, save_session=False)
    yield request.param
    close_shop()


def is_replayed(visitor: Visitor, path: str = "/function/", key: str = "k") -> bool:
    return "Idempotency-Replayed" in visitor.post(path, key)


@pytest.mark.parametrize("path", ["/function/", "/rest/", "/async/"])
def test_each_visitor_has_separate_keys(path: str) -> None:
    one, other = Visitor(), Visitor()
    for visitor in (one, other):
        visitor.page()
        assert not is_replayed(visitor, path)
        assert is_replayed(visitor, path)


def test_they_survive_a_login_and_a_new_key_of_the_session() -> None:
    visitor = Visitor()
    visitor.page()
    assert not is_replayed(visitor)
    before = visitor.client.session[SCOPE_ID]
    visitor.post("/function/", key="login", outcome="login")
    assert visitor.client.session[SCOPE_ID] == before
    assert visitor.page()["user"] == "ada"
    assert is_replayed(visitor)


def test_they_end_with_a_logout() -> None:
    visitor = Visitor()
    visitor.client.force_login(User.objects.create_user("ada"))
    visitor.page()
    assert not is_replayed(visitor)
    visitor.client.logout()
    visitor.page()
    assert not is_replayed(visitor)


def test_a_request_makes_none(settings: Any) -> None:
    """Its retry would not find it, unless the response arrived."""
    visitor = Visitor()
    answer = visitor.post("/function/", outcome="silent")
    assert answer["Idempotency-Unprotected"] == "true"
    assert SCOPE_ID not in visitor.client.session
    use(settings, required=True)
    assert visitor.post("/function/").status_code == 403


@pytest.mark.parametrize("made_up", ["", 7, None, ["a"]])
def test_nothing_else_is_taken_for_one(made_up: Any) -> None:
    request: Any = RequestFactory().get("/")
    request.session = {SCOPE_ID: made_up}
    assert known_scope_id(request) is None
    assert known_scope_id(request) is None
    made = scope_id(request)
    assert len(made) > 20
    assert scope_id(request) == known_scope_id(request) == made


def test_without_sessions_the_error_says_what_to_do(settings: Any) -> None:
    request: Any = RequestFactory().get("/")
    for ask in (scope_id, known_scope_id):
        with pytest.raises(ImproperlyConfigured, match="List django"):
            ask(request)
