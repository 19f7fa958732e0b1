"""System checks of the cache: each id is raised by what it names, and silent otherwise."""

from collections.abc import Iterator
from typing import Any

import pytest
from django.http import HttpRequest, HttpResponse
from django.urls import path
from rest_framework.decorators import api_view
from rest_framework.response import Response

from django_idempotency.decorators import idempotent
from tests.support.checking import ids, only, silent
from tests.support.redis_server import RedisServer, caches

pytestmark = pytest.mark.once

NOWHERE = "redis://127.0.0.1:1/0"
"""Nothing listens there. These checks do not ask."""


@idempotent(store="cached_db")
def cached_view(request: HttpRequest) -> HttpResponse:
    return HttpResponse()


@api_view(["POST"])
@idempotent(store="cached_db")
def cached_rest_view(request: Any) -> Response:
    return Response()


urlpatterns = [path("one/", cached_view)]


@pytest.fixture(autouse=True)
def project(settings: Any) -> Any:
    settings.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    settings.CACHES = caches(NOWHERE)
    return settings


def options(settings: Any, location: str = NOWHERE, **changes: Any) -> None:
    from django_redis.pool import ConnectionFactory

    ConnectionFactory._pools.clear()
    settings.CACHES = caches(location, **changes)


def test_nothing_is_wrong(project: Any) -> None:
    options(project)
    assert ids() == []


def test_e010_no_cache_is_named(project: Any) -> None:
    project.IDEMPOTENCY = {"STORE": "cached_db"}
    assert "CACHES" in only("E010").hint
    project.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "redis"}
    silent("E010")


@pytest.mark.parametrize("view", [cached_view, cached_rest_view])
def test_views_are_asked_for_their_stores(project: Any, view: Any, monkeypatch: Any) -> None:
    monkeypatch.setitem(globals(), "urlpatterns", [path("one/", view)])
    project.ROOT_URLCONF = __name__
    project.IDEMPOTENCY = {}
    only("E010")


def test_without_a_cached_store_the_cache_does_not_matter(project: Any) -> None:
    project.IDEMPOTENCY = {"CACHE": "default"}
    assert ids() == []


def test_without_a_urlconf_only_the_setting_is_asked(project: Any) -> None:
    del project.ROOT_URLCONF
    project.IDEMPOTENCY = {"STORE": "cached_db"}
    only("E010")


@pytest.mark.parametrize(
    "backend",
    [
        "django.core.cache.backends.dummy.DummyCache",
        "django.core.cache.backends.db.DatabaseCache",
        "django.core.cache.backends.filebased.FileBasedCache",
        "django.core.cache.backends.redis.RedisCache",
    ],
)
def test_e011_a_cache_that_cannot_keep_the_promise(project: Any, backend: str) -> None:
    project.CACHES = {"default": {"BACKEND": backend, "LOCATION": NOWHERE}}
    project.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "default"}
    assert backend.rpartition(".")[2] in only("E011").msg
    assert "'django-idempotency[redis]'" in only("E011").hint
    project.IDEMPOTENCY = {"STORE": "db", "CACHE": "default"}
    silent("E011")


@pytest.mark.parametrize("store", ["cached_db", "db"])
def test_e010_a_cache_that_is_not_there(project: Any, store: str) -> None:
    project.IDEMPOTENCY = {"STORE": store, "CACHE": "elsewhere"}
    assert only("E010").msg == 'IDEMPOTENCY["CACHE"] is "elsewhere", which is not in CACHES.'
    assert all(f'"{alias}"' in only("E010").hint for alias in project.CACHES)
    project.IDEMPOTENCY = {"STORE": store, "CACHE": "redis"}
    silent("E010")


def test_e012_a_cache_that_ignores_exceptions(project: Any) -> None:
    """django-redis would answer an outage with ``None``."""
    options(project, IGNORE_EXCEPTIONS=True)
    only("E012")
    options(project)
    silent("E012")


def test_e012_all_caches_ignore_exceptions(project: Any) -> None:
    options(project)
    project.DJANGO_REDIS_IGNORE_EXCEPTIONS = True
    only("E012")
    options(project, IGNORE_EXCEPTIONS=False)
    assert ids() == []


@pytest.mark.parametrize("name", ["SOCKET_TIMEOUT", "SOCKET_CONNECT_TIMEOUT"])
def test_e013_no_timeouts(project: Any, name: str) -> None:
    options(project, **{name: None})
    assert name in only("E013").msg
    options(project, f"{NOWHERE}?{name.lower()}=0.5", **{name: None})
    silent("E013")


def test_w010_local_memory_is_for_development(project: Any) -> None:
    project.IDEMPOTENCY = {"STORE": "cached_db", "CACHE": "local"}
    only("W010")
    project.DEBUG = True
    silent("W010")


class TestEviction:
    """What only a running Redis can say, with --deploy."""

    @pytest.fixture(autouse=True)
    def _leased(self, redis: RedisServer, settings: Any) -> Iterator[None]:
        settings.IDEMPOTENCY = {"STORE": "cache", "CACHE": "redis", "SECRET": "long enough, really"}
        yield
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")

    @pytest.mark.parametrize("policy", ["allkeys-lru", "volatile-ttl", "volatile-lru"])
    def test_e014_records_are_dropped(self, redis: RedisServer, policy: str) -> None:
        """All records have an expiry, so "volatile" drops them, too."""
        redis.ask("CONFIG", "SET", "maxmemory-policy", policy)
        assert policy in only("E014", deploy=True).msg
        redis.ask("CONFIG", "SET", "maxmemory-policy", "noeviction")
        silent("E014", deploy=True)

    def test_a_cached_store_may_be_evicted(self, redis: RedisServer, settings: Any) -> None:
        redis.ask("CONFIG", "SET", "maxmemory-policy", "allkeys-lru")
        settings.IDEMPOTENCY |= {"STORE": "cached_db"}
        silent("E014", deploy=True)

    def test_w012_redis_does_not_answer(self, settings: Any) -> None:
        """The other checks go on."""
        running = settings.CACHES
        options(settings)
        only("W012", deploy=True)
        settings.CACHES = running
        silent("W012", deploy=True)

    def test_memory_is_not_asked(self, settings: Any) -> None:
        settings.DEBUG = True
        settings.IDEMPOTENCY |= {"CACHE": "local"}
        silent("W012", deploy=True)


@pytest.mark.parametrize(
    "changes",
    [
        {"SOCKET_TIMEOUT": 10},
        {"CONNECTION_POOL_KWARGS": {"retry": "ten times"}},
        {"CONNECTION_POOL_KWARGS": {"retry": "for ever"}},
        {"CONNECTION_POOL_CLASS": "redis.connection.BlockingConnectionPool"},
        {
            "CONNECTION_POOL_CLASS": "redis.connection.BlockingConnectionPool",
            "CONNECTION_POOL_KWARGS": {"timeout": None},
        },
    ],
)
def test_w011_waits_that_add_up(project: Any, changes: dict[str, Any]) -> None:
    from redis.backoff import NoBackoff
    from redis.retry import Retry

    retries = {"ten times": Retry(NoBackoff(), 10), "for ever": Retry(NoBackoff(), -1)}
    given = changes.get("CONNECTION_POOL_KWARGS", {})
    if "retry" in given:
        changes = {"CONNECTION_POOL_KWARGS": {"retry": retries[given["retry"]]}}
    options(project, **changes)
    assert "seconds" in only("W011").msg
    options(project)
    silent("W011")
