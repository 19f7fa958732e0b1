"""What ``compat/sessions.py`` uses beyond Django's documented interface, name by name."""

from typing import Any

import pytest
from django.contrib.messages import SUCCESS
from django.contrib.messages.storage.session import SessionStorage
from django.contrib.sessions.backends import cached_db, db
from django.contrib.sessions.backends.base import UpdateError
from django.contrib.sessions.models import Session
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpResponse
from django.test import RequestFactory

from django_idempotency.compat import sessions as compat

pytestmark = [pytest.mark.once, pytest.mark.django_db]


@pytest.fixture(params=[db, cached_db])
def store(request: Any) -> Any:
    return request.param.SessionStore


def saved(store: Any, **contents: Any) -> Any:
    session = store()
    session.update(contents)
    session.save()
    return session


def test_a_forgotten_session_is_read_again(store: Any) -> None:
    first = saved(store, cart=["vm"])
    other = store(first.session_key)
    assert other["cart"] == ["vm"]
    other["cart"] = []
    compat.forget_loaded(other, first.session_key)
    assert (other.modified, other["cart"]) == (False, ["vm"])


def test_a_row_is_saved_without_a_copy_in_the_cache() -> None:
    session = saved(cached_db.SessionStore, cart=["vm"])
    name = cached_db.KEY_PREFIX + session.session_key
    session["cart"] = []
    compat.save_row(session)
    assert Session.objects.get().get_decoded() == {"cart": []}
    assert cache.get(name) == {"cart": ["vm"]}
    compat.drop_cached_copy(session)
    assert cache.get(name) is None


def test_a_subclass_saves_in_its_own_way(store: Any) -> None:
    class Own(store):  # type: ignore[misc]
        def save(self, must_create: bool = False) -> None:
            self["seen"] = True
            super().save(must_create)

    Own.__qualname__ = "SessionStore"  # a salt of the signature
    compat.save_row(saved(Own))
    assert Session.objects.get().get_decoded() == {"seen": True}


def test_a_row_that_is_gone_is_told_apart_from_an_error(store: Any) -> None:
    session = saved(store, cart=["vm"])

    def refuse(execute: Any, sql: str, *rest: Any) -> Any:
        return (
            execute("SELECT nothing", (), *rest[1:])
            if sql.startswith("UPDATE")
            else execute(sql, *rest)
        )

    with connection.execute_wrapper(refuse), pytest.raises(DatabaseError, match="nothing"):
        compat.save_row(session)
    Session.objects.all().delete()
    with pytest.raises(UpdateError):
        compat.save_row(session)
    compat.save_row(session, must_create=True)
    assert Session.objects.exists()


def test_messages_are_put_into_the_session_twice_and_are_there_once(store: Any) -> None:
    request: Any = RequestFactory().get("/")
    request.session = store()
    request._messages = SessionStorage(request)
    request._messages.add(SUCCESS, "thanks")
    for _ in range(2):
        compat.put_messages_into_session(request, HttpResponse())
    assert request.session["_messages"].count("thanks") == 1


def test_messages_that_nobody_has_seen_are_read_again(store: Any) -> None:
    request: Any = RequestFactory().get("/")
    request.session = store()
    request._messages = SessionStorage(request)
    assert len(request._messages) == 0
    request.session["_messages"] = SessionStorage(request).serialize_messages([])
    compat.forget_loaded_messages(request)
    assert "_loaded_data" not in vars(request._messages)
    list(request._messages)
    compat.forget_loaded_messages(request)
    assert "_loaded_data" in vars(request._messages)


def test_other_engines_have_no_database(store: Any, settings: Any) -> None:
    from django.contrib.sessions.backends import cache as other

    assert compat.database_of(store()) == "default"
    assert compat.database_of(other.SessionStore()) is None
    assert compat.database_of(None) is None
