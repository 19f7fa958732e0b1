"""Checks that the app does anything: something is guarded, and its tables are there."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest
from django.contrib.auth.mixins import LoginRequiredMixin
from django.db import connection
from django.http import HttpRequest, HttpResponse
from django.urls import path
from django.views import View

from django_idempotency.decorators import idempotency_exempt, idempotent
from django_idempotency.models import IdempotencyRecord, IdempotencyStep
from tests.conftest import Caller
from tests.shop import views
from tests.support.adapters import MIDDLEWARE
from tests.support.checking import ids, only, silent

TABLE = IdempotencyRecord._meta.db_table


class URLconf:
    def __init__(self, **views: Any) -> None:
        self.urlpatterns = [path(f"{name}/", view) for name, view in views.items()]


class GraphQL(View):
    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return views.answer(request)


class GraphQLBehindLogin(LoginRequiredMixin, GraphQL):
    """As Nautobot's: permissions and work are both in ``dispatch()``."""

    def dispatch(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        return super().dispatch(request, *args, **kwargs)


@pytest.mark.once
class TestSomethingIsGuarded:
    def test_neither_middleware_nor_decorator(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(buy=views.function)
        assert "not in MIDDLEWARE" in only("W050").msg
        settings.ROOT_URLCONF = URLconf(buy=views.function, sell=idempotent(views.function))
        silent("W050")
        settings.ROOT_URLCONF = URLconf(buy=views.function)
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        silent("W050")

    def test_paths_that_match_nothing(self, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        settings.ROOT_URLCONF = URLconf(buy=views.function)
        settings.IDEMPOTENCY = {"PATHS": ["^api/"]}
        assert 'under one of IDEMPOTENCY["PATHS"]' in only("W050").msg
        assert 'Correct IDEMPOTENCY["PATHS"]' in only("W050").hint

    def test_a_project_that_takes_no_writes(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf()
        silent("W050")
        settings.ROOT_URLCONF = None
        silent("W050")


@pytest.mark.once
class TestViewsThatFail:
    @pytest.fixture(autouse=True)
    def installed(self, settings: Any) -> None:
        settings.MIDDLEWARE = [*settings.MIDDLEWARE, MIDDLEWARE]
        settings.ROOT_URLCONF = URLconf(graphql=GraphQLBehindLogin.as_view())

    def test_one_that_checks_permissions_where_it_works(self, settings: Any) -> None:
        message = only("E051")
        assert "key to /graphql/ would fail: GraphQLBehindLogin checks" in message.msg
        assert 'add r"^/graphql/" and the reason to IDEMPOTENCY["EXEMPT_PATHS"]' in message.hint
        settings.IDEMPOTENCY = {"EXEMPT_PATHS": {"^/graphql/": "works in dispatch()"}}
        silent("E051")

    def test_or_exempt_the_view(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(graphql=idempotency_exempt(GraphQLBehindLogin.as_view()))
        silent("E051")

    def test_one_that_anybody_may_call_is_guarded(self, settings: Any) -> None:
        settings.ROOT_URLCONF = URLconf(graphql=GraphQL.as_view())
        silent("E051")

    def test_the_check_is_right(self, caller: Caller, settings: Any) -> None:
        assert caller.post("/graphql/").status_code == 500
        settings.IDEMPOTENCY = {"EXEMPT_PATHS": ["^/graphql/"]}
        assert caller.post("/graphql/").status_code == 201


@contextmanager
def renamed(kind: str, table: str, old: str, new: str) -> Iterator[None]:
    def rename(now: str, then: str) -> None:
        name = table if kind == "COLUMN" else now
        column = f"COLUMN {now} " if kind == "COLUMN" else ""
        with connection.cursor() as cursor:
            cursor.execute(f"ALTER TABLE {name} RENAME {column}TO {then}")

    rename(old, new)
    try:
        yield
    finally:
        rename(new, old)


@pytest.mark.django_db(transaction=True)
class TestTables:
    @pytest.mark.parametrize("model", [IdempotencyRecord, IdempotencyStep])
    def test_a_missing_table(self, model: Any) -> None:
        table = model._meta.db_table
        with renamed("TABLE", table, table, "elsewhere"):
            assert f'"default" there is no table {table}:' in only("W051", "default").msg
            # Of all apps: the table of effects has an app of its own.
            assert "manage.py migrate --database default" in only("W051", "default").hint
            assert "W051" not in ids()  # no query without --database
        silent("W051", "default")

    def test_a_missing_column(self) -> None:
        with renamed("COLUMN", TABLE, "response_codec", "gone"):
            assert f"{TABLE} lacks response_codec" in only("W051", "default").msg

    def test_the_log_names_the_remedy(self, caller: Caller, caplog: Any) -> None:
        for kind, old, new in (("TABLE", TABLE, "elsewhere"), ("COLUMN", "created_at", "gone")):
            caplog.clear()
            with renamed(kind, TABLE, old, new):
                assert caller.post("/decorated-rest/").status_code == 503
            [line] = [each for each in caplog.records if "migrate" in each.message]
            assert line.levelname == "ERROR"
            assert line.message.startswith('Database "default": the table of the records is')
            assert caller.post("/decorated-rest/", key="another").status_code == 201
